"""Features drawn for rare classes: checked against imbalanced-learn, hand-computed cases, numerical gradients."""

import numpy as np
import pytest

from tests.training.test_balance import unequal
from tlkit.base.errors import TlkitError
from tlkit.options import catalog
from tlkit.training.balance import solve
from tlkit.training.synthesis import draw, gan
from tlkit.training.synthesis.draw import draw_gaussian, draw_smote, wanted

SYNTHESIZERS = {"smote": draw_smote, "gaussian": draw_gaussian, "gan": gan.draw_gan}


def test_what_is_lacking_by_hand():
    assert wanted(np.array([0, 0, 0, 2, 2, 0])).tolist() == [2, 2]
    assert wanted(np.array([1, 0])).tolist() == []


@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_every_class_becomes_as_large_as_the_largest(name, monkeypatch):
    if name == "smote":
        pytest.importorskip("imblearn")
    monkeypatch.setattr(gan, "STEPS", 5)
    features, labels, units = unequal(counts=(40, 12, 1))
    more, named = SYNTHESIZERS[name](features, labels, 0)
    assert np.bincount(np.concatenate([labels, named])).tolist() == [40, 40, 40]
    assert more.shape == (67, 6) and more.dtype == np.float32 and np.isfinite(more).all()
    again, _ = SYNTHESIZERS[name](features, labels, 0)
    np.testing.assert_array_equal(more, again)
    probe = solve([features], labels, balance=name, units=units)
    assert probe.kernel.shape == (6, 3) and np.isfinite(probe.kernel).all()


def test_smote_is_that_of_imbalanced_learn_and_lies_between_images_of_the_class():
    over = pytest.importorskip("imblearn.over_sampling")
    features, labels, _ = unequal(counts=(30, 8, 8))
    more, named = draw_smote(features, labels, 3)
    expected, names = over.SMOTE(k_neighbors=5, random_state=3).fit_resample(features, labels)
    np.testing.assert_array_equal(np.concatenate([labels, named]), names)
    np.testing.assert_allclose(more, expected[len(labels) :], rtol=1e-6)
    for each in (1, 2):
        own, made = features[labels == each], more[named == each]
        assert (made >= own.min(axis=0) - 1e-5).all() and (made <= own.max(axis=0) + 1e-5).all()


def test_smote_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imblearn.over_sampling", None)
    with pytest.raises(TlkitError, match="imbalanced-learn") as caught:
        draw.draw_smote(*unequal()[:2], 0)
    assert caught.value.hint.startswith("pip install")


def test_gaussian_draws_have_the_mean_of_the_class_and_the_covariance_of_all():
    random = np.random.default_rng(0)
    mixing = random.normal(size=(3, 3))
    labels = np.repeat([0, 1], [4000, 400])
    features = (random.normal(size=(4400, 3)) @ mixing + 5 * labels[:, None]).astype(np.float32)
    more, named = draw_gaussian(features, labels, 0)
    assert set(named) == {1} and len(more) == 3600
    centred = features - np.stack([features[labels == each].mean(axis=0) for each in (0, 1)])[labels]
    np.testing.assert_allclose(more.mean(axis=0), features[labels == 1].mean(axis=0), atol=0.15)
    np.testing.assert_allclose(np.cov(more.T), centred.T @ centred / 4398, atol=0.35)


def test_the_gradients_are_those_of_finite_differences():
    random = np.random.default_rng(0)
    weights = [
        each.astype(np.float64) + random.normal(0, 0.1, each.shape) for each in gan.network((5, 7, 6, 1), random)
    ]
    inputs = random.normal(size=(9, 5))

    def judged():
        return float(gan.forward(weights, inputs).outputs.sum())

    slopes, _ = gan.backward(weights, gan.forward(weights, inputs), np.ones((9, 1)))
    _, penalised = gan.penalty(weights, inputs, 3)
    for measured, found in ((judged, slopes), (lambda: gan.penalty(weights, inputs, 3)[0], penalised)):
        for weight, slope in zip(weights, found, strict=True):
            place, step = tuple(random.integers(size) for size in weight.shape), 1e-6
            weight[place] += step
            above = measured()
            weight[place] -= 2 * step
            below = measured()
            weight[place] += step
            assert slope[place] == pytest.approx((above - below) / (2 * step), abs=1e-5)


def test_the_generator_learns_which_class_is_where():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [120, 20, 8])
    centres = 6 * np.eye(3, 8)
    features = (centres[labels] + random.normal(0, 0.5, (148, 8))).astype(np.float32)
    more, named = SYNTHESIZERS["gan"](features, labels, 0)
    nearest = ((more[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == named).mean() > 0.95
    assert all(more[named == each].std(axis=0).mean() > 0.1 for each in (1, 2))  # not a single point


def test_every_way_has_a_row():
    assert set(SYNTHESIZERS) == set(catalog.SYNTHESIZERS) <= set(catalog.BALANCES)
