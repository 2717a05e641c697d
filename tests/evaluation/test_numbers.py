"""Metrics of numbers and of grades: values of scikit-learn and SciPy, intervals against the bootstrap."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from tlkit.classifier.answers import Predictions
from tlkit.evaluation.compare import compare
from tlkit.evaluation.evaluate import evaluate
from tlkit.evaluation.number_measures import of_number, weighted_kappa
from tlkit.evaluation.results import EvaluationResult
from tlkit.evaluation.stored import restored


def numbers(n=300, seed=0, width=1, noise=0.5):
    random = np.random.default_rng(seed)
    truth = random.normal(20, 3, (n, width))
    said = (truth + random.normal(0, noise, (n, width)) * 3).astype(np.float32)
    return Predictions(
        paths=[f"{i}.png" for i in range(n)],
        sha256=[f"{i:064x}" for i in range(n)],
        labels=np.full(n, -1, np.int32),
        splits=np.full(n, 2, np.int8),
        logits=said,
        classes=tuple(f"n{i}" for i in range(width)),
        targets=truth,
        margins=(3.0,) * width,
    )


def test_values_are_those_of_scikit_learn():
    rows = numbers()
    found = evaluate(rows).splits["test"].metrics
    truth, said = rows.targets[:, 0], rows.logits[:, 0].astype(np.float64)
    expected = {
        "mean_absolute_error": oracle.mean_absolute_error(truth, said),
        "root_mean_squared_error": oracle.root_mean_squared_error(truth, said),
        "r2": oracle.r2_score(truth, said),
        "spearman": stats.spearmanr(truth, said).statistic,
        "interval_coverage": np.mean(np.abs(truth - said) <= 3),
        "interval_width": 6.0,
        "mean_absolute_error_of_mean": oracle.mean_absolute_error(truth, np.full(300, truth.mean())),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-9), name
        if name not in ("interval_width", "mean_absolute_error_of_mean"):
            assert found[name].low < found[name].value < found[name].high


@pytest.mark.parametrize("name", ["mean_absolute_error", "root_mean_squared_error", "r2", "spearman"])
def test_intervals_are_as_wide_as_the_bootstrap_says(name):
    rows = numbers(400, noise=0.7)
    truth, said = rows.targets[:, 0], rows.logits[:, 0].astype(np.float64)
    found = of_number(said, truth, None, None)[name]
    random, drawn = np.random.default_rng(1), []
    for _ in range(800):
        at = random.integers(0, 400, 400)
        drawn.append(of_number(said[at], truth[at], None, None)[name].value)
    assert (found.high - found.low) / (2 * 1.96 * np.std(drawn)) == pytest.approx(1, abs=0.12)


def test_groups_widen_intervals():
    rows = numbers(200)
    error = np.repeat(np.random.default_rng(3).normal(0, 2, 40), 5)
    truth = rows.targets[:, 0]
    groups = np.repeat(np.arange(40), 5)
    alone, grouped = (of_number(truth + error, truth, 3.0, one) for one in (None, groups))
    for name in ("mean_absolute_error", "root_mean_squared_error", "r2", "spearman", "interval_coverage"):
        assert grouped[name].high - grouped[name].low > 1.3 * (alone[name].high - alone[name].low), name
        assert grouped[name].groups == 40


def test_several_numbers_have_metrics_of_their_own_and_means_of_what_has_no_unit():
    rows = numbers(width=2)
    found = evaluate(rows).splits["test"].metrics
    assert found["r2"].value == pytest.approx(oracle.r2_score(rows.targets, rows.logits.astype(np.float64)))
    assert found["mean_absolute_error:n1"].value == pytest.approx(
        oracle.mean_absolute_error(rows.targets[:, 1], rows.logits[:, 1].astype(np.float64))
    )
    assert "mean_absolute_error" not in found


def test_numbers_that_are_not_finite_or_all_alike_are_not_defined():
    assert of_number(np.array([1.0, np.nan]), np.array([1.0, 2.0]), None, None)["r2"].value is None
    same = of_number(np.ones(30), np.full(30, 2.0), None, None)
    assert same["r2"].value is None and same["spearman"].value is None and same["mean_absolute_error"].value == 1


def test_predictions_and_evaluation_come_back_from_their_files(tmp_path):
    rows = numbers(30, width=2)
    rows.write_csv(tmp_path / "predictions.csv")
    again = Predictions.read_csv(tmp_path / "predictions.csv")
    np.testing.assert_array_equal(again.targets, rows.targets)
    np.testing.assert_allclose(again.logits, rows.logits, rtol=1e-7)
    assert again.classes == rows.classes and again.task.name == "number"
    found = evaluate(rows)
    assert restored(EvaluationResult, found.as_json()).as_json() == found.as_json()


def test_two_runs_are_compared_by_their_errors():
    good, bad = numbers(noise=0.3), numbers(noise=1.0)
    (found,) = compare({"bad": bad, "good": good})
    assert found.measure == "mean absolute error" and found.significant and found.only_first == ()
    assert found.sentence.startswith("good has a mean absolute error lower by")
    change = np.abs(good.logits - good.targets).mean() - np.abs(bad.logits - bad.targets).mean()
    assert found.differences["mean_absolute_error"].value == pytest.approx(change, rel=1e-6)
    (same,) = compare({"a": good, "b": good})
    assert not same.significant


def grades(n=400, classes=5, seed=0):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, n)
    centre = truth[:, None] + random.normal(0, 0.8, (n, 1))
    logits = -((np.arange(classes) - centre) ** 2).astype(np.float32)
    return Predictions(
        paths=[f"{i}.png" for i in range(n)],
        sha256=[f"{i:064x}" for i in range(n)],
        labels=truth.astype(np.int32),
        splits=np.full(n, 2, np.int8),
        logits=logits,
        classes=tuple("abcde"[:classes]),
        targets=truth[:, None].astype(np.int16),
        temperature=1.7,
    )


def test_grades_are_measured_as_scikit_learn_does():
    rows = grades()
    result = evaluate(rows).splits["test"]
    found, said = result.metrics, rows.predicted
    assert list(found)[:4] == ["accuracy", "mean_absolute_error", "within_one_accuracy", "quadratic_weighted_kappa"]
    assert found["accuracy"].value == pytest.approx(oracle.accuracy_score(rows.labels, said))
    assert found["mean_absolute_error"].value == pytest.approx(oracle.mean_absolute_error(rows.labels, said))
    assert found["within_one_accuracy"].value == pytest.approx(np.mean(np.abs(rows.labels - said) <= 1))
    kappa = oracle.cohen_kappa_score(rows.labels, said, weights="quadratic")
    assert found["quadratic_weighted_kappa"].value == pytest.approx(kappa)
    np.testing.assert_array_equal(result.confusion, oracle.confusion_matrix(rows.labels, said, labels=range(5)))
    assert result.task.name == "ordinal"


def test_the_interval_of_kappa_is_as_wide_as_the_bootstrap_says():
    rows = grades(300)
    truth, said = rows.labels.astype(np.int64), rows.predicted
    value, (low, high) = weighted_kappa(truth, said, None)
    random, drawn = np.random.default_rng(1), []
    for _ in range(800):
        at = random.integers(0, 300, 300)
        drawn.append(oracle.cohen_kappa_score(truth[at], said[at], weights="quadratic"))
    assert low < value < high
    assert (high - low) / (2 * 1.96 * np.std(drawn)) == pytest.approx(1, abs=0.12)
    assert weighted_kappa(np.zeros(9, int), np.zeros(9, int), None) == (None, None)


def test_a_grade_without_an_image_is_still_a_step():
    """By hand: grades 0, 1, 4 in equal parts, ten of 30 off by three; scikit-learn by itself takes 0, 1, 4 for 0, 1, 2."""
    truth = np.repeat([0, 1, 4], 10)
    said = np.where(truth == 4, 1, truth)
    apart = np.subtract.outer(truth, said) ** 2
    value, (low, high) = weighted_kappa(truth, said, None)
    assert value == pytest.approx(1 - (10 * 9 / 30) / apart.mean())
    assert low < value < high
    assert value < oracle.cohen_kappa_score(truth, said, weights="quadratic") - 0.1


def test_grades_come_back_from_their_file(tmp_path):
    rows = grades(30)
    rows.write_csv(tmp_path / "predictions.csv")
    again = Predictions.read_csv(tmp_path / "predictions.csv")
    assert again.task.name == "ordinal"
    np.testing.assert_array_equal(again.predicted, rows.predicted)
    np.testing.assert_array_equal(again.labels, rows.labels)
    np.testing.assert_array_equal(again.targets, rows.targets)
