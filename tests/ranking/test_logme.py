import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from tlkit.ranking.logme import logme
from tlkit.tasks.single import SINGLE


def naive(features, labels, classes):
    """y ~ N(0, F F' / alpha + I / beta), maximised over both numbers, class by class."""
    count, found = len(labels), []
    for label in range(classes):
        target = (labels == label).astype(float)

        def minus(logs, target=target):
            covariance = features @ features.T / np.exp(logs[0]) + np.eye(count) / np.exp(logs[1])
            return -multivariate_normal(np.zeros(count), covariance).logpdf(target)

        starts = [(a, b) for a in (-2.0, 2.0, 5.0) for b in (0.0, 3.0)]
        found.append(
            -min(minimize(minus, start, method="Nelder-Mead", bounds=[(-12, 12)] * 2, tol=1e-9).fun for start in starts)
        )
    return np.mean(found) / count


@pytest.mark.parametrize("width", [4, 40])
def test_it_is_the_maximum_evidence_of_the_paper(width):
    random = np.random.default_rng(0)
    labels = np.arange(24) % 3
    features = random.normal(size=(24, width)) + 0.8 * random.normal(size=(3, width))[labels]
    assert logme(features, SINGLE.as_targets(labels, 3)) == pytest.approx(naive(features, labels, 3), abs=1e-4)


def test_it_prefers_features_that_tell_the_classes_apart():
    random = np.random.default_rng(1)
    labels = np.arange(60) % 2
    noise = random.normal(size=(60, 20))
    better = [logme(noise + strength * labels[:, None], SINGLE.as_targets(labels, 2)) for strength in (0.0, 0.5, 2.0)]
    assert better == sorted(better)


def test_the_scale_of_features_does_not_count():
    random = np.random.default_rng(2)
    features, targets = random.normal(size=(30, 8)), SINGLE.as_targets(np.arange(30) % 3, 3)
    assert logme(1000 * features, targets) == pytest.approx(logme(features, targets), abs=1e-9)


def test_features_that_say_nothing_are_no_error():
    assert np.isfinite(logme(np.zeros((6, 3), np.float32), SINGLE.as_targets(np.arange(6) % 2, 2)))
