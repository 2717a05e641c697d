import numpy as np
import pytest
from scipy.stats import t

from tlkit.ranking.logme import explained, logme
from tlkit.ranking.predicted import FITTED, Fit, after_tuning

FIT = Fit(weights=(0.5, 1.0, 2.0, 0.25), parameters=(100, 10_000), error=0.4, sets=4, pairs=24)


def test_a_prediction_by_hand():
    """log odds of 80 of 100 with half an image on both sides: log(80.5 / 20.5)."""
    found = after_tuning(0.8, 0.3, 1000, 100, FIT)
    value = 0.5 + np.log(80.5 / 20.5) + 2 * 0.3 + 0.25 * 3
    half = t(3).ppf(0.975) * 0.4
    for number, expected in ((found.value, value), (found.low, value - half), (found.high, value + half)):
        assert number == pytest.approx(1 / (1 + np.exp(-expected)))


def test_a_network_outside_of_what_was_fitted_counts_as_the_nearest():
    assert after_tuning(0.8, 0.3, 10**9, 100, FIT) == after_tuning(0.8, 0.3, 10_000, 100, FIT)
    assert after_tuning(0.8, 0.3, 1, 100, FIT) == after_tuning(0.8, 0.3, 100, 100, FIT)


def test_no_mistake_among_few_images_is_not_certain():
    few, many = (after_tuning(1.0, 0.9, 10**6, count).value for count in (10, 10_000))
    assert few < many < 1


def test_better_features_and_larger_networks_are_expected_to_end_higher():
    base = after_tuning(0.8, 0.3, 500_000, 300).value
    assert after_tuning(0.9, 0.3, 500_000, 300).value > base
    assert after_tuning(0.8, 0.5, 500_000, 300).value > base
    assert after_tuning(0.8, 0.3, 3_000_000, 300).value > base
    assert FITTED.sets >= 3 and FITTED.error > 0


def test_the_share_explained_does_not_depend_on_how_many_classes_there_are():
    """Features that are the labels explain nearly all of them, noise nothing, whatever the number of classes."""
    random = np.random.default_rng(0)
    for classes in (2, 10):
        targets = np.eye(classes)[np.arange(400) % classes]
        known = targets + random.normal(0, 0.05, targets.shape)
        noise = random.normal(size=(400, 5))
        assert explained(logme(known, targets), targets) > 0.9
        assert abs(explained(logme(np.c_[noise, np.ones(400)], targets), targets)) < 0.1
    assert explained(-10.0, np.ones((5, 2))) < 0  # classes that all images have tell nothing
