"""Log a finished run to an experiment tracker: MLflow (Zaharia et al. 2018) or Weights & Biases.

Everything logged is read from the run folder, so a run can also be logged later: `tlkit evaluate RUN --log mlflow`.
"""

import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json
from tlkit.base.machine import install
from tlkit.base.remote import is_offline
from tlkit.base.story import Story
from tlkit.runs.folder import RunDir
from tlkit.runs.history import read_history

FILES = ("report.html", "report.md", "metrics.json", "per_class.csv", "config.toml", "run.json")
STEPS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
LONGEST = 500  # maximum characters of an option's value; the limit of some MLflow versions
PROJECT = "tlkit"  # if the tracker's own settings name none


@dataclass(frozen=True)
class Logged:
    """What is logged for a run.

    Args:
        name: name of the run.
        params: option -> value as text.
        steps: measures of each epoch, in order over all stages.
        metrics: `test/accuracy`, `test/accuracy_low` and so on -> value.
        files: files to attach.
    """

    name: str
    params: Mapping[str, str]
    steps: Sequence[Mapping[str, float]]
    metrics: Mapping[str, float]
    files: Sequence[Path]


class Tracker(NamedTuple):
    """One tracker: its package, the function that logs to it, and the exceptions it raises on failure."""

    package: str
    log: Callable[[Any, Logged], str]
    error: str


def refuse_missing(names: Sequence[str] | None) -> None:
    """Raise, before anything is computed, if a tracker is not installed or needs the network while tlkit is offline.

    Raises:
        TlkitError: with the command that installs the package, or the setting that keeps the tracker on this machine.
    """
    for name in names or ():
        tracker = TRACKERS[name]
        if is_offline() and not _stays_here(name):
            raise TlkitError(
                f"--log {name} would go over the network, and tlkit is offline.",
                "WANDB_MODE=offline, or an MLFLOW_TRACKING_URI that is a folder, keeps it on this machine; or leave "
                f"--log out and log it later: tlkit evaluate RUN --log {name}",
            )
        if importlib.util.find_spec(tracker.package) is None:
            raise TlkitError(
                f"--log {name} needs the package {tracker.package!r}, which is not installed.",
                f"{install(name)}, or leave --log out and log it later: tlkit evaluate RUN --log {name}",
            )


def _stays_here(name: str) -> bool:
    """Whether a tracker's own settings keep its data on this machine."""
    if name == "wandb":
        return os.environ.get("WANDB_MODE") in ("offline", "disabled")
    return not os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http", "databricks"))


def tell(names: Sequence[str] | None, run_dir: RunDir, out: Path, story: Story) -> None:
    """Log the contents of `out`, the run folder or that of an evaluation on other images, to each tracker.

    Raises:
        TlkitError: if a tracker cannot be reached; the run itself is complete by then.
    """
    for name in names or ():
        tracker = TRACKERS[name]
        module = importlib.import_module(tracker.package)
        place, _, kind = tracker.error.rpartition(".")
        failed = getattr(importlib.import_module(place), kind)
        try:
            where = tracker.log(module, _gathered(run_dir, out))
        except (failed, OSError) as error:
            raise TlkitError(
                f"nothing could be logged to {name}: {error}.",
                f"nothing is lost: {out} is complete. Log it again: tlkit evaluate {run_dir.path} --log {name}",
            ) from error
        story.say(f"logged to {name}: {where}")


def _gathered(run_dir: RunDir, out: Path) -> Logged:
    """Collect everything to log from the files."""
    asked = importlib.import_module("tlkit.runs.record").begun_with(run_dir)[0]  # imported late, because it loads Keras
    record = run_dir.read_record()
    planned = [stage["name"] for stage in record.get("plan", {}).get("stages", ())]
    config = asked.as_dict() | {"stages": planned or asked.in_stages}
    facts = {"images_sha256": record.get("data_sha256"), "weights_sha256": record.get("backbone", {}).get("sha256")}
    facts |= {f"version.{name}": version for name, version in record["versions"].items()}
    params = {name: value for name, value in (config | facts).items() if value is not None}
    steps = [{name: row[name] for name in STEPS if row[name] is not None} for row in read_history(run_dir.history)]
    return Logged(
        name=out.resolve().name,
        params={name: _text(value) for name, value in params.items()},
        steps=steps,
        metrics=_flat(read_json(out / "metrics.json")),
        files=[file for file in (out / name for name in FILES) if file.is_file()],
    )


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _flat(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, float]:
    """metrics.json flattened to `split/metric` and, for intervals, `split/metric_low` and `_high`."""
    flat = {}
    for split, found in metrics.items():
        for name, metric in found.items():
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                if metric[key] is not None:
                    flat[f"{split}/{name}{end}"] = float(metric[key])
    return flat


def _mlflow(mlflow: Any, logged: Logged) -> str:
    """Log to the experiment named by MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID."""
    if not (os.environ.get("MLFLOW_EXPERIMENT_NAME") or os.environ.get("MLFLOW_EXPERIMENT_ID")):
        mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=logged.name) as run:
        mlflow.log_params(logged.params)
        for step, measures in enumerate(logged.steps):
            mlflow.log_metrics(measures, step=step)
        mlflow.log_metrics(logged.metrics)
        for file in logged.files:
            mlflow.log_artifact(str(file))
    return f"run {run.info.run_id} at {mlflow.get_tracking_uri()}"


def _wandb(wandb: Any, logged: Logged) -> str:
    """Log to the project named by WANDB_PROJECT."""
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    with wandb.init(project=project, name=logged.name, config=dict(logged.params)) as run:
        for step, measures in enumerate(logged.steps):
            run.log(dict(measures), step=step)
        run.summary.update(dict(logged.metrics))
        kept = wandb.Artifact(f"report-{run.id}", type="report")
        for file in logged.files:
            kept.add_file(str(file))
        run.log_artifact(kept)
    return f"run {run.id} of project {project}"


TRACKERS = {
    "mlflow": Tracker("mlflow", _mlflow, "mlflow.exceptions.MlflowException"),
    "wandb": Tracker("wandb", _wandb, "wandb.errors.Error"),
}
