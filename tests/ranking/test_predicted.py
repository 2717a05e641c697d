import numpy as np
import pytest
from scipy.stats import t

from tlkit.ranking.logme import explained, logme
from tlkit.ranking.predicted import FITTED, Fit, after_tuning

FIT = Fit(weights=(0.5, 0.8, 0.6), error=0.4, sets=4, pairs=24)


def test_predictions_by_hand():
    """log odds of 80 and 60 of 100 with half an image on both sides: log(80.5 / 20.5), log(60.5 / 40.5)."""
    found = after_tuning([0.8, 0.6], [0.3, 0.4], 100, FIT)
    ridge = np.log([80.5 / 20.5, 60.5 / 40.5])
    order = (ridge - 2 * np.log([0.7, 0.6])) / 3
    half = t(3).ppf(0.975) * 0.4
    for one, more in zip(found, order - order.mean(), strict=True):
        value = 0.5 + 0.8 * ridge.mean() + 0.6 * more
        for number, expected in ((one.value, value), (one.low, value - half), (one.high, value + half)):
            assert number == pytest.approx(1 / (1 + np.exp(-expected)))


def test_one_candidate_alone_is_expected_at_the_level_of_its_set():
    (found,) = after_tuning([0.8], [0.3], 100, FIT)
    assert found.value == pytest.approx(1 / (1 + np.exp(-0.5 - 0.8 * np.log(80.5 / 20.5))))
    assert found == after_tuning([0.8], [0.9], 100, FIT)[0]


def test_no_mistake_among_few_images_is_not_certain():
    few, many = (after_tuning([1.0], [0.9], count)[0].value for count in (10, 10_000))
    assert few < many < 1


def test_labels_explained_wholly_and_worse_than_not_at_all_still_have_a_place():
    worse, none, whole = (one.value for one in after_tuning([0.5, 0.5, 0.5], [-0.2, 0.0, 1.0], 300))
    assert 0 < worse < none < whole < 1


def test_better_features_are_expected_to_end_higher():
    base, right, more = (one.value for one in after_tuning([0.8, 0.9, 0.8], [0.3, 0.3, 0.5], 300))
    assert right > base and more > base
    assert after_tuning([0.9, 0.95], [0.5, 0.6], 300)[0].value > base
    assert FITTED.sets >= 3 and FITTED.error > 0


def test_the_share_explained_does_not_depend_on_how_many_classes_there_are():
    """Features equal to the labels explain nearly all of them, noise nothing, for any number of classes."""
    random = np.random.default_rng(0)
    for classes in (2, 10):
        targets = np.eye(classes)[np.arange(400) % classes]
        known = targets + random.normal(0, 0.05, targets.shape)
        noise = random.normal(size=(400, 5))
        assert explained(logme(known, targets), targets) > 0.9
        assert abs(explained(logme(np.c_[noise, np.ones(400)], targets), targets)) < 0.1
    assert explained(-10.0, np.ones((5, 2))) < 0  # classes that all images have carry no information
