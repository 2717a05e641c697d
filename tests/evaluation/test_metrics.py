"""Metrics against scikit-learn, against hand-computed cases, and where they are undefined."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics as oracle

from tlkit.classifier.answers import Predictions
from tlkit.data.dataset import SPLITS
from tlkit.evaluation.evaluate import evaluate


def predictions(logits, labels, splits=2, classes=None):
    logits = np.asarray(logits, dtype=np.float32)
    n, count = logits.shape
    return Predictions(
        paths=[f"{i}.png" for i in range(n)],
        sha256=["0" * 64] * n,
        labels=np.asarray(labels, dtype=np.int32),
        splits=np.broadcast_to(np.asarray(splits, dtype=np.int8), n).copy(),
        logits=logits,
        classes=classes or tuple(f"class {i}" for i in range(count)),
    )


def noisy(n=200, classes=6, strength=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += strength
    return predictions(logits, labels)


def values(rows, split="test", **options):
    return {name: metric.value for name, metric in evaluate(rows, **options).splits[split].metrics.items()}


def test_many_classes_agree_with_scikit_learn():
    rows = noisy()
    y, p, q = rows.labels, rows.probabilities, rows.predicted
    found = values(rows)
    assert found == pytest.approx(
        {
            "accuracy": oracle.accuracy_score(y, q),
            "top_5_accuracy": oracle.top_k_accuracy_score(y, p, k=5),
            "balanced_accuracy": oracle.balanced_accuracy_score(y, q),
            "macro_precision": oracle.precision_score(y, q, average="macro"),
            "macro_recall": oracle.recall_score(y, q, average="macro"),
            "macro_f1": oracle.f1_score(y, q, average="macro"),
            "cohen_kappa": oracle.cohen_kappa_score(y, q),
            "log_loss": oracle.log_loss(y, p),
            "roc_auc": oracle.roc_auc_score(y, p, multi_class="ovr", average="macro"),
            "brier": np.mean(np.sum((p - np.eye(6)[y]) ** 2, axis=1)),
            "mean_average_precision": oracle.average_precision_score(np.eye(6)[y], p, average="macro"),
            "expected_calibration_error": found["expected_calibration_error"],  # test_calibration.py
            "area_under_risk_coverage": found["area_under_risk_coverage"],  # test_curves.py
        },
        abs=1e-12,
    )
    assert (evaluate(rows).splits["test"].confusion == oracle.confusion_matrix(y, q)).all()


def test_two_classes_agree_with_scikit_learn_and_have_no_top_k():
    rows = noisy(classes=2)
    found = values(rows)
    assert found["roc_auc"] == pytest.approx(oracle.roc_auc_score(rows.labels, rows.probabilities[:, 1]))
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(rows.labels, rows.probabilities[:, 1]))
    assert not [name for name in found if name.startswith("top_")]


def test_the_temperature_counts():
    rows = noisy()
    hotter = Predictions(**{**vars(rows), "temperature": 3.0})
    assert values(hotter)["log_loss"] == pytest.approx(oracle.log_loss(rows.labels, hotter.probabilities))
    assert values(hotter)["accuracy"] == values(rows)["accuracy"]


@pytest.mark.parametrize(("classes", "name"), [(2, None), (3, "top_2"), (5, "top_3"), (6, "top_5"), (9, "top_5")])
def test_the_name_of_top_k_follows_the_classes(classes, name):
    found = [metric for metric in values(noisy(classes=classes)) if metric.startswith("top_")]
    assert found == ([] if name is None else [f"{name}_accuracy"])


def test_ties_go_to_the_first_class_in_accuracy_and_in_top_k():
    flat = predictions(np.zeros((4, 4)), [0, 1, 2, 3])
    found = values(flat, top_k=3)
    assert (found["accuracy"], found["top_3_accuracy"]) == (0.25, 0.75)


def test_a_case_by_hand():
    rows = predictions([[2, 0], [0, 2], [0, 2], [0, 2]], [0, 0, 1, 1], classes=("ant", "bee"))
    result = evaluate(rows).splits["test"]
    assert result.confusion.tolist() == [[1, 1], [0, 2]]
    ant, bee = result.classes
    assert (ant.support, ant.predicted, ant.precision, ant.recall) == (2, 1, 1.0, 0.5)
    assert (bee.support, bee.predicted, bee.recall) == (2, 3, 1.0)
    assert bee.precision == pytest.approx(2 / 3)
    assert bee.f1 == pytest.approx(0.8)
    assert [(pair.truth, pair.predicted, pair.count) for pair in result.confused] == [("ant", "bee", 1)]
    assert result.metrics["cohen_kappa"].value == pytest.approx(0.5)


def test_confused_pairs_come_most_frequent_first():
    pairs = evaluate(noisy()).splits["test"].confused
    counts = [pair.count for pair in pairs]
    assert counts == sorted(counts, reverse=True)
    assert all(pair.truth != pair.predicted and pair.count for pair in pairs)


def test_every_split_is_measured_and_unlabelled_images_are_only_mentioned():
    rng = np.random.default_rng(1)
    rows = predictions(rng.normal(size=(50, 3)), rng.integers(0, 3, 50), splits=np.arange(50) % 4 - 1)
    rows.labels[rows.splits == 1] = -1
    rows.labels[3] = -1
    result = evaluate(rows)
    assert list(result.splits) == ["train", "test", "images"]
    counted = (rows.splits == 2) & (rows.labels >= 0)
    whole = oracle.accuracy_score(rows.labels[counted], rows.predicted[counted])
    assert result.splits["test"].metrics["accuracy"].value == pytest.approx(whole)
    assert any("have no label" in note for note in result.notes)
    assert sum(found.n for found in result.splits.values()) == (rows.labels >= 0).sum()
    assert set(result.splits) - set(SPLITS) == {"images"}


def test_a_class_without_images_is_left_out_of_the_averages_and_said():
    rows = noisy(classes=6)
    rows = rows.select(np.flatnonzero(rows.labels != 4))
    result = evaluate(rows)
    missing = result.splits["test"].classes[4]
    assert (missing.support, missing.recall) == (0, None)
    present = sorted(set(rows.labels.tolist()))
    recall = oracle.recall_score(rows.labels, rows.predicted, labels=present, average="macro")
    assert result.splits["test"].metrics["balanced_accuracy"].value == pytest.approx(recall)
    assert any("no image of class 4" in note for note in result.notes)
    assert 4 in rows.predicted  # and counts as 0 where scikit-learn has it so
    found = result.splits["test"].metrics
    for name, score in (("macro_f1", oracle.f1_score), ("macro_recall", oracle.recall_score)):
        expected = score(rows.labels, rows.predicted, average="macro", zero_division=0)
        assert found[name].value == pytest.approx(expected) and found[name].low < expected < found[name].high
    expected = oracle.precision_score(rows.labels, rows.predicted, average="macro", zero_division=0)
    assert found["macro_precision"].value == pytest.approx(expected)
    assert found["macro_recall"].value < found["balanced_accuracy"].value
    json.dumps(result.metrics_json(), allow_nan=False)


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 7])
def test_a_single_class_gives_none_and_neither_warning_nor_nan(classes, n):
    rows = predictions(np.random.default_rng(0).normal(size=(n, classes)), np.zeros(n))
    result = evaluate(rows)
    assert values(rows)["roc_auc"] is None
    assert values(rows)["macro_f1"] is None
    json.dumps(result.metrics_json(), allow_nan=False)
    rows_of_classes = [asdict(row) for found in result.splits.values() for row in found.classes]
    json.dumps(rows_of_classes, allow_nan=False)


def test_a_class_predicted_without_an_image_by_hand():
    """Truth a a b b, predicted a c b b: precision 1, 1, 0; recall 1/2, 1, 0; F1 2/3, 1, 0."""
    rows = predictions([[3, 0, 0, 0], [0, 0, 3, 0], [0, 3, 0, 0], [0, 3, 0, 0]], [0, 0, 1, 1])
    found = evaluate(rows).splits["test"].metrics
    assert found["macro_precision"].value == pytest.approx(2 / 3)
    assert found["macro_recall"].value == pytest.approx(1 / 2)
    assert found["macro_f1"].value == pytest.approx(5 / 9)
    assert found["balanced_accuracy"].value == pytest.approx(3 / 4)


def test_a_class_never_predicted_has_no_precision_but_counts_as_zero_in_the_mean():
    rows = predictions([[3, 0, 0], [3, 0, 0], [0, 3, 0]], [0, 2, 1])
    result = evaluate(rows).splits["test"]
    assert result.classes[2].precision is None
    assert result.metrics["macro_precision"].value == pytest.approx((0.5 + 1 + 0) / 3)


def test_logits_that_are_not_finite_give_none_and_a_note():
    rows = noisy()
    rows.logits[3] = np.nan
    rows.logits[4] = np.inf
    result = evaluate(rows)
    assert result.splits["test"].metrics["log_loss"].value is None
    assert result.splits["test"].metrics["accuracy"].value is not None
    assert any("2 images have outputs that are not finite" in note for note in result.notes)


def test_both_sides_of_the_temperature_are_shown():
    rows = noisy()
    assert not [name for name in values(rows) if name.endswith("_uncalibrated")]
    hotter = Predictions(**{**vars(rows), "temperature": 3.0})
    plain, result = values(rows), evaluate(hotter).splits["test"]
    for name in ("log_loss", "brier", "expected_calibration_error"):
        assert result.metrics[f"{name}_uncalibrated"].value == plain[name] != result.metrics[name].value
    assert result.uncalibrated.count.tolist() == evaluate(rows).splits["test"].reliability.count.tolist()


def test_the_threshold_splits_the_images():
    rows = noisy()
    sure = Predictions(**{**vars(rows), "threshold": 0.5})
    result = evaluate(sure, target_precision=0.9).splits["test"]
    answered = rows.probabilities.max(axis=1) >= 0.5
    assert result.abstention.coverage.value == pytest.approx(answered.mean())
    assert result.abstention.precision.value == pytest.approx((rows.predicted == rows.labels)[answered].mean())
    assert result.abstention.precision.n == answered.sum() == (~sure.abstained).sum()
    assert result.metrics["selective_precision"] == result.abstention.precision


def test_images_known_from_training_are_counted_and_the_others_measured_apart():
    rows = noisy()
    known = np.zeros(200, np.int8)
    known[:30], known[30:50] = 1, 2
    result = evaluate(Predictions(**{**vars(rows), "in_training": known}))
    assert result.splits["test"].n == 200 and result.splits["test_unseen"].n == 150
    leak = result.splits["test"].leak
    assert (leak.near, leak.exact, leak.n) == (30, 20, 200)
    assert result.splits["test_unseen"].metrics["accuracy"].value == pytest.approx(
        (rows.predicted == rows.labels)[50:].mean()
    )
    assert "30 look like an image in the training set" in result.notes[0] and "'test_unseen'" in result.notes[0]
    clean = evaluate(Predictions(**{**vars(rows), "in_training": np.zeros(200, np.int8)}))
    assert list(clean.splits) == ["test"] and clean.splits["test"].leak.exact == 0 and clean.notes == ()
    everything = evaluate(Predictions(**{**vars(rows), "in_training": np.ones(200, np.int8)}))
    assert list(everything.splits) == ["test"] and "nothing about new images" in everything.notes[0]


def test_groups_are_named_and_widen_what_rests_on_them():
    rows = noisy(n=400)
    rows = rows.select(np.repeat(np.arange(100), 4))  # every image four times: a hundred images' worth
    alone = evaluate(rows).splits["test"].metrics
    together = evaluate(Predictions(**{**vars(rows), "groups": [f"g{i // 4}" for i in range(400)]}))
    for name, found in together.splits["test"].metrics.items():
        assert found.groups == 100 and found.n == 400
        if found.low is not None and name != "expected_calibration_error":
            assert 1.6 < (found.high - found.low) / (alone[name].high - alone[name].low) < 2.4, name
    assert together.metrics_json()["test"]["accuracy"]["groups"] == 100


def test_everything_is_json():
    rows = Predictions(**{**vars(noisy()), "temperature": 2.0, "threshold": 0.4, "in_training": np.ones(200, np.int8)})
    found = json.loads(json.dumps(evaluate(rows, columns={"size": np.arange(200.0)}).as_json(), allow_nan=False))
    test = found["splits"]["test"]
    assert len(test["reliability"]["edges"]) == 16 and test["metrics"]["accuracy"]["n"] == 200
    assert {row["column"] for row in test["slices"]} == {"class", "size"}


def test_no_images_no_result():
    assert evaluate(predictions(np.zeros((0, 3)), [])).splits == {}


def test_the_same_predictions_give_the_same_intervals():
    assert evaluate(noisy()).metrics_json() == evaluate(noisy()).metrics_json()


def test_every_interval_holds_its_value():
    for classes in (2, 3, 12):
        for metric in evaluate(noisy(classes=classes)).splits["test"].metrics.values():
            if metric.low is not None:
                assert metric.low <= metric.value <= metric.high


def test_a_thousand_classes_take_seconds():
    rows = noisy(n=4000, classes=1000, strength=4)
    result = evaluate(rows).splits["test"]
    assert result.confusion.shape == (1000, 1000)
    assert len(result.confused) <= 50


@pytest.mark.slow
@pytest.mark.parametrize("each", [1, 10])
def test_every_interval_holds_the_truth_about_95_times_in_100(each):
    """300 test sets: 95 % ± 2.5 standard errors is 92 to 98; benchmarks/coverage.py has the full table."""

    def drawn(rng, n):
        labels = rng.integers(0, 3, n)
        logits = rng.normal(size=(n, 3))
        logits[np.arange(n), labels] += 2 + rng.normal(scale=0.8, size=n // each)[np.arange(n) // each]
        rows = predictions(1.5 * logits, labels)
        groups = [f"g{i // each}" for i in range(n)] if each > 1 else None
        return Predictions(**{**vars(rows), "groups": groups})

    known = {
        name: found.value
        for name, found in evaluate(drawn(np.random.default_rng(0), 200_000)).splits["test"].metrics.items()
    }
    rng, held = np.random.default_rng(1), {name: [] for name in known}
    for _ in range(300):
        for name, found in evaluate(drawn(rng, 400)).splits["test"].metrics.items():
            if found.low is not None:
                held[name].append(found.low <= known[name] <= found.high)
    shares = {name: np.mean(hits) for name, hits in held.items()}
    assert (
        shares.pop("expected_calibration_error") >= 0.915
    )  # where it is small its interval begins at 0 and never misses
    assert min(shares.values()) >= 0.915 and max(shares.values()) <= 0.985, shares
    assert min(map(len, held.values())) > 290
