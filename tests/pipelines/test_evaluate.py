import csv
import errno
import json
import shutil
import zipfile

import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.classifier import model
from tlkit.options.commands import EvaluateConfig, FinetuneConfig
from tlkit.pipelines import evaluate, finetune
from tlkit.pipelines.evaluate import run
from tlkit.report import outcome
from tlkit.runs import record
from tlkit.runs.folder import RunDir


@pytest.fixture
def own(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def test_a_run_evaluated_again_gives_the_metrics_it_had(own, finished):
    before = {split: found["accuracy"] for split, found in finished[1]["metrics"].items()}
    (own / "metrics.json").unlink()
    result = run(EvaluateConfig(run=str(own)))
    assert {split: found["accuracy"] for split, found in result["metrics"].items()} == before
    assert json.loads((own / "metrics.json").read_text()) == result["metrics"]


def test_a_full_disk_leaves_everything_as_it_was(own, colours, tmp_path, monkeypatch):
    def write(path, page):
        raise OSError(errno.ENOSPC, "No space left on device")

    def held():
        return {path: path.read_bytes() for path in own.rglob("*") if path.is_file() and path.name != ".lock"}

    before = held()
    monkeypatch.setattr(outcome, "write_report", write)
    for others in ({}, {"images": str(colours), "out": str(tmp_path / "new")}):
        with pytest.raises(OSError, match="No space left"):
            run(EvaluateConfig(run=str(own), **others))
    assert held() == before and not (tmp_path / "new").exists()


def test_a_second_time_the_classifier_is_not_even_loaded(own, colours, tmp_path, monkeypatch, empty_cache):
    images = shutil.copytree(colours, tmp_path / "images")
    config = EvaluateConfig(run=str(own), images=str(images), overwrite=True)
    first, load = run(config), evaluate.load
    for module in (evaluate, model):  # for the report and for the computation
        monkeypatch.setattr(module, "load", lambda path: pytest.fail("the classifier was loaded"))
    assert run(config)["metrics"] == first["metrics"]
    with zipfile.ZipFile(own / "model.keras", "a") as archive:  # another file may be another network
        archive.comment = b"changed"
    record.record_files(RunDir(own))
    loaded = []
    for module in (evaluate, model):
        monkeypatch.setattr(module, "load", lambda path: loaded.append(path) or load(path))
    run(config)
    assert loaded == [own / "model.keras"]


def test_own_images_are_measured_as_they_are_now(options, colours, tmp_path, capsys):
    images = shutil.copytree(colours, tmp_path / "images")
    finetune.run(FinetuneConfig(**options | {"images": str(images), "stages": ("head",)}, out=str(tmp_path / "run")))
    shutil.copy(images / "red" / "00.png", images / "blue" / "00.png")
    (images / "blue" / "01.png").unlink()
    result = run(EvaluateConfig(run=str(tmp_path / "run")), PlainStory())
    assert "1 images have changed" in capsys.readouterr().err
    assert result["images"] == 35 and [problem["path"] for problem in result["set_aside"]] == ["blue/01.png"]
    with (tmp_path / "run" / "predictions.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert rows["blue/00.png"]["sha256"] == rows["red/00.png"]["sha256"]
    assert rows["blue/00.png"]["predicted"] == rows["red/00.png"]["predicted"]


def test_training_images_under_other_names_are_recognised_and_measured_apart(own, colours, tmp_path):
    with (own / "splits.csv").open(newline="") as file:
        split_of = {row["path"]: row["split"] for row in csv.DictReader(file)}
    others = tmp_path / "others"
    for number, path in enumerate(split_of):
        target = others / path.split("/")[0] / f"renamed-{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(colours / path, target)
    result = run(EvaluateConfig(run=str(own), images=str(others)))
    trained = sum(split == "train" for split in split_of.values())
    assert result["trained_on"] == trained
    assert result["metrics"]["images"]["accuracy"]["n"] == 36
    assert result["metrics"]["unseen"]["accuracy"]["n"] == 36 - trained
    assert "in the training set" in (tmp_path / "run" / "evaluate-others" / "report.html").read_text()


def test_fewer_classes_keep_their_numbers_and_strangers_are_refused(own, colours, tmp_path):
    some = tmp_path / "some"
    shutil.copytree(colours / "red", some / "red")
    shutil.copytree(colours / "green", some / "green")
    result = run(EvaluateConfig(run=str(own), images=str(some), out=str(tmp_path / "out")))
    assert result["metrics"]["images"]["accuracy"]["value"] > 0.8
    (some / "green").rename(some / "greeen")
    with pytest.raises(TlkitError, match="'greeen'") as caught:
        run(EvaluateConfig(run=str(own), images=str(some), out=str(tmp_path / "other")))
    assert "'green'" in caught.value.hint and caught.value.hint.endswith("rename or remove the folders.")
    (tmp_path / "table.csv").write_text(f"path,label\n{colours / 'red' / '00.png'},pink\n", encoding="utf-8")
    with pytest.raises(TlkitError, match="'pink'") as caught:
        run(EvaluateConfig(run=str(own), images=str(tmp_path / "table.csv"), out=str(tmp_path / "other")))
    assert caught.value.hint.endswith("rename or remove those labels in the table.")


def test_a_run_whose_images_moved_says_so_and_takes_the_new_place(options, colours, tmp_path, capsys):
    images = shutil.copytree(colours, tmp_path / "images")
    out = tmp_path / "run"
    before = finetune.run(FinetuneConfig(**options | {"images": str(images), "stages": ("head",)}, out=str(out)))
    images.rename(tmp_path / "archive")
    with pytest.raises(TlkitError, match="are no longer in") as raised:
        run(EvaluateConfig(run=str(out)))
    assert raised.value.hint.endswith(f"tlkit evaluate {out} --images FOLDER")
    with pytest.raises(TlkitError, match="none of the 36 images"):
        run(EvaluateConfig(run=str(out), moved_to=str(tmp_path)))
    after = run(EvaluateConfig(run=str(out), moved_to=str(tmp_path / "archive")), PlainStory())
    assert "36 of 36" in capsys.readouterr().err
    accuracy = [{name: it["accuracy"] for name, it in found["metrics"].items()} for found in (before, after)]
    assert accuracy[0] == accuracy[1]
    assert run(EvaluateConfig(run=str(out)))["images"] == 36  # the run remembers
    for wrong in ({"images": str(colours)}, {"run": str(out), "images": str(colours)}):
        with pytest.raises(TlkitError, match="--images"):
            (EvaluateConfig if "run" in wrong else FinetuneConfig)(**wrong, moved_to=str(images))
