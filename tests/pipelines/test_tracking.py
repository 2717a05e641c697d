"""Runs logged to trackers: what is logged, and what happens when a tracker is missing or unreachable."""

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.files import write_json, write_text
from tlkit.base.story import Silence
from tlkit.options.commands import FinetuneConfig
from tlkit.options.option import write_toml
from tlkit.runs import tracking
from tlkit.runs.folder import RUN_FORMAT, RunDir
from tlkit.runs.history import history_row, write_history

METRICS = {
    "test": {
        "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 50},
        "roc_auc": {"value": None, "low": None, "high": None, "n": 50},
    }
}


@pytest.fixture
def finished(tmp_path):
    """A run folder as far as trackers read it."""
    run_dir = RunDir(tmp_path / "run")
    classes = tuple(f"class {i}" for i in range(200))
    write_text(run_dir.config, write_toml(FinetuneConfig(images="photos", out="run", classes=classes)))
    write_json(run_dir.record, {"format": RUN_FORMAT, "versions": {"keras": "3.10"}, "data_sha256": "ab" * 32})
    write_json(run_dir.metrics, METRICS)
    write_text(run_dir.report, "<!doctype html>")
    rows = [
        history_row("head", 1, train=(0.7, 0.6), held_out=(0.8, 0.5)),
        history_row("top", 1, train=(0.9, 0.3), held_out=(0.85, 0.4), learning_rate=1e-4),
    ]
    write_history(run_dir.history, rows)
    return run_dir


class Recorder:
    """Takes every call, as (name, arguments)."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args, **options: self.calls.append((name, *args, *options.values()))

    def of(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture
def mlflow(monkeypatch):
    """A module that looks like mlflow."""
    recorder, module, errors = Recorder(), ModuleType("mlflow"), ModuleType("mlflow.exceptions")

    @contextmanager
    def start_run(run_name):
        recorder.calls.append(("start_run", run_name))
        yield SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    class MlflowException(Exception):
        pass

    errors.MlflowException = MlflowException
    module.start_run, module.exceptions, module.get_tracking_uri = start_run, errors, lambda: "file:///store"
    for name in ("set_experiment", "log_params", "log_metrics", "log_artifact"):
        setattr(module, name, getattr(recorder, name))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", errors)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    return SimpleNamespace(module=module, recorder=recorder)


def test_mlflow_hears_options_epochs_measures_and_files(finished, mlflow):
    tracking.tell(("mlflow",), finished, finished.path, Silence())
    heard = mlflow.recorder
    assert heard.of("set_experiment") == [("tlkit",)]
    assert heard.of("start_run") == [("run",)]
    ((params,),) = heard.of("log_params")
    assert params["backbone"] == "mobilenetv2" and params["stages"] == '["head", "top"]'
    assert params["version.keras"] == "3.10" and params["images_sha256"] == "ab" * 32
    assert max(map(len, params.values())) == 500 and "resume" not in params
    first, second, final = heard.of("log_metrics")
    assert first == ({"loss": 0.6, "accuracy": 0.7, "val_loss": 0.5, "val_accuracy": 0.8}, 0)
    assert second[0]["learning_rate"] == 1e-4 and second[1] == 1
    assert final == ({"test/accuracy": 0.9, "test/accuracy_low": 0.8, "test/accuracy_high": 0.95},)
    assert [file.rpartition("/")[2] for (file,) in heard.of("log_artifact")] == [
        *("report.html", "metrics.json", "config.toml", "run.json")
    ]


def test_the_experiment_that_the_user_named_is_used(finished, mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    tracking.tell(("mlflow",), finished, finished.path, Silence())
    assert mlflow.recorder.of("set_experiment") == []


def test_a_tracker_that_is_away_costs_nothing_but_a_message(finished, mlflow):
    def away(_):
        raise mlflow.module.exceptions.MlflowException("no route to host")

    mlflow.module.log_params = away
    with pytest.raises(TlkitError, match="nothing could be logged to mlflow: no route to host") as caught:
        tracking.tell(("mlflow",), finished, finished.path, Silence())
    assert "is complete" in caught.value.hint and "--log mlflow" in caught.value.hint


def test_wandb_hears_the_same(finished, monkeypatch):
    heard = Recorder()
    run = SimpleNamespace(id="w1", log=heard.log, log_artifact=heard.log_artifact, summary={})
    artifact = SimpleNamespace(add_file=heard.add_file)

    @contextmanager
    def init(project, name, config):
        heard.calls.append(("init", project, name, config["backbone"]))
        yield run

    module, errors = ModuleType("wandb"), ModuleType("wandb.errors")
    module.init, module.errors, module.Artifact, errors.Error = init, errors, lambda name, type: artifact, OSError
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setitem(sys.modules, "wandb.errors", errors)
    monkeypatch.setenv("WANDB_PROJECT", "bees")
    tracking.tell(("wandb",), finished, finished.path, Silence())
    assert heard.of("init") == [("bees", "run", "mobilenetv2")]
    assert [call[-1] for call in heard.of("log")] == [0, 1]
    assert run.summary["test/accuracy"] == 0.9
    assert len(heard.of("add_file")) == 4 and heard.of("log_artifact") == [(artifact,)]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_refused_before_anything_is_computed(name, monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(TlkitError, match=f"--log {name} needs the package") as caught:
        tracking.refuse_missing((name,))
    assert f"pip install '{name}" in caught.value.hint


def test_nobody_asked_nobody_told(finished):
    tracking.refuse_missing(None)
    tracking.tell(None, finished, finished.path, Silence())


def test_a_tracker_nobody_knows_is_an_error():
    with pytest.raises(TlkitError, match="tensorbored"):
        FinetuneConfig(images="photos", log=("tensorbored",))


@pytest.mark.filterwarnings("default")  # of its own making
def test_mlflow_itself_keeps_all_of_it(finished, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    tracking.tell(("mlflow",), finished, finished.path, Silence())
    (run,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("tlkit").experiment_id])
    assert run.data.params["backbone"] == "mobilenetv2"
    assert run.data.metrics["test/accuracy"] == 0.9
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_accuracy")
    assert [(point.step, point.value) for point in history] == [(0, 0.8), (1, 0.85)]
    assert {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)} >= {"report.html"}


@pytest.mark.parametrize(
    ("name", "setting", "value", "refused"),
    [
        ("wandb", "WANDB_MODE", None, True),
        ("wandb", "WANDB_MODE", "offline", False),
        ("mlflow", "MLFLOW_TRACKING_URI", "https://mlflow.example", True),
        ("mlflow", "MLFLOW_TRACKING_URI", "/tmp/mlruns", False),
    ],
)
def test_offline_a_tracker_elsewhere_is_refused_before_anything_is_computed(name, setting, value, refused, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda package: object())
    monkeypatch.delenv(setting, raising=False)
    if value:
        monkeypatch.setenv(setting, value)
    if not refused:
        tracking.refuse_missing([name])
        return
    with pytest.raises(TlkitError, match="would go over the network, and tlkit is offline"):
        tracking.refuse_missing([name])
