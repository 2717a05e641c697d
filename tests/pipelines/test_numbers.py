"""A table of numbers through every command."""

import csv
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import processes
from tests.listener import Listener
from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.classifier.facts import read_facts
from tlkit.options import commands as configs
from tlkit.pipelines import (
    audit,
    compare,
    evaluate,
    explain,
    export,
    features,
    finetune,
    predict,
    rank,
    report,
    split,
    verify,
)


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """160 images of a bright square on dark noise, with its area in pixels and the height of its centre."""
    root, random = tmp_path_factory.mktemp("numbers"), np.random.default_rng(0)
    rows = []
    for number in range(160):
        pixels = random.normal(60, 12, (32, 32, 3))
        side = int(random.integers(4, 25))
        top, left = random.integers(0, 33 - side, 2)
        pixels[top : top + side, left : left + side] += 130
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:03d}.png")
        rows.append([f"{number:03d}.png", side**2, top + side / 2, f"p{number // 2}"])
    with (root / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "area", "height", "person"], *rows])
    return root / "images.csv"


@pytest.fixture(scope="session")
def options(squares, tiny_backbone):
    """Of a run that takes a few seconds."""
    given = {"images": str(squares), "backbone": str(tiny_backbone), "task": "number", "target": ("area",)}
    return given | {"epochs": (15,), "blocks": 2, "val": 0.25, "test": 0.25, "group_by": "person"}


@pytest.fixture(scope="session")
def measured(options, tmp_path_factory):
    """A finished run, and what it returned."""
    out = tmp_path_factory.mktemp("number-runs") / "run"
    return out, finetune.run(configs.FinetuneConfig(**options, out=str(out)))


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_says_what_it_is_and_how_good(measured, squares):
    out, result = measured
    record, facts = json.loads((out / "run.json").read_text()), read_facts(out / "model.keras")
    assert record["task"] == facts.task.name == "number" and facts.classes == ("area",) and facts.flip is False
    test = result["metrics"]["test"]
    assert test["mean_absolute_error"]["value"] < 0.5 * test["mean_absolute_error_of_mean"]["value"]
    assert 0.7 < test["r2"]["value"] <= 1 and test["r2"]["groups"] <= 20 and "accuracy" not in test
    assert test["interval_width"]["value"] == pytest.approx(2 * facts.margins[0])
    wanted = {row["path"]: float(row["area"]) for row in table(squares)}
    rows = table(out / "predictions.csv")
    assert {row["path"]: float(row["label"]) for row in rows} == wanted
    for row in rows:
        value = float(row["value:area"])
        assert float(row["predicted"]) == pytest.approx(value, rel=1e-5)
        assert float(row["high"]) - float(row["low"]) == pytest.approx(2 * facts.margins[0], rel=1e-3)
    persons = {row["path"]: row["person"] for row in table(squares)}
    assert len({(persons[row["path"]], row["split"]) for row in rows}) == 80  # a person is in one split
    held = [row for row in rows if row["split"] == "val"]
    errors = np.sort([abs(float(row["value:area"]) - float(row["label"])) for row in held])
    assert facts.margins[0] == pytest.approx(errors[int(np.ceil(0.95 * (len(held) + 1))) - 1], rel=1e-4)


def test_the_saved_network_gives_the_numbers_themselves(measured, squares):
    import keras

    out, _ = measured
    model = keras.models.load_model(out / "model.keras", compile=False)
    rows = table(out / "predictions.csv")[:20]
    pixels = np.stack([np.asarray(Image.open(squares.parent / row["path"])) for row in rows]).astype(np.float32)
    said = model.predict(pixels, verbose=0)[:, 0]
    np.testing.assert_allclose(said, [float(row["value:area"]) for row in rows], rtol=1e-3, atol=0.05)


def test_the_choice_is_by_skill(measured):
    out, _ = measured
    choice = json.loads((out / "choice.json").read_text())
    assert choice["candidates"][0]["kind"] == "probe" and choice["measure"].startswith("skill")
    plan = json.loads((out / "run.json").read_text())["plan"]
    assert plan["stages"][0]["method"] == "ridge" and plan["augment"] == "none"


def test_the_report_shows_predictions_against_truth(measured):
    page, text = (measured[0] / "report.html").read_text(), (measured[0] / "report.md").read_text()
    assert "mean absolute error" in page and 'id="quantities"' in page and "Residuals" in page and "off by" in page
    assert "made to hold the truth for 95 in 100" in page
    for absent in ("confusion", "classes", "reliability", "abstention", "curves", "slices"):
        assert f'id="{absent}"' not in page, absent
    assert "| True number | Predicted number | Error |" in text and "| off by " in text and "not finite" not in text
    assert "**Mean absolute error" in text and "Root mean squared error" in text and "Spearman" in text
    assert "probabilit" not in text.partition("## Model card")[2].partition("## Reproduce")[0]


def test_measured_again_and_on_another_table(measured, squares, tmp_path, capsys):
    out, result = measured
    again = evaluate.run(configs.EvaluateConfig(run=str(out)), PlainStory())
    for name in ("mean_absolute_error", "r2", "interval_coverage"):
        assert again["metrics"]["test"][name]["value"] == pytest.approx(
            result["metrics"]["test"][name]["value"], rel=1e-3
        )
    assert "mean absolute error" in capsys.readouterr().err
    other = evaluate.run(configs.EvaluateConfig(run=str(out), images=str(squares), out=str(tmp_path / "e")))
    assert other["metrics"]["images"]["mean_absolute_error"]["n"] == 160
    with pytest.raises(TlkitError, match="no column 'area'"):
        (squares.parent / "bare.csv").write_text("path,size\n000.png,3\n")
        evaluate.run(
            configs.EvaluateConfig(run=str(out), images=str(squares.parent / "bare.csv"), out=str(tmp_path / "f"))
        )
    with pytest.raises(TlkitError, match="--tta 12 may change the number"):
        evaluate.run(configs.EvaluateConfig(run=str(out), tta=12, out=str(tmp_path / "tta")))


def test_predictions_as_a_table_and_as_json(measured, squares, tmp_path):
    out, _ = measured
    files = [str(squares.parent / f"{number:03d}.png") for number in range(5)]
    found = predict.run(configs.PredictConfig(run=str(out), paths=tuple(files), out=str(tmp_path / "p.csv")))
    margin = read_facts(out / "model.keras").margins[0]
    for row, said in zip(table(tmp_path / "p.csv"), found["predictions"], strict=True):
        assert float(row["area"]) == said["numbers"][0]["value"]
        assert float(row["area_high"]) - float(row["area"]) == pytest.approx(margin, rel=1e-3)
    recorded = {row["path"]: float(row["value:area"]) for row in table(out / "predictions.csv")}
    for file, said in zip(files, found["predictions"], strict=True):
        assert said["numbers"][0]["value"] == pytest.approx(recorded[file[-7:]], rel=1e-3, abs=0.05)


def test_an_artifact_answers_without_tlkit(measured, squares, tmp_path, capsys, monkeypatch):
    out, _ = measured
    made = export.run(configs.ExportConfig(run=str(out), format=("keras",), out=str(tmp_path / "x")))
    assert made["artifacts"][0]["measured"]["agreement"] == 1
    contract = json.loads((tmp_path / "x/keras/contract.json").read_text())
    assert contract["task"] == "number" and contract["margins"] == list(read_facts(out / "model.keras").margins)
    assert verify.run(configs.VerifyConfig(artifact=str(tmp_path / "x/keras")))["agreement"] == 1
    monkeypatch.setattr(sys, "argv", ["classify.py", str(squares.parent / "000.png")])
    runpy.run_path(str(tmp_path / "x/keras/classify.py"), run_name="__main__")
    words = capsys.readouterr().out
    said = predict.run(configs.PredictConfig(run=str(out), paths=(str(squares.parent / "000.png"),)))
    number = float(words.split("area ")[1].split()[0])
    assert number == pytest.approx(said["predictions"][0]["numbers"][0]["value"], rel=1e-3, abs=0.05)
    assert "between" in words and "A predictor of numbers" in (tmp_path / "x/keras/README.md").read_text()
    with pytest.raises(TlkitError, match="litert-int8 keeps classes"):
        export.run(configs.ExportConfig(run=str(out), format=("litert-int8",), out=str(tmp_path / "y")))


def test_what_else_looks_at_images(options, measured, squares, tiny_backbone, tmp_path):
    given = {"images": str(squares), "task": "number", "target": ("area",)}
    found = features.run(configs.FeaturesConfig(**given, backbone=str(tiny_backbone), out=str(tmp_path / "f.csv")))
    assert found["images"] == 160 and float(table(tmp_path / "f.csv")[0]["label"]) > 0
    ranked = rank.run(configs.RankConfig(**given, backbones=("nano",), out=str(tmp_path / "rank")))
    assert 0 < ranked["candidates"][0]["accuracy"]["value"] < 1 and ranked["measure"].startswith("skill")
    with pytest.raises(TlkitError, match="--how-many is of accuracy"):
        rank.run(configs.RankConfig(**given, backbones=("nano",), how_many=True, out=str(tmp_path / "many")))
    told = explain.run(
        configs.ExplainConfig(run=str(measured[0]), paths=(str(squares.parent / "000.png"),), out=str(tmp_path / "x"))
    )
    assert told["explained"][0]["class"] == "area" and told["explained"][0]["value"] != 0
    drawn = split.run(configs.SplitConfig(**given, out=str(tmp_path / "s.csv")))
    assert drawn["splits"]["val"] and "quantiles" in drawn["rule"]
    again = finetune.run(
        configs.FinetuneConfig(
            **options | {"images": str(tmp_path / "s.csv"), "group_by": None, "blocks": None, "epochs": None},
            stages=("head",),
            out=str(tmp_path / "again"),
        )
    )
    assert again["images"] == 160 and evaluate.run(configs.EvaluateConfig(run=str(tmp_path / "again")))["images"] == 160
    report.run(configs.ReportConfig(run=str(measured[0]), out=str(tmp_path / "figures")))


def test_a_wrong_number_is_found_and_put_right(squares, tmp_path):
    rows = table(squares)
    wrong = [3, 77, 140]
    for number in wrong:
        rows[number]["area"] = "9000"
    path = squares.parent / "wrong.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "area", "height", "person"])
        writer.writeheader()
        writer.writerows(rows)
    config = configs.AuditConfig(
        images=str(path),
        task="number",
        target=("area",),
        out=str(tmp_path / "a"),
        write_fixes=str(tmp_path / "fixes.csv"),
    )
    found = audit.run(config)
    (doubts,) = [
        one for one in json.loads((tmp_path / "a/audit.json").read_text())["findings"] if one["check"] == "labels"
    ]
    first = {group["paths"][0] for group in doubts["groups"][:3]}
    assert first == {f"{number:03d}.png" for number in wrong} and found["counts"]["warning"] >= 1
    fixes = {row["path"]: row for row in table(tmp_path / "fixes.csv") if row["action"] == "relabel"}
    assert len(fixes) < 8
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "action", "label", "reason"])
        writer.writeheader()
        writer.writerows(fixes.values())
    assert abs(float(fixes["003.png"]["label"])) < 2000
    fixed = finetune.run(
        configs.FinetuneConfig(
            images=str(path), task="number", target=("area",), fixes=str(tmp_path / "new.csv"), dry_run=True
        )
    )
    assert fixed["images"] == 160


def test_two_runs_are_compared(measured, options, tmp_path):
    other = tmp_path / "probe"
    finetune.run(configs.FinetuneConfig(**options | {"blocks": None, "epochs": None}, stages=("head",), out=str(other)))
    found = compare.run(configs.CompareConfig(runs=(str(other), str(measured[0])), out=str(tmp_path / "c.html")))
    assert "mean absolute error" in found["text"] and "accuracy" not in found["text"]
    assert "mean absolute error" in (tmp_path / "c.html").read_text()


def test_several_numbers_and_a_mlp_on_the_flattened_grid(options, tmp_path):
    given = options | {"target": ("area", "height"), "epochs": (4,), "views": 0, "augment": "none"}
    out = tmp_path / "run"
    config = configs.FinetuneConfig(
        **given, stages=("head", "top"), head="mlp", pooling="flatten", hidden=(16,), loss="huber", out=str(out)
    )
    result = finetune.run(config)
    test = result["metrics"]["test"]
    assert {"mean_absolute_error:area", "mean_absolute_error:height", "r2"} <= set(test)
    assert len(read_facts(out / "model.keras").margins) == 2
    assert "<bdi>height</bdi>" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"balance": "weights"}, "--balance weights is for classes"),
        ({"target_precision": 0.9}, "--target-precision 0.9 is for classes"),
        ({"loss": "focal"}, "--loss focal is for another kind"),
        ({"label_smoothing": 0.1}, "is for classes"),
    ],
)
def test_what_numbers_cannot_have_is_refused(options, tmp_path, given, message):
    with pytest.raises(TlkitError, match=message):
        finetune.run(configs.FinetuneConfig(**options | given, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_few_images_are_cross_validated(squares, tiny_backbone, tmp_path):
    rows = table(squares)[:60]
    path = squares.parent / "few.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "area", "height", "person"])
        writer.writeheader()
        writer.writerows(rows)
    config = configs.FinetuneConfig(
        images=str(path),
        backbone=str(tiny_backbone),
        task="number",
        target=("area",),
        epochs=(2,),
        out=str(tmp_path / "run"),
    )
    finetune.run(config)
    assert read_facts(tmp_path / "run/model.keras").margins[0] < 1000
    plan = json.loads((tmp_path / "run/run.json").read_text())["plan"]
    (how,) = [one for one in plan["decisions"] if one["option"] == "validate"]
    assert "folds" in how["value"]


def test_several_numbers_of_one_group_train_unchecked(options, tmp_path):
    """Nothing can be held out of a single group, neither for validation nor by folds."""
    table = tmp_path / "one.csv"
    with table.open("w", newline="") as file:
        names = [(str(Path(options["images"]).parent / f"{i:03d}.png"), i, i % 7, "p") for i in range(20)]
        csv.writer(file).writerows([("path", "area", "height", "person"), *names])
    story, out = Listener(), tmp_path / "run"
    given = {"images": str(table), "target": ("area", "height"), "val": 0.15, "stages": ("head",)}
    given |= {"blocks": None, "audit": False}
    finetune.run(configs.FinetuneConfig(**options | given, out=str(out)), story)
    said = (out / "report.md").read_text()
    assert "'quantile 1' has a single image (or group)" in "".join(story.said)
    assert "what validation would decide is cross-validated" not in "".join(story.said)
    assert "They have no intervals" in said and read_facts(out / "model.keras").margins is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_again_and_again_finishes(options, squares, tmp_path, monkeypatch):
    run, cache = tmp_path / "run", tmp_path / "cache"
    environment = os.environ | {"TLKIT_CACHE": str(cache)}
    start = [*("-m", "tlkit", "finetune", str(squares), "--backbone", options["backbone"])]
    start += ["--task", "number", "--target", "area,height", "--blocks", "2", "--epochs", "5", "--out", str(run)]
    resume = ["-m", "tlkit", "finetune", "--resume", str(run)]
    moments = (
        "config.toml",
        "checkpoints/head/state.json",
        "checkpoints/top/epoch-*.weights.h5",
        "choice.json",
        ".tmp-*-files/predictions.csv",
    )
    killed = 0
    for moment in moments:
        command = resume if (run / "config.toml").exists() else start
        process = processes.start(command, env=environment)
        while process.poll() is None and not list(run.glob(moment)):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        assert process.wait() in (0, -signal.SIGKILL), moment
    assert killed >= 3
    monkeypatch.setenv("TLKIT_CACHE", str(cache))
    whole = finetune.run(configs.FinetuneConfig(resume=str(run)))["metrics"]["test"]
    given = {"images": str(squares), "backbone": options["backbone"], "task": "number", "target": ("area", "height")}
    config = configs.FinetuneConfig(**given, blocks=2, epochs=(5,), out=str(tmp_path / "whole"))
    once = finetune.run(config)["metrics"]["test"]
    for name, value in once.items():  # a killed and resumed run equals an uninterrupted one
        assert whole[name]["value"] == pytest.approx(value["value"], rel=1e-4), name


def test_the_server_answers_with_numbers(measured, squares):
    from tests.pipelines.test_serve import ask
    from tests.serving.conftest import Listener
    from tlkit.pipelines import serve

    story, stop = Listener(), threading.Event()
    config = configs.ServeConfig(run=str(measured[0]), port=0, timeout=120)
    thread = threading.Thread(target=lambda: serve.run(config, story, stop=stop))
    thread.start()
    try:
        assert story.heard("ready:", 120)
        port = int(next(text for text in story.said if "ready:" in text).split("  ")[0].rpartition(":")[2])
        file = squares.parent / "000.png"
        (answer,) = ask(port, [(file.name, file.read_bytes())], "?explain=true")
    finally:
        stop.set()
        thread.join(60)
    said = predict.run(configs.PredictConfig(run=str(measured[0]), paths=(str(file),)))["predictions"][0]
    assert answer["numbers"] == said["numbers"] and answer["predicted"] == [] and answer["classes"] == []
    assert answer["explanation"]["label"] == "area"
