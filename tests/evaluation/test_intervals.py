"""Intervals: known values, their coverage by simulation, and silence where they would lie."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as oracle

from tlkit.evaluation.intervals import (
    BOOTSTRAP_LIMIT,
    area_interval,
    confusion_intervals,
    confusion_scores,
    mean_interval,
    resamples,
    roc_auc,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (1, 1), (271, 312), (50, 100), (3, 1000)])
def test_wilson_agrees_with_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_has_no_interval():
    assert wilson(0, 0) is None
    assert mean_interval(np.array([0.3])) is None


@pytest.mark.parametrize("n", [150, 200, 300])
@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_accuracy_is_covered_93_to_97_times_in_100(n, accuracy):
    successes = np.random.default_rng(n).binomial(n, accuracy, 2000)
    limits = np.array([wilson(int(hits), n) for hits in successes])
    covered = np.mean((limits[:, 0] <= accuracy) & (accuracy <= limits[:, 1]))
    assert 0.93 <= covered <= 0.97


def test_scores_from_the_confusion_matrix_are_covered():
    """1,000 simulations at n = 150: balanced accuracy 0.95, macro F1 0.95, kappa 0.95; 300 of them here."""
    truth = np.array([[40, 6, 4], [5, 60, 5], [8, 2, 30]]) / 160
    cells = np.argwhere(truth)
    exact = confusion_scores(cells, truth.reshape(1, -1))
    rng = np.random.default_rng(3)
    covered = dict.fromkeys(exact, 0)
    for seed in range(1000):
        found = confusion_intervals(rng.multinomial(150, truth.ravel()).reshape(3, 3), seed)
        for name, (low, high) in found.items():
            covered[name] += low <= exact[name][0] <= high
    assert {name: 0.93 <= hits / 1000 <= 0.97 for name, hits in covered.items()} == dict.fromkeys(exact, True)


def test_the_area_is_covered():
    """1,000 simulations at n = 150: 0.94; here 600 of a known area."""
    rng, shift, covered = np.random.default_rng(4), 1.5, 0
    from scipy.stats import norm

    exact = norm.cdf(shift / np.sqrt(2))
    for _ in range(600):
        labels = rng.random(150) < 0.4
        low, high = area_interval(*roc_auc(labels, rng.normal(size=150) + shift * labels))
        covered += low <= exact <= high
    assert 0.92 <= covered / 600 <= 0.98


def test_areas_agree_with_scikit_learn_with_and_without_ties():
    rng = np.random.default_rng(0)
    for n in (10, 57, 300):
        labels = rng.random(n) < 0.3
        labels[:2] = True, False
        for scores in (rng.normal(size=n), rng.integers(0, 4, n).astype(float), np.zeros(n)):
            area, _ = roc_auc(labels, scores)
            assert area == pytest.approx(oracle.roc_auc_score(labels, scores))


def test_delong_variance_by_its_definition():
    rng = np.random.default_rng(1)
    labels, scores = rng.random(40) < 0.5, rng.integers(0, 12, 40).astype(float)
    above = scores[labels][:, None] > scores[~labels]
    wins = above + 0.5 * (scores[labels][:, None] == scores[~labels])
    expected = wins.mean(1).var(ddof=1) / labels.sum() + wins.mean(0).var(ddof=1) / (~labels).sum()
    _, influences = roc_auc(labels, scores)
    assert (influences**2).sum() == pytest.approx(expected)


def test_scores_of_many_matrices_agree_with_scikit_learn():
    rng = np.random.default_rng(2)
    y, q = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    cells = np.argwhere(oracle.confusion_matrix(y, q))
    counts = np.stack([oracle.confusion_matrix(y, q), oracle.confusion_matrix(y, y) + 1])[:, *cells.T]
    found = confusion_scores(cells, counts.astype(float))
    assert found["macro_f1"][0] == pytest.approx(oracle.f1_score(y, q, average="macro"))
    assert found["macro_precision"][0] == pytest.approx(oracle.precision_score(y, q, average="macro"))
    assert found["balanced_accuracy"][0] == pytest.approx(oracle.balanced_accuracy_score(y, q))
    assert found["cohen_kappa"][0] == pytest.approx(oracle.cohen_kappa_score(y, q))
    assert all(scores.shape == (2,) for scores in found.values())


def test_a_resample_has_as_many_images():
    for drawn in resamples(np.array([3, 0, 7]), np.random.default_rng(0), times=20):
        assert (drawn.sum(axis=1) == 10).all()
        assert (drawn[:, 1] == 0).all()


def test_agreement_is_not_certainty():
    assert confusion_intervals(np.diag([5, 5])) == dict.fromkeys(confusion_intervals(np.diag([5, 5])))
    assert mean_interval(np.zeros(30)) is None
    assert area_interval(1.0, np.zeros(5)) is None


def test_the_mean_interval_is_continuous_where_it_changes_method():
    values = np.random.default_rng(0).exponential(size=BOOTSTRAP_LIMIT + 1)
    assert mean_interval(values[:-1]) == pytest.approx(mean_interval(values), rel=0.01)
