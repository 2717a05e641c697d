"""Calibration by hand and against scikit-learn; the fit recovers a known temperature."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.calibration import calibration_curve

from tlkit.classifier.answers import softmax
from tlkit.evaluation.calibration import (
    FEW_ERRORS,
    TEMPERATURES,
    calibration_error_interval,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)


def test_error_by_hand():
    found = reliability(np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False]), bins=10)
    assert found.expected_calibration_error == pytest.approx(0.5 * 0.05 + 0.5 * 0.05)
    assert found.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]


def test_edges_belong_to_the_bin_below_and_zero_to_the_first():
    found = reliability(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]), bins=2)
    assert found.count.tolist() == [2, 1]


def test_bins_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence**2
    found = reliability(confidence, correct)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15)
    assert found.accuracy[found.count > 0] == pytest.approx(accuracy)
    assert found.confidence[found.count > 0] == pytest.approx(mean)


def test_a_calibrated_classifier_has_hardly_any_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, 100_000)
    assert reliability(confidence, rng.random(100_000) < confidence).expected_calibration_error < 0.01


def drawn(n, temperature, seed=0, classes=4):
    """Logits whose true probabilities are softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, classes))
    cumulative = softmax(logits, temperature).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > cumulative).sum(axis=1).clip(0, classes - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_planted_temperature_is_found(temperature):
    logits, labels = drawn(20_000, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    here = negative_log_likelihood(logits, labels, found)
    assert here <= min(negative_log_likelihood(logits, labels, found * step) for step in (0.98, 1.02))


def test_likelihood_agrees_with_the_softmax():
    logits, labels = drawn(100, 1.0)
    expected = -np.log(softmax(logits, 2.0)[np.arange(100), labels]).mean()
    assert negative_log_likelihood(logits, labels, 2.0) == pytest.approx(expected)


def test_without_an_error_nothing_gets_sharper():
    labels = np.arange(30) % 3
    assert fit_temperature(np.eye(3)[labels] * 4, labels) == 1.0


def near_misses(errors, kind="single", n=76, classes=4, sure=6.0):
    """Logits and truth: all answers are right and sure, but for some images of which one lies next to the border."""
    labels, rows = np.arange(n) % classes, np.arange(errors)
    logits, others = np.eye(classes)[labels] * sure, (labels[:errors] + 1) % classes
    if kind == "multi":
        logits -= sure / 2
        logits[rows, others] = 1e-9
        return logits, np.eye(classes, dtype=np.int8)[labels]
    logits[rows, others] = sure + 1e-9
    return logits, labels


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_few_errors_that_happen_to_be_near_misses_make_nothing_sure(kind):
    few, enough = (fit_temperature(*near_misses(count, kind)) for count in (1, FEW_ERRORS))
    assert enough < 0.3 and 0.5 < few <= 1.0
    logits, truth = near_misses(FEW_ERRORS, kind)
    around = [negative_log_likelihood(logits, truth, enough * factor) for factor in (0.9, 1.0, 1.1)]
    assert around[1] == min(around)


def test_too_little_to_fit_changes_nothing():
    assert fit_temperature(np.zeros((1, 3)), np.array([0])) == 1.0
    assert fit_temperature(np.zeros((5, 1)), np.zeros(5, dtype=int)) == 1.0
    assert fit_temperature(np.full((5, 3), np.nan), np.zeros(5, dtype=int)) == 1.0


def test_all_wrong_stays_in_bounds():
    labels = np.arange(30) % 3
    found = fit_temperature(np.eye(3)[(labels + 1) % 3] * 50, labels)
    assert TEMPERATURES[0] <= found <= TEMPERATURES[1]


def overconfident(rng, n, power):
    """Confidence, and hits whose probability is a power of it."""
    confidence = 0.3 + 0.7 * rng.beta(4, 1.2, n)
    return confidence, rng.random(n) < confidence**power


@pytest.mark.parametrize(("power", "n"), [(1.0, 300), (1.5, 300), (2.0, 600)])
def test_the_calibration_error_is_covered(power, n):
    rng, times, covered = np.random.default_rng(0), 200, 0
    confidence = 0.3 + 0.7 * rng.beta(4, 1.2, 400_000)
    exact = reliability(confidence, confidence**power).expected_calibration_error
    for seed in range(times):
        low, high = calibration_error_interval(*overconfident(rng, n, power), seed=seed)
        covered += low <= exact <= high
    assert covered / times >= 0.9  # at most 1 - 2.5 % where the truth is 0; less one would notice
    if power > 1:
        assert covered / times <= 0.99


def test_chance_alone_is_no_calibration_error_and_a_plain_one_is():
    rng = np.random.default_rng(1)
    low, high = calibration_error_interval(*overconfident(rng, 400, 1.0))
    assert low == 0 < high < 0.1
    low, high = calibration_error_interval(*overconfident(rng, 400, 3.0))
    assert 0.1 < low < reliability(*overconfident(rng, 400, 3.0)).expected_calibration_error < high


def test_repeated_images_in_groups_tell_no_more_than_one_each():
    confidence, correct = overconfident(np.random.default_rng(2), 200, 2.0)
    once = calibration_error_interval(confidence, correct)
    four = calibration_error_interval(np.repeat(confidence, 4), np.repeat(correct, 4), np.repeat(np.arange(200), 4))
    assert four == pytest.approx(once, abs=0.01)
    assert calibration_error_interval(confidence[:19], correct[:19]) is None


def test_the_upper_end_allows_for_the_noise_of_as_many_errors_as_it_supposes():
    """One bin of 40 images, 38 of them right, at 0.97: what the end solves is written out here, with a normal curve."""
    n, right, said = 40, 0.95, 0.97
    deviation = np.sqrt(right * (1 - right) / (n - 1))

    def half_and_half(share):
        return (smoothed := (share * n + 0.5) / (n + 1)) * (1 - smoothed)

    def beyond(error):
        wider = np.sqrt(max(1.0, half_and_half(said - error) / half_and_half(right)))
        return error - norm.ppf(0.975) * deviation * wider - (said - right)

    _, high = calibration_error_interval(np.full(n, said), np.arange(n) > 1, None)
    assert high == pytest.approx(brentq(beyond, 0.03, 0.5), rel=0.1)  # 0.088 without
