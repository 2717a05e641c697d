"""Threshold, familiarity, leaks and slices, from training to prediction."""

import csv
import io
import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.classifier.facts import read_facts
from tlkit.classifier.model import load
from tlkit.evaluation.calibration import fewest_images
from tlkit.options.commands import EvaluateConfig, FinetuneConfig, PredictConfig
from tlkit.pipelines import evaluate, finetune, predict

COLOURS = {"blue": (60, 80, 190), "red": (190, 80, 60)}
SPLITS = ["train"] * 30 + ["val"] * 24 + ["test"] * 24


def picture(random, colour):
    """A smooth pattern of its own in a colour: something that has near-duplicates."""
    coarse = Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((96, 96), 3)
    return Image.blend(coarse, Image.new("RGB", (96, 96), colour), 0.55)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """156 images in a table with splits and cameras; three test images are known from training."""
    root, random = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    rows = []
    for name, colour in COLOURS.items():
        for i, split in enumerate(SPLITS):
            path = f"{name}-{i:02d}.png"
            picture(random, colour).save(root / path)
            rows.append([path, name, split, "phone" if i % 3 else "camera"])
    for i in (54, 55):  # re-encoded: near-duplicates of training images
        Image.open(root / f"red-{i - 54:02d}.png").resize((86, 86)).save(root / f"red-{i}.png")
    (root / "blue-54.png").write_bytes((root / "blue-00.png").read_bytes())
    with (root / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split", "camera"], *rows])
    return root / "images.csv"


@pytest.fixture(scope="module")
def judged(table, tiny_backbone, tmp_path_factory):
    """A run with a threshold, and what it returned."""
    out = tmp_path_factory.mktemp("judged") / "run"
    config = FinetuneConfig(
        images=str(table),
        backbone=str(tiny_backbone),
        stages=("head",),
        views=1,
        out=str(out),
        target_precision=0.9,
        slice_by=("camera",),
    )
    return out, finetune.run(config)


def test_the_file_knows_when_to_abstain_and_plain_keras_reads_it(judged):
    facts = read_facts(judged[0] / "model.keras")
    assert 0.5 <= facts.threshold < 1 and facts.target_precision == 0.9
    classifier = load(judged[0] / "model.keras")
    assert classifier.familiarity.validation == 48 and classifier.familiarity.limit > 0
    assert keras.saving.load_model(judged[0] / "model.keras").output_shape == (None, 2)


def test_files_from_before_there_was_a_threshold_still_load(judged, table, tmp_path):
    old = tmp_path / "old.keras"
    with zipfile.ZipFile(judged[0] / "model.keras") as there, zipfile.ZipFile(old, "w") as made:
        for member in there.infolist():
            if member.filename == "tlkit.json":
                facts = json.loads(there.read(member))
                del facts["threshold"], facts["target_precision"]
                made.writestr(member, json.dumps(facts))
            elif member.filename != "tlkit-familiarity.npz":
                made.writestr(member, there.read(member))
    classifier = load(old)
    assert (classifier.facts.threshold, classifier.familiarity) == (None, None)
    (row,) = predict.run(PredictConfig(run=str(old), paths=(str(table.parent / "red-70.png"),)))["predictions"]
    assert list(row) == ["path", "class", "probability", "top"]


def test_predict_says_what_it_is_not_sure_of_and_what_it_has_never_seen(judged, table, tmp_path, capsys):
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[::2] = (0, 255, 0)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    paths = (str(tmp_path / "stripes.png"), *(str(table.parent / f"red-{i}.png") for i in range(60, 78)))
    out = tmp_path / "predictions.csv"
    rows = predict.run(PredictConfig(run=str(judged[0]), paths=paths, out=str(out)), PlainStory())["predictions"]
    others = [row["unfamiliarity"] for row in rows[1:]]
    assert rows[0]["unfamiliar"] and rows[0]["unfamiliarity"] > 3 * max(others)
    assert np.median(others) < 1 and all(row["unfamiliar"] == (row["unfamiliarity"] > 1) for row in rows)
    threshold = read_facts(judged[0] / "model.keras").threshold
    assert all(row["abstain"] == (row["probability"] < threshold) for row in rows)
    written = list(csv.DictReader(io.StringIO(out.read_text())))
    assert list(written[0]) == ["path", "class", "probability", "abstain", "unfamiliar", "unfamiliarity"]
    assert written[0]["unfamiliar"] == "true" and written[1]["abstain"] in ("true", "false")
    assert "unlike anything in training: " in capsys.readouterr().err


def test_test_images_known_from_training_are_measured_apart(judged):
    out, result = judged
    metrics = result["metrics"]
    assert metrics["test"]["accuracy"]["n"] == 48 and metrics["test_unseen"]["accuracy"]["n"] == 45
    with (out / "predictions.csv").open(newline="") as file:
        known = {row["path"]: row["in_training"] for row in csv.DictReader(file) if row["in_training"]}
    assert known == {"blue-54.png": "exact", "red-54.png": "near", "red-55.png": "near"}


def test_everything_measured_is_on_disk(judged):
    out, result = judged
    assert json.loads((out / "metrics.json").read_text()) == result["metrics"]
    test = json.loads((out / "evaluation.json").read_text())["splits"]["test"]
    assert {row["column"] for row in test["slices"]} >= {"class", "camera", "brightness"}
    assert test["abstention"]["target_precision"] == 0.9 and test["leak"] == {"exact": 1, "near": 2, "n": 48}
    with (out / "per_class.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert all(float(row["recall_low"]) <= float(row["recall"]) <= float(row["recall_high"]) for row in rows)


def test_evaluate_chooses_another_threshold_and_stores_it(judged, tmp_path, capsys):
    out = judged[0]
    before = read_facts(out / "model.keras")
    config = EvaluateConfig(run=str(out), target_precision=0.8, out=str(tmp_path / "again"))
    result = evaluate.run(config, PlainStory())
    after = read_facts(out / "model.keras")
    assert after.target_precision == 0.8 and after.threshold <= before.threshold
    assert result["metrics"]["test"]["coverage"]["value"] >= 0.5
    assert result["metrics"]["test"]["accuracy"] == judged[1]["metrics"]["test"]["accuracy"]
    assert result["metrics"]["test_unseen"]["accuracy"]["n"] == 45
    assert f"{out / 'model.keras'} now abstains below it" in capsys.readouterr().err
    assert load(out / "model.keras").familiarity is not None


def test_other_images_are_known_by_their_looks(judged, table, tmp_path):
    others, random = tmp_path / "others", np.random.default_rng(9)
    for name, colour in COLOURS.items():
        (others / name).mkdir(parents=True)
        for i in range(4):
            picture(random, colour).save(others / name / f"{i}.png")
        Image.open(table.parent / f"{name}-03.png").resize((80, 80)).save(others / name / "again.png")
    result = evaluate.run(EvaluateConfig(run=str(judged[0]), images=str(others)))
    assert result["metrics"]["images"]["accuracy"]["n"] == 10 and result["metrics"]["unseen"]["accuracy"]["n"] == 8


def test_what_cannot_be_shown_is_refused_before_training(table, tmp_path):
    config = {"images": str(table), "out": str(tmp_path / "run"), "backbone": "nano"}
    with pytest.raises(TlkitError, match=rf"cannot be shown on 48 validation images.*{fewest_images(0.99)}"):
        finetune.run(FinetuneConfig(**config, target_precision=0.99))
    with pytest.raises(TlkitError, match="'lens': the images have no such column") as caught:
        finetune.run(FinetuneConfig(**config, slice_by=("lens",)))
    assert "'camera'" in caught.value.hint and not (tmp_path / "run").exists()
