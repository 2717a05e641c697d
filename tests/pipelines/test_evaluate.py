import csv
import json
import shutil

import pytest

from tlkit.core.config import EvaluateConfig
from tlkit.core.errors import TlkitError
from tlkit.pipelines.evaluate import run


@pytest.fixture
def own(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def test_a_run_evaluated_again_gives_the_metrics_it_had(own, finished):
    before = {split: found["accuracy"] for split, found in finished[1]["metrics"].items()}
    (own / "metrics.json").unlink()
    result = run(EvaluateConfig(run=str(own)))
    assert {split: found["accuracy"] for split, found in result["metrics"].items()} == before
    assert json.loads((own / "metrics.json").read_text()) == result["metrics"]


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
    assert "'green'" in caught.value.hint
