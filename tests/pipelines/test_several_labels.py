"""A table whose images may have several labels, through every command."""

import csv
import json
import runpy

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CLASSES
from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.classifier.facts import read_facts
from tlkit.options import commands as configs
from tlkit.pipelines import compare, evaluate, explain, export, features, finetune, predict, rank, split, verify


@pytest.fixture(scope="session")
def stripes(tmp_path_factory):
    """72 images with a stripe of each colour that they are labelled with, on grey."""
    root, random = tmp_path_factory.mktemp("several"), np.random.default_rng(0)
    rows = []
    for number in range(72):
        pixels = random.normal(128, 30, (32, 36, 3))
        has = [name for name, drawn in zip(CLASSES, random.random(3) < 0.45, strict=True) if drawn]
        for place, name in zip(random.permutation(3), has, strict=False):
            pixels[:, 12 * place : 12 * place + 12] += np.array(CLASSES[name]) - 110.0
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:02d}.png")
        rows.append([f"{number:02d}.png", "|".join(has) or "|", f"p{number // 2}"])
    with (root / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "person"], *rows])
    return root / "images.csv"


@pytest.fixture(scope="session")
def several(stripes, tiny_backbone, tmp_path_factory):
    """A finished run, what it returned, and its options."""
    options = {"images": str(stripes), "backbone": str(tiny_backbone), "epochs": (3,), "views": 2, "blocks": 1}
    options |= {"val": 0.25, "test": 0.25, "group_by": "person"}
    out = tmp_path_factory.mktemp("several-runs") / "run"
    return out, finetune.run(configs.FinetuneConfig(**options, out=str(out))), options


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_says_what_it_is_and_how_good(several, stripes):
    out, result, _ = several
    record, facts = json.loads((out / "run.json").read_text()), read_facts(out / "model.keras")
    assert record["task"] == facts.task.name == "multi" and facts.classes == tuple(sorted(CLASSES))
    metrics = result["metrics"]["test"]
    assert 16 <= metrics["subset_accuracy"]["n"] <= 20 and metrics["subset_accuracy"]["groups"] <= 10
    assert metrics["mean_average_precision"]["value"] > 0.75 and "accuracy" not in metrics
    rows = table(out / "predictions.csv")
    wanted = {row["path"]: row["label"] for row in table(stripes)}
    assert {row["path"]: row["label"] for row in rows} == wanted and "probability" not in rows[0]
    for row in rows:
        given = [name for name in facts.classes if float(row[f"p:{name}"]) >= 0.5]
        assert row["predicted"] == ("|".join(given) or "|")
    sides = {(row["path"], row["split"]) for row in table(out / "splits.csv")}
    persons = {row["path"]: row["person"] for row in table(stripes)}
    assert len({(persons[path], side) for path, side in sides}) == 36  # a person is in one split
    assert sum(int(row["support"]) for row in table(out / "per_class.csv") if row["split"] == "test") > 0


def test_the_report_speaks_of_labels_and_shows_no_confusion(several):
    page, text = (several[0] / "report.html").read_text(), (several[0] / "report.md").read_text()
    assert "mean average precision on" in page and "An image may have several labels" in page
    assert 'id="confusion"' not in page and 'id="abstention"' not in page and "most probable classes" not in page
    assert 'id="reliability"' in page and 'id="curves"' in page and "Assigning any number of 3 labels" in page
    assert "**Mean average precision" in text and "Subset accuracy" in text
    assert "72 images" in page  # not the sum over labels


def test_measured_again_and_on_other_images(several, colours, tmp_path, capsys):
    out, result, _ = several
    again = evaluate.run(configs.EvaluateConfig(run=str(out)))
    for name in ("mean_average_precision", "micro_f1", "subset_accuracy"):
        assert again["metrics"]["test"][name]["value"] == pytest.approx(result["metrics"]["test"][name]["value"])
    folder = evaluate.run(
        configs.EvaluateConfig(run=str(out), images=str(colours), out=str(tmp_path / "e")), PlainStory()
    )
    assert folder["metrics"]["images"]["subset_accuracy"]["n"] == 36  # one class each gives one label each
    assert "mean average precision" in capsys.readouterr().err
    twice = evaluate.run(configs.EvaluateConfig(run=str(out), tta=2, out=str(tmp_path / "tta")))
    assert twice["metrics"]["test"]["mean_average_precision"]["value"] > 0.75


def test_predictions_name_every_label(several, stripes, tmp_path):
    config = {"run": str(several[0]), "paths": (str(stripes.parent),), "top": 2}
    rows = predict.run(configs.PredictConfig(**config, out=str(tmp_path / "p.csv")))["predictions"]
    written = table(tmp_path / "p.csv")
    known = {row["path"]: row for row in table(several[0] / "predictions.csv")}
    for row, line in zip(rows, written, strict=True):
        own = known[row["path"].rpartition("/")[2]]
        assert "|".join(sorted(row["labels"])) == own["predicted"].strip("|")
        assert line["labels"] == ("|".join(row["labels"]) or "|") and line["class"] == row["class"]
        assert row["probability"] == pytest.approx(max(float(own[f"p:{name}"]) for name in CLASSES), abs=1e-4)
        assert len(row["top"]) == 2
    assert any(len(row["labels"]) > 1 for row in rows) and any(not row["labels"] for row in rows)


def test_a_label_is_explained_whether_it_was_given_or_not(several, stripes, tmp_path):
    paths = (str(stripes.parent / "00.png"),)
    config = {"run": str(several[0]), "paths": paths, "class_name": "green", "out": str(tmp_path / "why")}
    (row,) = explain.run(configs.ExplainConfig(**config))["explained"]
    own = {row["path"]: row for row in table(several[0] / "predictions.csv")}["00.png"]
    assert row["class"] == "green" and row["predicted"] == own["predicted"]
    assert row["probability"] == pytest.approx(float(own["p:green"]), abs=1e-4)
    assert all(near["class"] for near in row["neighbours"])


def test_an_artifact_gives_the_same_labels(several, stripes, tmp_path, capsys, monkeypatch):
    out = tmp_path / "exported"
    result = export.run(configs.ExportConfig(run=str(several[0]), format=("keras",), out=str(out)))
    assert result["artifacts"][0]["measured"]["agreement"] == 1
    assert json.loads((out / "keras" / "contract.json").read_text())["task"] == "multi"
    assert verify.run(configs.VerifyConfig(artifact=str(out / "keras")))["agreement"] == 1
    files = [str(stripes.parent / f"{number:02d}.png") for number in range(6)]
    monkeypatch.setattr("sys.argv", ["classify.py", *files])
    capsys.readouterr()
    runpy.run_path(str(out / "keras" / "classify.py"), run_name="__main__")
    said = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines() if ".png" in line]
    own = {row["path"]: row["predicted"] for row in table(several[0] / "predictions.csv")}
    assert [set(labels.split("|")) for labels in said] == [
        set(own[f"{number:02d}.png"].split("|")) for number in range(6)
    ]


def test_two_runs_are_compared_and_kinds_are_not_mixed(several, tmp_path, finished):
    out, _, options = several
    head = tmp_path / "head"
    alone = {"stages": ("head",), "blocks": None, "epochs": (1,)}
    finetune.run(configs.FinetuneConfig(**options | alone, audit=False, out=str(head)))
    found = compare.run(configs.CompareConfig(runs=(str(out), str(head))))
    assert set(found["comparisons"][0]["differences"]) == {"accuracy", "samples_f1", "log_loss"}
    with pytest.raises(TlkitError, match="any number of labels"):
        compare.run(configs.CompareConfig(runs=(str(out), str(finished[0]))))


def test_tables_keep_their_labels(several, stripes, tiny_backbone, tmp_path):
    out = tmp_path / "splits.csv"
    split.run(configs.SplitConfig(images=str(stripes), out=str(out)))
    assert [row["label"] for row in table(out)] == [row["label"] for row in table(stripes)]
    out = tmp_path / "features.csv"
    features.run(configs.FeaturesConfig(images=str(stripes), backbone=str(tiny_backbone), out=str(out)))
    assert [row["label"] for row in table(out)] == [row["label"] for row in table(stripes)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_precision": 0.9}, "--target-precision 0.9 is for images with one label"),
        ({"balance": "weights"}, "--balance weights is for images with one label"),
        ({"keras_split": 0.2, "val": 0.15, "test": 0.15}, "--keras-split needs one folder for each class"),
    ],
)
def test_what_rests_on_one_label_is_refused_before_anything_is_computed(several, tmp_path, options, words):
    config = several[2] | options
    with pytest.raises(TlkitError, match=words):
        finetune.run(configs.FinetuneConfig(**config, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_backbones_are_ranked_by_f1_of_the_labels(several, stripes, tiny_backbone, tmp_path):
    names = (str(tiny_backbone), f"{tiny_backbone}:weights=none")
    options = {"images": str(stripes), "backbones": names, "group_by": "person", "how_many": True}
    result = rank.run(configs.RankConfig(**options, out=str(tmp_path / "rank")))
    assert result["measure"] == "F1 of each image's labels" and result["images"] > 50
    first = result["candidates"][0]
    assert first["accuracy"]["value"] > 0.6 and {one["name"] for one in result["candidates"]} == set(names)
    curve = result["curve"]
    assert [one["name"] for one in sorted(curve["classes"], key=lambda one: one["name"])] == sorted(CLASSES)
    assert curve["points"][-1][1]["value"] > curve["points"][0][1]["value"]
    page = (tmp_path / "rank" / "rank.html").read_text()
    assert "F1 of each image&#39;s labels, and cost" in page and "Accuracy" not in page and "  F1  " in result["text"]


def test_other_commands_that_rest_on_one_label_say_so(several, stripes, finished, tmp_path):
    with pytest.raises(TlkitError, match="gives one class to each"):
        evaluate.run(configs.EvaluateConfig(run=str(finished[0]), images=str(stripes), out=str(tmp_path / "e")))
    with pytest.raises(TlkitError, match="--target-precision"):
        evaluate.run(configs.EvaluateConfig(run=str(several[0]), target_precision=0.9))
    found = json.loads((several[0] / "audit.json").read_text())
    assert "several labels" in found["checks"]["labels"]
