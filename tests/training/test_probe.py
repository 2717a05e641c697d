import itertools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tlkit.classifier.answers import softmax
from tlkit.data.folds import stratified
from tlkit.training import probe
from tlkit.training.logistic import solvers
from tlkit.training.probe import FALLBACK, STRENGTHS, fit_probe


def blobs(classes, count=30, width=8, spread=1.5, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), count)
    centres = random.normal(0, 1, (classes, width))
    features = centres[labels] + random.normal(0, spread, (len(labels), width))
    return (features * 50 + 7).astype(np.float32), labels


def floored(features):
    """A step for scikit-learn: features over their deviation, but over no less than the median of all."""
    deviation = features.std(axis=0)
    return FunctionTransformer(
        lambda rows: (rows - features.mean(axis=0)) / np.maximum(deviation, np.median(deviation))
    )


def test_a_feature_that_hardly_moves_is_not_blown_up():
    features, labels = blobs(2)
    features[:, 0] *= 1e-3
    kernel = fit_probe([features], labels, units=np.arange(len(labels)), strength=1.0).kernel
    assert np.abs(kernel[0]).max() < 2 * np.abs(kernel[1:]).max()


@pytest.mark.parametrize("classes", [2, 4])
def test_the_head_gives_the_probabilities_of_scikit_learn_on_raw_features(classes):
    features, labels = blobs(classes)
    probe = fit_probe([features], labels, units=np.arange(len(labels)), strength=0.1)
    oracle = make_pipeline(floored(features), LogisticRegression(C=0.1, max_iter=1000)).fit(features, labels)
    logits = features @ probe.kernel + probe.bias
    np.testing.assert_allclose(softmax(logits), oracle.predict_proba(features), atol=2e-3)


def test_repeating_every_image_as_a_view_changes_nothing():
    features, labels = blobs(3)
    units = np.arange(len(labels))
    one = fit_probe([features], labels, units=units, strength=0.1)
    three = fit_probe([features] * 3, labels, units=units, strength=0.1)
    np.testing.assert_allclose(one.kernel, three.kernel, atol=1e-3 * np.abs(one.kernel).max())


def test_noise_is_penalised_more_than_signal():
    features, labels = blobs(2, spread=0.3, width=40)
    noise = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    units = np.arange(len(labels))
    signal_strength = fit_probe([features], labels, units=units).strength
    assert fit_probe([noise], labels, units=units).strength <= STRENGTHS[2] < signal_strength


def test_a_constant_feature_does_no_harm():
    features, labels = blobs(2)
    features[:, 0] = 255.0
    probe = fit_probe([features], labels, units=np.arange(len(labels)), strength=1.0)
    assert np.isfinite(probe.kernel).all() and np.isfinite(probe.bias).all()


def test_two_images_a_class_still_train_and_one_falls_back():
    features, labels = blobs(3, count=2, spread=0.1)
    assert fit_probe([features], labels, units=np.arange(6)).scores
    probe = fit_probe([features[::2]], labels[::2], units=np.arange(3))
    assert probe.strength == FALLBACK and "too few" in probe.rule


def test_images_of_a_unit_share_a_fold_and_every_class_is_always_trained():
    labels = np.repeat([0, 1], 20)
    units = np.repeat(np.arange(10), 4)
    folds = stratified(labels, units, seed=0)
    assert len(folds) == 5
    for held in folds:
        for unit in np.unique(units):
            assert len(np.unique(held[units == unit])) == 1
        assert len(np.unique(labels[~held])) == 2


def test_weights_move_the_boundary_towards_the_rare_class():
    features, labels = blobs(2, spread=3.0)
    keep = np.r_[np.arange(30), np.arange(30, 36)]
    features, labels = features[keep], labels[keep]
    weights = np.where(labels == 1, 5.0, 1.0).astype(np.float32)
    units = np.arange(len(labels))
    plain = fit_probe([features], labels, units=units, strength=0.01)
    weighted = fit_probe([features], labels, units=units, strength=0.01, weights=weights)
    chosen = [(features @ probe.kernel + probe.bias).argmax(axis=1).sum() for probe in (plain, weighted)]
    assert chosen[1] > chosen[0]


# -- many coefficients ---


def many_classes(count=90, each=4, width=40):
    """Features of many classes with few images, and weights."""
    random = np.random.default_rng(0)
    labels = np.arange(count * each) % count
    features = random.normal(0, 1, (count, width))[labels] + random.normal(0, 1.2, (len(labels), width))
    return features.astype(np.float32), labels, random.uniform(0.5, 2, len(labels)).astype(np.float32)


@pytest.mark.parametrize("strength", [1e-3, 1e-1, 10.0])
def test_many_coefficients_are_those_of_scikit_learn(strength, monkeypatch):
    features, labels, weights = many_classes()
    plain = probe.logistic_regression(1, strength, 2000, 1e-6).fit(features, labels, sample_weight=weights)
    monkeypatch.setattr(solvers, "MANY_NUMBERS", 0)
    ours = probe.logistic_regression(1, strength, 2000, 1e-6).fit(features, labels, sample_weight=weights)
    assert type(ours) is not type(plain)
    np.testing.assert_allclose(ours.coef_, plain.coef_, atol=5e-3 * np.abs(plain.coef_).max())
    np.testing.assert_array_equal(ours.classes_, plain.classes_)


def test_images_that_are_taken_in_turn_have_the_slopes_of_all_together(monkeypatch):
    features, labels, weights = many_classes()
    whole = solvers.ManyClasses(0.1, 2000, 1e-6).fit(features, labels, weights)
    monkeypatch.setattr(solvers, "LOGITS", 90 * 7)  # seven images of 360
    parts = solvers.ManyClasses(0.1, 2000, 1e-6).fit(features, labels, weights)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=1e-3 * np.abs(whole.coef_).max())


def test_of_very_many_coefficients_the_penalty_is_chosen_on_some_classes_and_the_head_solved_on_all(monkeypatch):
    features, labels, _ = many_classes(each=6)
    monkeypatch.setattr(probe, "COMPARED", len(labels) * 40 * 90 // 9)  # a third of the classes, and so of the images
    found = fit_probe([features], labels, units=np.arange(len(labels)))
    assert "of 30 of 90 classes, 180 images" in found.rule and found.held_out is None
    given = fit_probe([features], labels, units=np.arange(len(labels)), strength=found.strength)
    np.testing.assert_array_equal(found.kernel, given.kernel)


def test_the_next_search_starts_from_the_last_one(monkeypatch):
    features, labels, weights = many_classes()
    monkeypatch.setattr(solvers, "MANY_NUMBERS", 0)
    solver = probe.logistic_regression(1, 1.0, 2000, 1e-6)
    first = solver.fit(features, labels, sample_weight=weights).coef_.copy()
    solver.iterations = 1
    np.testing.assert_allclose(solver.fit(features, labels, sample_weight=weights).coef_, first, atol=1e-3)


def test_descending_a_bowl_by_hand():
    """The least of (x - 3)² + 10 (y + 1)² is at (3, -1)."""
    bowl = lambda at: (  # noqa: E731
        float((at[0] - 3) ** 2 + 10 * (at[1] + 1) ** 2),
        np.array([2 * (at[0] - 3), 20 * (at[1] + 1)], np.float32),
    )
    np.testing.assert_allclose(solvers.descend(bowl, np.zeros(2, np.float32), 50, 1e-4), [3, -1], atol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("least", [0, 10**9])
def test_more_classes_than_half_the_images_are_solved_in_silence(least, monkeypatch):
    monkeypatch.setattr(solvers, "MANY_NUMBERS", least)
    features, labels, _ = many_classes(each=3)
    heard = []
    found = probe.fit_probe([features], labels, units=np.arange(len(labels)), heard=heard.append)
    assert found.kernel.shape == (40, 90)
    assert heard == sorted(heard) and 0 < heard[0] < heard[-1] <= 1


def test_of_very_many_images_as_many_are_held_out_as_are_enough(monkeypatch):
    monkeypatch.setattr(probe, "ENOUGH", 100)
    features, labels = blobs(3, count=100)
    said = probe.fit_probe([features], labels, units=np.arange(300))
    assert "on 120 of 300 images" in said.rule
    assert np.isfinite(said.held_out).all(axis=1).sum() == 120
    found = probe.validate_probe(features, labels, units=np.arange(300), weights=np.ones(300, np.float32))
    assert np.isnan(found.logits[~np.isfinite(found.logits).all(axis=1)]).all()


def test_seconds_of_solving_are_those_of_its_evaluations(monkeypatch):
    """With a clock that advances a second per call, a step and its start on 4,000 images take one."""
    clock = itertools.count()
    monkeypatch.setattr(probe.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(probe, "usable_cores", lambda: 2)
    near, afresh = 0.5 * probe.EVALUATIONS, 0.5 * probe.AFRESH  # half a second for each evaluation
    ease = (3 * 64 / 4_000) ** 0.5  # of many images for their width
    assert probe.solving_seconds(4_000, 64, 8, 1, chosen=False) == pytest.approx(ease * afresh)
    searched = 4 * len(STRENGTHS) / 2  # two folds at a time
    assert probe.solving_seconds(4_000, 64, 8, 3, chosen=True) == pytest.approx(ease * (searched * near + 3 * afresh))
    assert probe.solving_seconds(4_000, 4_000, 8, 1, chosen=False) == pytest.approx(afresh)
    share, ease = 20_000 / 40_960 * searched, (3 * 64 / 40_960) ** 0.5
    assert probe.solving_seconds(40_960, 64, 8, 1, chosen=True) == pytest.approx(10 * ease * (share * near + afresh))
