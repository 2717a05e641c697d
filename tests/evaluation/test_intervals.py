"""Intervals: known values, their coverage by simulation, and none where they would be wrong."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn import metrics as oracle

from tlkit.evaluation.curves import roc_auc
from tlkit.evaluation.intervals import (
    confusion_intervals,
    confusion_scores,
    mean_interval,
    on_logit_scale,
    resamples,
    share_interval,
    spread,
    wilson,
)


def intervals_of(confusion, seed=0):
    cells = np.argwhere(confusion)
    return confusion_intervals(cells, confusion[tuple(cells.T)], seed)


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


GOOD = np.array([[40, 6, 4], [5, 60, 5], [8, 2, 30]]) / 160
BETTER = np.array([[52, 1, 0], [2, 60, 1], [1, 1, 42]]) / 160
MANY = np.full((40, 40), 0.2 / 39 / 40) + np.eye(40) * (0.8 - 0.2 / 39) / 40


@pytest.mark.parametrize(
    ("truth", "n", "times", "least", "most"),
    [
        (GOOD, 150, 400, 0.93, 0.97),
        (GOOD, 300, 400, 0.93, 0.97),
        (BETTER, 150, 400, 0.93, 0.99),
        (MANY, 400, 100, 0.88, 1.0),
    ],
    ids=["good", "good, more images", "better", "many classes"],
)
def test_scores_from_the_confusion_matrix_are_covered(truth, n, times, least, most):
    cells = np.argwhere(truth)
    exact = confusion_scores(cells, truth[tuple(cells.T)][None])
    rng = np.random.default_rng(3)
    covered: dict[str, list[bool]] = {name: [] for name in exact}
    for seed in range(times):
        found = intervals_of(rng.multinomial(n, truth.ravel()).reshape(truth.shape), seed)
        for name, interval in found.items():
            if interval is not None:  # a few samples of 150 hold no error at all
                covered[name].append(interval[0] <= exact[name][0] <= interval[1])
    shares = {name: np.mean(hits) for name, hits in covered.items()}
    assert least <= min(shares.values()) and max(shares.values()) <= most, shares
    assert min(map(len, covered.values())) > 0.95 * times


def test_the_area_is_covered():
    rng, shift, covered = np.random.default_rng(4), 1.5, 0
    exact = norm.cdf(shift / np.sqrt(2))
    for _ in range(1000):
        labels = rng.random(150) < 0.4
        area, influences = roc_auc(labels, rng.normal(size=150) + shift * labels)
        low, high = on_logit_scale(area, np.sqrt((influences**2).sum()))
        covered += low <= exact <= high
    assert 0.93 <= covered / 1000 <= 0.97


def test_the_mean_of_a_skewed_loss_is_covered():
    rng, covered = np.random.default_rng(5), 0
    for _ in range(2000):
        low, high = mean_interval(rng.exponential(size=200) ** 1.5)
        covered += low <= 1.3293403881791370 <= high  # gamma(2.5)
    assert 0.92 <= covered / 2000 <= 0.97


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


def test_a_class_that_a_resample_lacks_does_not_count_in_its_averages():
    cells = np.array([[0, 0], [0, 1], [1, 1], [2, 2]])
    found = confusion_scores(cells, np.array([[3.0, 1.0, 2.0, 0.0]]))
    expected = {"balanced_accuracy": 7 / 8, "macro_recall": 7 / 8, "macro_precision": 5 / 6, "macro_f1": 29 / 35}
    assert {name: found[name][0] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_a_resample_has_as_many_images():
    for drawn in resamples(np.array([3, 0, 7]), np.random.default_rng(0), times=20):
        assert (drawn.sum(axis=1) == 10).all()
        assert (drawn[:, 1] == 0).all()


def test_agreement_is_not_certainty():
    assert set(intervals_of(np.diag([5, 5])).values()) == {None}
    assert mean_interval(np.zeros(30)) is None
    assert on_logit_scale(1.0, 0.0) is None


def test_a_mean_that_rests_on_a_few_images_has_no_interval():
    losses = np.full(300, 1e-4)
    losses[:3] = 8.0
    assert mean_interval(losses) is None
    assert mean_interval(np.full(300, 0.2)) is None  # no variation to estimate from
    assert mean_interval(np.linspace(0.1, 0.3, 300)) is not None


@pytest.mark.parametrize("value", [0.001, 0.3, 0.97, 0.999])
@pytest.mark.parametrize("centre", [None, -1.0, 0.31, 2.0])
def test_an_interval_on_the_logit_scale_holds_its_value_and_stays_within_bounds(value, centre):
    low, high = on_logit_scale(value, 0.05, centre)
    assert 0 <= low <= value <= high <= 1


def test_a_kappa_worse_than_chance_has_an_interval():
    low, high = intervals_of(np.array([[5, 20], [22, 4]]))["cohen_kappa"]
    assert -1 < low < high < 0


def test_a_thousand_classes_with_few_images_each_hold_their_value():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 500, 2000)
    confusion = np.zeros((500, 500), dtype=int)
    np.add.at(confusion, (labels, np.where(rng.random(2000) < 0.8, labels, rng.integers(0, 500, 2000))), 1)
    cells = np.argwhere(confusion)
    value = confusion_scores(cells, confusion[tuple(cells.T)][None].astype(float))["macro_f1"][0]
    low, high = intervals_of(confusion)["macro_f1"]
    assert low <= value <= high


def clustered(rng, groups, each, share, likeness):
    """Hits in groups whose members tend to be alike: the correlation within a group is `likeness`."""
    ability = rng.beta(share * (1 / likeness - 1), (1 - share) * (1 / likeness - 1), groups)
    return np.repeat(np.arange(groups), each), rng.random(groups * each) < np.repeat(ability, each)


def test_accuracy_of_images_in_groups_is_covered_and_pretending_independence_is_not():
    rng, covered, naive = np.random.default_rng(6), 0, 0
    for _ in range(1000):
        groups, hits = clustered(rng, 30, 10, 0.8, 0.4)
        low, high = share_interval(hits, groups)
        covered += low <= 0.8 <= high
        low, high = wilson(int(hits.sum()), len(hits))
        naive += low <= 0.8 <= high
    assert 0.93 <= covered / 1000 <= 0.97
    assert naive / 1000 < 0.8


def test_groups_of_one_are_images():
    rng = np.random.default_rng(7)
    hits = rng.random(400) < 0.8
    alone = share_interval(hits, np.arange(400))
    assert alone == pytest.approx(share_interval(hits), abs=2e-3)
    losses = rng.exponential(size=400)
    assert mean_interval(losses, np.arange(400)) == pytest.approx(mean_interval(losses), rel=2e-2)


def test_a_single_group_says_nothing_and_perfect_groups_count_one_each():
    assert share_interval(np.array([True, False]), np.array([3, 3])) is None
    low, high = share_interval(np.ones(100, bool), np.repeat(np.arange(10), 10))
    assert high == 1.0 and low < wilson(10, 10)[0] < wilson(100, 100)[0]


def test_the_spread_over_groups_by_hand():
    assert spread(np.array([1.0, 1.0, -2.0])) == pytest.approx(np.sqrt(6))
    assert spread(np.array([1.0, 1.0, -2.0]), np.array([5, 5, 9])) == pytest.approx(np.sqrt(8 * 2))
