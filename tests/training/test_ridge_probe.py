"""The solved head of numbers: against scikit-learn's ridge, and with folds actually left out."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tlkit.training.probe import standardised
from tlkit.training.ridge_probe import STRENGTHS, cross_validate, fit_ridge, solve


def data(n, width, outputs=2, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(2, 1 + np.arange(width) % 3, (n, width)).astype(np.float32)
    targets = features @ random.normal(0, 0.3, (width, outputs)) + random.normal(0, 1, (n, outputs)) + 7
    return features, targets


@pytest.mark.parametrize("shape", [(80, 10), (30, 60)])
def test_the_solution_is_that_of_scikit_learn(shape):
    features, targets = data(*shape)
    kernel, bias = solve(features, targets, 0.05)
    expected = Ridge(alpha=1 / 0.05).fit(features.astype(np.float64), targets)
    np.testing.assert_allclose(kernel, expected.coef_.T, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(bias, expected.intercept_, rtol=1e-6)


@pytest.mark.parametrize("shape", [(60, 8), (40, 70)])
def test_left_out_is_left_out(shape):
    features, targets = data(*shape)
    fold = np.arange(len(features)) % 4
    found = cross_validate(features, targets, [fold == number for number in range(4)])
    said = np.empty(targets.shape)
    for number in range(4):
        held = fold == number
        model = Ridge(alpha=1 / found.best).fit(features[~held].astype(np.float64), targets[~held])
        said[held] = model.predict(features[held].astype(np.float64))
    np.testing.assert_allclose(found.logits, said, rtol=1e-3, atol=1e-3)
    assert found.scores[found.best] == pytest.approx(((said - targets) ** 2).mean() / 2, rel=1e-5)
    assert set(found.scores) == set(STRENGTHS)


def test_the_head_applies_to_raw_features_and_views_share_their_weight():
    features, targets = data(120, 12)
    one = fit_ridge([features], targets, units=np.arange(120), strength=0.1)
    three = fit_ridge([features] * 3, targets, units=np.arange(120), strength=0.1)
    np.testing.assert_allclose(one.kernel, three.kernel, rtol=1e-3, atol=1e-5)
    standard, _, _ = standardised(features)
    expected = Ridge(alpha=10).fit(standard.astype(np.float64), targets).predict(standard.astype(np.float64))
    np.testing.assert_allclose(features @ one.kernel + one.bias, expected, rtol=1e-3, atol=1e-3)


def test_the_penalty_is_chosen_with_units_kept_whole():
    random = np.random.default_rng(0)
    features, targets = data(90, 6)
    noise = random.normal(0, 1, (90, 200)).astype(np.float32)
    clear = fit_ridge([features], targets, units=np.arange(90))
    vague = fit_ridge([noise], targets, units=np.arange(90))
    assert vague.strength < clear.strength and "5-fold" in clear.rule
    assert np.isfinite(clear.held_out).all()
    assert fit_ridge([features], targets, units=np.zeros(90, int)).rule.endswith("too few images")
