"""Ordinal classes through every command."""

import csv
import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.classifier.facts import read_facts
from tlkit.options import commands as configs
from tlkit.pipelines import audit, compare, evaluate, explain, export, features, finetune, predict, rank, verify

ORDER = ("low", "middling", "high", "top")


@pytest.fixture(scope="session")
def shades(tmp_path_factory):
    """160 grey images in four folders by brightness, with noise between neighbours."""
    root, random = tmp_path_factory.mktemp("grades") / "shades", np.random.default_rng(0)
    for number in range(160):
        grade = number % 4
        shown = int(np.clip(grade + random.choice([-1, 0, 1], p=[0.15, 0.7, 0.15]), 0, 3))
        pixels = random.normal(50 + 50 * shown, 25, (32, 32, 3)).clip(0, 255).astype(np.uint8)
        (root / ORDER[grade]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / ORDER[grade] / f"{number:03d}.png")
    return root


@pytest.fixture(scope="session")
def options(shades, tiny_backbone):
    """Of a run that takes a few seconds."""
    given = {"images": str(shades), "backbone": str(tiny_backbone), "task": "ordinal", "classes": ORDER}
    return given | {"epochs": (3,), "blocks": 1, "views": 2, "val": 0.25, "test": 0.25, "flip": False}


@pytest.fixture(scope="session")
def graded(options, tmp_path_factory):
    """A finished run, and what it returned."""
    out = tmp_path_factory.mktemp("grade-runs") / "run"
    return out, finetune.run(configs.FinetuneConfig(**options, out=str(out)))


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_says_what_it_is_and_decides_by_the_median(graded):
    out, result = graded
    record, facts = json.loads((out / "run.json").read_text()), read_facts(out / "model.keras")
    assert record["task"] == facts.task.name == "ordinal" and facts.classes == ORDER
    test = result["metrics"]["test"]
    assert test["accuracy"]["value"] > 0.5 and test["within_one_accuracy"]["value"] > 0.9
    assert 0 < test["mean_absolute_error"]["value"] < 1 and test["quadratic_weighted_kappa"]["value"] > 0.5
    rows = table(out / "predictions.csv")
    for row in rows:
        chances = np.array([float(row[f"p:{name}"]) for name in ORDER])
        median = ORDER[int((np.cumsum(chances) < 0.5 - 1e-9).sum())]
        assert row["predicted"] == median and float(row["probability"]) == float(row[f"p:{median}"])
        assert float(row["expected"]) == pytest.approx(chances @ np.arange(4), abs=1e-4)
    held = [row for row in rows if row["split"] == "test"]
    apart = [abs(ORDER.index(row["predicted"]) - ORDER.index(row["label"])) for row in held]
    assert test["mean_absolute_error"]["value"] == pytest.approx(np.mean(apart))


def test_the_report_shows_the_confusion_matrix_in_order(graded):
    page, text = (graded[0] / "report.html").read_text(), (graded[0] / "report.md").read_text()
    assert 'id="confusion"' in page and "Within one grade" in page and "Quadratic weighted kappa" in page
    assert "the median of the probabilities" in page
    places = [text.index(f"| {name} |", text.index("## Class by class")) for name in ORDER]
    assert places == sorted(places)


def test_measured_again_and_on_a_table(graded, shades, tmp_path):
    out, result = graded
    again = evaluate.run(configs.EvaluateConfig(run=str(out)))
    for name in ("accuracy", "mean_absolute_error", "quadratic_weighted_kappa"):
        assert again["metrics"]["test"][name]["value"] == pytest.approx(result["metrics"]["test"][name]["value"])
    files = sorted(shades.glob("*/*.png"))[::8]
    path = tmp_path / "some.csv"
    path.write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in files))
    other = evaluate.run(configs.EvaluateConfig(run=str(out), images=str(path), out=str(tmp_path / "e")))
    assert other["metrics"]["images"]["mean_absolute_error"]["n"] == len(files)


def test_answers_are_grades(graded, shades, tmp_path, capsys, monkeypatch):
    out, _ = graded
    file = str(next((shades / "high").glob("*.png")))
    found = predict.run(configs.PredictConfig(run=str(out), paths=(file,), top=2, out=str(tmp_path / "p.csv")))
    (said,) = found["predictions"]
    recorded = next(row for row in table(out / "predictions.csv") if file.endswith(row["path"]))
    assert said["class"] == recorded["predicted"] and 0 <= said["expected"] <= 3 and len(said["top"]) == 2
    (row,) = table(tmp_path / "p.csv")
    assert row["class"] == said["class"] and float(row["expected"]) == said["expected"]
    export.run(configs.ExportConfig(run=str(out), format=("keras",), out=str(tmp_path / "x")))
    assert verify.run(configs.VerifyConfig(artifact=str(tmp_path / "x/keras")))["agreement"] == 1
    monkeypatch.setattr(sys, "argv", ["classify.py", file])
    runpy.run_path(str(tmp_path / "x/keras/classify.py"), run_name="__main__")
    assert capsys.readouterr().out.split("\t")[1] == said["class"]
    told = explain.run(configs.ExplainConfig(run=str(out), paths=(file,), out=str(tmp_path / "e")))
    assert told["explained"][0]["class"] == said["class"] == told["explained"][0]["predicted"]


def test_what_else_looks_at_images(options, graded, shades, tmp_path):
    given = {"images": str(shades), "task": "ordinal", "classes": ORDER}
    found = features.run(configs.FeaturesConfig(**given, backbone="nano", out=str(tmp_path / "f.csv")))
    assert found["images"] == 160
    ranked = rank.run(configs.RankConfig(**given, backbones=("nano",), how_many=True, out=str(tmp_path / "rank")))
    assert ranked["candidates"][0]["accuracy"]["value"] > 0.75 and ranked["measure"].startswith("closeness")
    looked = audit.run(configs.AuditConfig(**given, out=str(tmp_path / "audit")))
    checks = json.loads((tmp_path / "audit/audit.json").read_text())["checks"]
    assert looked["images"] == 160 and checks["labels"] == ""
    other = tmp_path / "probe"
    finetune.run(configs.FinetuneConfig(**options | {"blocks": None, "epochs": None}, stages=("head",), out=str(other)))
    compared = compare.run(configs.CompareConfig(runs=(str(other), str(graded[0]))))
    assert "accuracy" in compared["text"]


def test_balance_and_folds_and_fixes_work_with_grades(shades, tiny_backbone, tmp_path):
    (tmp_path / "fixes.csv").write_text("path,action,label,reason\nlow/000.png,relabel,middling,seen\n")
    config = configs.FinetuneConfig(
        images=str(shades),
        backbone=str(tiny_backbone),
        task="ordinal",
        classes=ORDER,
        balance="weights",
        validate="folds",
        fixes=str(tmp_path / "fixes.csv"),
        epochs=(1,),
        blocks=1,
        target_precision=None,
        out=str(tmp_path / "run"),
    )
    finetune.run(config)
    assert read_facts(tmp_path / "run/model.keras").task.name == "ordinal"


def test_grades_need_an_order(shades):
    with pytest.raises(TlkitError, match="needs the order"):
        configs.FinetuneConfig(images=str(shades), task="ordinal")
    with pytest.raises(TlkitError, match="leaves out"):
        finetune.run(configs.FinetuneConfig(images=str(shades), task="ordinal", classes=("low", "high"), dry_run=True))
