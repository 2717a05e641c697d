"""Metrics for several labels per image, against scikit-learn and by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as oracle

from tlkit.classifier.answers import Predictions, sigmoid
from tlkit.evaluation import choice
from tlkit.evaluation.compare import compare
from tlkit.evaluation.evaluate import evaluate
from tlkit.tasks.multi import MULTI

CLASSES = ("cat", "dog", "fish", "never")


def drawn(images=200, seed=0, strength=1.5, groups=None, split=2, temperature=1.3):
    random = np.random.default_rng(seed)
    targets = (random.random((images, 4)) < [0.5, 0.3, 0.1, 0.0]).astype(np.int8)
    logits = strength * (2.0 * targets - 1) + random.normal(0, 2, (images, 4))
    return Predictions(
        paths=[f"{i}.png" for i in range(images)],
        sha256=[f"{i:064x}" for i in range(images)],
        labels=np.full(images, -1, np.int32),
        splits=np.full(images, split, np.int8),
        logits=logits.astype(np.float32),
        classes=CLASSES,
        temperature=temperature,
        groups=groups,
        targets=targets,
    )


@pytest.fixture(scope="module")
def rows():
    return drawn()


@pytest.fixture(scope="module")
def result(rows):
    return evaluate(rows).splits["test"]


def test_metrics_are_those_of_scikit_learn(rows, result):
    truth, chances = rows.targets[:, :3], rows.probabilities
    everything, said = rows.targets, MULTI.decide(rows.logits)
    expected = {
        "mean_average_precision": oracle.average_precision_score(truth, chances[:, :3], average="macro"),
        "roc_auc": oracle.roc_auc_score(truth, chances[:, :3], average="macro"),
        "macro_f1": oracle.f1_score(everything, said, average="macro", zero_division=0),
        "macro_precision": oracle.precision_score(everything, said, average="macro", zero_division=0),
        "macro_recall": oracle.recall_score(everything, said, average="macro", zero_division=0),
        "micro_f1": oracle.f1_score(everything, said, average="micro"),
        "micro_precision": oracle.precision_score(everything, said, average="micro"),
        "micro_recall": oracle.recall_score(everything, said, average="micro"),
        "samples_f1": oracle.f1_score(everything, said, average="samples", zero_division=1),
        "subset_accuracy": oracle.accuracy_score(everything, said),
        "hamming_loss": oracle.hamming_loss(everything, said),
        "brier": ((chances - everything) ** 2).mean(),
        "log_loss": oracle.log_loss(everything.ravel(), chances.ravel()),
        "log_loss_uncalibrated": oracle.log_loss(everything.ravel(), sigmoid(rows.logits).ravel()),
    }
    for name, value in expected.items():
        assert result.metrics[name].value == pytest.approx(value, rel=1e-6), name
        assert result.metrics[name].low < value < result.metrics[name].high, name
    assert np.array_equal(result.confusion, oracle.multilabel_confusion_matrix(everything, said))
    assert result.task is MULTI and not result.confused and result.risk_coverage is None and result.abstention is None
    assert "accuracy" not in result.metrics and not any(name.startswith("top_") for name in result.metrics)


def test_classes_have_their_own_numbers_with_intervals(rows, result):
    for code, row in enumerate(result.classes[:3]):
        truth, given = rows.targets[:, code], MULTI.decide(rows.logits)[:, code]
        assert (row.support, row.predicted) == (truth.sum(), given.sum())
        assert row.precision == pytest.approx(oracle.precision_score(truth, given))
        assert row.recall_interval[0] < row.recall == pytest.approx(oracle.recall_score(truth, given))
        assert row.f1 == pytest.approx(oracle.f1_score(truth, given))
        area = oracle.average_precision_score(truth, rows.probabilities[:, code])
        assert row.average_precision_interval[0] < row.average_precision < row.average_precision_interval[1]
        assert row.average_precision == pytest.approx(area)
    never = result.classes[3]
    assert never.support == 0 and never.recall is None and never.average_precision is None
    assert sorted(curve.name for curve in result.curves) == ["cat", "dog", "fish"]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    large = evaluate(drawn(200_000, seed=9)).splits["test"].metrics
    names = ("mean_average_precision", "micro_f1", "macro_f1", "samples_f1", "hamming_loss", "macro_precision")
    held = dict.fromkeys(names, 0)
    for seed in range(120):
        found = evaluate(drawn(150, seed=100 + seed)).splits["test"].metrics
        for name in names:
            held[name] += found[name].low <= large[name].value <= found[name].high
    assert all(0.87 <= count / 120 <= 1 for count in held.values()), held


def test_a_group_repeated_is_no_more_evidence(rows, result):
    twice = rows.select(np.repeat(np.arange(200), 2))
    found = evaluate(replace(twice, groups=[str(i // 2) for i in range(400)])).splits["test"].metrics
    for name in ("mean_average_precision", "micro_f1", "macro_f1", "samples_f1", "subset_accuracy", "hamming_loss"):
        before, after = result.metrics[name], found[name]
        assert after.value == pytest.approx(before.value) and after.groups == 200
        assert after.high - after.low == pytest.approx(before.high - before.low, rel=0.05)


def test_what_is_not_known_or_not_finite_is_said(rows):
    odd = replace(rows, logits=rows.logits.copy(), targets=rows.targets.copy())
    odd.targets[0], odd.logits[1, 0] = -1, np.nan
    evaluation = evaluate(odd)
    metrics = evaluation.splits["test"].metrics
    assert evaluation.splits["test"].n == 199
    assert metrics["log_loss"].value is None and metrics["mean_average_precision"].value is None
    assert 0 < metrics["micro_f1"].value < 1
    said = " ".join(evaluation.notes)
    assert "1 of 200 images have no label" in said and "no image of never" in said and "not finite" in said
    json.dumps(evaluation.as_json(), allow_nan=False)


def test_a_slice_of_images_with_many_labels_is_found():
    rows = drawn(400, strength=6.0)
    count = rows.targets.sum(axis=1)
    logits = rows.logits.copy()
    logits[count >= 2] *= -1
    result = evaluate(replace(rows, logits=logits), columns={"camera": ["a", "b"] * 200}).splits["test"]
    worse = [(row.column, row.value) for row in result.slices if row.worse]
    assert ("labels of the image", "2") in worse and not any(column in ("camera", "class") for column, _ in worse)


def test_runs_are_compared_by_images_with_every_label_right():
    first, second = drawn(strength=1.0), drawn(strength=4.0)
    (found,) = compare({"weak": first, "strong": second})
    assert found.significant and "strong is better" in found.sentence
    gained = second.correct.mean() - first.correct.mean()
    assert found.differences["accuracy"].value == pytest.approx(gained)
    assert set(found.differences) == {"accuracy", "samples_f1", "log_loss"}
    assert len(found.only_second) == (second.correct & ~first.correct).sum()


def test_weights_are_chosen_by_the_f1_of_images():
    rows = drawn(images=120, temperature=1.0)
    better = np.where(rows.targets == 1, 3.0, -3.0) + 0.1 * rows.logits
    entries = [choice.Entry("the probe", "probe", rows.logits), choice.Entry("tuned", "fine-tuned", better)]
    made = choice.choose(entries, rows.targets)
    assert made.chosen == "tuned" and made.measure == "F1 of each image's labels"
    assert made.candidates[0].accuracy.value == pytest.approx(
        oracle.f1_score(rows.targets, MULTI.decide(rows.logits), average="samples", zero_division=1)
    )
    assert choice.gain(rows.logits, better, rows.targets).value > 0.1
