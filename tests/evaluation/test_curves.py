"""Areas and curves against scikit-learn, their influences against numerical changes."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as oracle

from tlkit.evaluation.curves import (
    CURVES,
    POINTS,
    average_precision,
    class_curves,
    curves_of,
    risk_coverage,
)
from tlkit.evaluation.intervals import on_logit_scale, spread


def drawn(n, ties, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    labels[:2] = True, False
    scores = rng.normal(size=n) + labels
    return labels, np.round(scores) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [10, 57, 300])
def test_average_precision_agrees_with_scikit_learn(n, ties):
    labels, scores = drawn(n, ties)
    assert average_precision(labels, scores)[0] == pytest.approx(oracle.average_precision_score(labels, scores))


@pytest.mark.parametrize("ties", [False, True])
def test_an_influence_is_what_a_little_more_weight_changes(ties):
    labels, scores = drawn(60, ties)
    value, influences = average_precision(labels, scores)
    step = 1e-6
    for i in range(0, 60, 7):
        weights = np.ones(60)
        weights[i] += step
        change = oracle.average_precision_score(labels, scores, sample_weight=weights) - value
        few = np.sqrt(labels.sum() / (labels.sum() - 1)) if labels[i] else 1
        assert influences[i] == pytest.approx(few * change / step, abs=1e-4)


def test_average_precision_is_covered():
    rng, shift, covered, times = np.random.default_rng(1), 1.5, 0, 600
    many = rng.random(400_000) < 0.4
    exact = oracle.average_precision_score(many, rng.normal(size=len(many)) + shift * many)
    for _ in range(times):
        labels = rng.random(200) < 0.4
        value, influences = average_precision(labels, rng.normal(size=200) + shift * labels)
        low, high = on_logit_scale(value, spread(influences))
        covered += low <= exact <= high
    assert 0.93 <= covered / times <= 0.975
    assert exact < norm.cdf(shift / np.sqrt(2))  # not the area under ROC by mistake


def test_risk_and_coverage_by_hand():
    found = risk_coverage(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, True, False, True]))
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert found.confidence.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert found.area.value == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_equal_confidence_means_any_order():
    found = risk_coverage(np.full(4, 0.7), np.array([True, False, False, True]))
    assert found.risk == pytest.approx([0.5] * 4)


def test_the_area_under_risk_and_coverage_is_covered():
    rng, covered, times = np.random.default_rng(2), 0, 600
    confidence = rng.beta(4, 1.2, 400_000)
    exact = risk_coverage(confidence, rng.random(len(confidence)) < confidence).area.value
    for _ in range(times):
        confidence = rng.beta(4, 1.2, 200)
        area = risk_coverage(confidence, rng.random(200) < confidence).area
        covered += area.low <= exact <= area.high
    assert 0.92 <= covered / times <= 0.975


def test_each_class_has_its_areas_and_curves_and_the_means_are_theirs():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 200)
    logits = rng.normal(size=(200, 5))
    logits[np.arange(200), labels] += 1
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    areas, curves, means = class_curves(tuple("abcde"), labels, p.T.__getitem__, None)
    assert sorted(areas) == [0, 1, 2, 3] and sorted(curve.name for curve in curves) == list("abcd")
    precision = [curve.average_precision.value for curve in curves]
    assert precision == sorted(precision)  # the worst first
    truth = np.eye(4)[labels]
    assert means["mean_average_precision"].value == pytest.approx(
        oracle.average_precision_score(truth, p[:, :4], average="macro")
    )
    assert means["roc_auc"].value == pytest.approx(oracle.roc_auc_score(truth, p[:, :4], average="macro"))
    for curve in curves:
        assert np.trapezoid(curve.roc.y, curve.roc.x) == pytest.approx(curve.roc_auc.value, abs=1e-9)
        assert curve.precision_recall.x[0] == 0 and curve.precision_recall.x[-1] == 1


def test_curves_are_thin_and_few():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, CURVES + 5, 3000)
    p = rng.dirichlet(np.ones(CURVES + 5), 3000)
    areas, curves, _ = class_curves(tuple(map(str, range(CURVES + 5))), labels, p.T.__getitem__, None)
    assert len(areas) == CURVES + 5 and len(curves) == CURVES
    assert max(len(curve.roc.x) for curve in curves) <= POINTS
    worst = min(areas, key=lambda code: areas[code][1].value)
    assert str(worst) in {curve.name for curve in curves}


def test_images_in_groups_widen_the_interval():
    labels, scores = drawn(200, ties=False)
    twice = class_curves(
        ("no", "yes"), np.repeat(labels, 2).astype(int), _two(np.repeat(scores, 2)), np.repeat(np.arange(200), 2)
    )
    once = class_curves(("no", "yes"), labels.astype(int), _two(scores), None)
    for name in ("roc_auc", "mean_average_precision"):
        doubled, single = twice[2][name], once[2][name]
        assert doubled.groups == 200 and doubled.n == 400
        assert doubled.high - doubled.low == pytest.approx(single.high - single.low, rel=0.03)


def _two(scores):
    positive = 1 / (1 + np.exp(-scores))
    return np.stack([1 - positive, positive]).__getitem__


@pytest.mark.parametrize("kind", ["continuous", "in tenths", "float32"])
def test_points_of_curves_are_those_of_scikit_learn(kind):
    for seed in range(40):
        random = np.random.default_rng(seed)
        scores = random.random(int(random.integers(2, 200)))
        scores = {"continuous": scores, "in tenths": scores.round(1), "float32": scores.astype(np.float32)}[kind]
        positive = random.random(len(scores)) < random.random()
        positive[0], positive[-1] = True, False
        false, true, _ = oracle.roc_curve(positive, scores)
        precision, recall, _ = oracle.precision_recall_curve(positive, scores)
        expected = (false, true, recall[::-1], precision[::-1])
        for found, due in zip(curves_of(positive, scores), expected, strict=True):
            np.testing.assert_array_equal(found, due)
