import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.training.test_probe import floored
from tlkit.classifier.answers import sigmoid
from tlkit.data.folds import stratified_by_labels
from tlkit.training.probe import FALLBACK, STRENGTHS, fit_one_vs_rest


def drawn(images=200, width=12, classes=4, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(images, width)).astype(np.float32)
    chances = 1 / (1 + np.exp(-(features @ random.normal(size=(width, classes)) - 0.5)))
    return features * 40 + 9, (random.random((images, classes)) < chances).astype(np.int8)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_each_class_is_the_logistic_regression_of_scikit_learn_on_raw_features(strength):
    features, targets = drawn()
    probe = fit_one_vs_rest([features], targets, units=np.arange(200), strength=strength)
    logits = features @ probe.kernel + probe.bias
    for label in range(4):
        oracle = make_pipeline(floored(features), LogisticRegression(C=strength, max_iter=1000, tol=1e-8))
        oracle.fit(features, targets[:, label])
        np.testing.assert_allclose(sigmoid(logits)[:, label], oracle.predict_proba(features)[:, 1], atol=2e-3)


def test_repeating_every_image_as_a_view_changes_nothing():
    features, targets = drawn()
    one = fit_one_vs_rest([features], targets, units=np.arange(200), strength=0.1)
    three = fit_one_vs_rest([features] * 3, targets, units=np.arange(200), strength=0.1)
    np.testing.assert_allclose(one.kernel, three.kernel, atol=2e-3 * np.abs(one.kernel).max())


def test_a_class_that_none_or_all_have_keeps_its_rate():
    features, targets = drawn()
    targets[:, 0], targets[:, 1] = 0, 1
    probe = fit_one_vs_rest([features], targets, units=np.arange(200), strength=1.0)
    assert (probe.kernel[:, :2] == 0).all() and np.isfinite(probe.bias).all()
    np.testing.assert_allclose(sigmoid(probe.bias[None, :2]), [[0.5 / 201, 200.5 / 201]], rtol=1e-4)


def test_the_penalty_is_chosen_by_held_out_loss():
    features, targets = drawn(300)
    probe = fit_one_vs_rest([features], targets, units=np.arange(300), seed=1)
    assert probe.strength == min(probe.scores, key=probe.scores.get) and "5-fold" in probe.rule
    assert probe.held_out.shape == (300, 4)
    noise = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    assert fit_one_vs_rest([noise], targets, units=np.arange(300)).strength <= STRENGTHS[2] <= probe.strength
    alone = fit_one_vs_rest([features[:1]], targets[:1], units=np.zeros(1, int))
    assert alone.strength == FALLBACK and not alone.scores and "too few" in alone.rule


def test_folds_keep_units_whole_and_share_classes_out():
    random = np.random.default_rng(2)
    targets = (random.random((300, 5)) < [0.02, 0.1, 0.3, 0.6, 0.05]).astype(np.int8)
    units = random.integers(0, 120, 300)
    folds = stratified_by_labels(targets, units, seed=0)
    assert np.array_equal(np.sum(folds, axis=0), np.ones(300))
    for unit in np.unique(units):
        assert sum(fold[units == unit].any() for fold in folds) == 1
    shares = np.array([targets[fold].sum(axis=0) for fold in folds])
    assert (np.abs(shares - targets.sum(axis=0) / 5) <= 4).all()
    assert not stratified_by_labels(targets[:1], units[:1], seed=0)
