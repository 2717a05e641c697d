import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tlkit.ranking import ridge


def blobs(count, width, classes, apart, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return random.normal(size=(count, width)) + apart * random.normal(size=(classes, width))[labels], labels


@pytest.mark.parametrize(("count", "width"), [(60, 8), (40, 90)])
def test_leaving_out_a_fold_is_fitting_without_it(count, width, monkeypatch):
    monkeypatch.setattr(ridge, "PENALTIES", np.array([0.3]))
    features, labels = blobs(count, width, 3, 0.5)
    folds = np.random.default_rng(1).integers(4, size=count)
    found = ridge.spectrum(features)
    expected = np.empty(count, int)
    for fold in range(4):
        held = folds == fold
        fitted = Ridge(alpha=found.penalties[0]).fit(found.standard[~held], np.eye(3)[labels[~held]])
        expected[held] = fitted.predict(found.standard[held]).argmax(axis=1)
    assert np.array_equal(ridge.out_of_fold(found, np.eye(3)[labels], folds).argmax(axis=1), expected)


@pytest.mark.parametrize(("count", "width"), [(60, 8), (40, 90)])
def test_the_penalty_is_the_best_of_leave_one_out(count, width):
    features, labels = blobs(count, width, 3, 0.4)
    others, _ = blobs(50, width, 3, 0.4, seed=5)
    found, targets = ridge.spectrum(features), np.eye(3)[labels]
    errors = []
    for penalty in found.penalties:
        left_out = [
            Ridge(alpha=penalty)
            .fit(np.delete(found.standard, i, 0), np.delete(targets, i, 0))
            .predict(found.standard[[i]])
            for i in range(count)
        ]
        errors.append(((np.concatenate(left_out) - targets) ** 2).sum())
    best = Ridge(alpha=found.penalties[int(np.argmin(errors))]).fit(found.standard, targets)
    expected = best.predict((others - found.mean) / found.deviation).argmax(axis=1)
    assert np.array_equal(ridge.fit_predict(features, targets, others).argmax(axis=1), expected)


def test_columns_that_do_not_vary_are_nothing():
    features, labels = blobs(30, 5, 2, 2.0)
    features[:, 2] = 7.0
    folds = np.arange(30) // 2 % 5
    targets = np.eye(2)[labels]
    with_it = ridge.out_of_fold(ridge.spectrum(features), targets, folds)
    np.testing.assert_allclose(with_it, ridge.out_of_fold(ridge.spectrum(np.delete(features, 2, 1)), targets, folds))
    none = ridge.out_of_fold(ridge.spectrum(np.full((30, 4), 3.0)), targets, folds)
    np.testing.assert_allclose(none, 0.0, atol=1e-9)  # each is half of the others, in every fold


def test_several_labels_are_as_many_questions(monkeypatch):
    monkeypatch.setattr(ridge, "PENALTIES", np.array([0.3]))  # otherwise they have one penalty together
    features, labels = blobs(60, 8, 4, 1.0)
    targets, folds = np.stack([labels % 2, labels >= 2], axis=1).astype(float), np.arange(60) % 5
    found = ridge.spectrum(features)
    for question in range(2):
        alone = ridge.out_of_fold(found, targets[:, [question]], folds)
        np.testing.assert_allclose(ridge.out_of_fold(found, targets, folds)[:, [question]], alone)
    assert ((ridge.out_of_fold(found, targets, folds) > 0) == targets).mean() > 0.75
