import numpy as np
import pytest

from tlkit.ranking import curve
from tlkit.ranking.curve import Measured, class_gains, first_class, fit_law, forecast, measure, why_not

SIZES = np.array([100.0, 200.0, 400.0, 800.0])


def measured(accuracy, noise=0.0, recall=None, seed=0):
    """Ten folds around an accuracy for each size."""
    random = np.random.default_rng(seed)
    rows = np.asarray(accuracy) + noise * random.normal(size=(10, len(accuracy)))
    recall = np.repeat(rows[:, :, None], 2, axis=2) if recall is None else np.tile(recall, (10, 1, 1))
    return Measured(SIZES, rows, recall, folds=5, images=1000)


@pytest.mark.parametrize(("floor", "reducible", "rate"), [(0.05, 0.2, 0.6), (0.0, 0.3, 0.35), (0.12, 0.1, 1.0)])
def test_a_power_law_is_found_again(floor, reducible, rate):
    law = fit_law(SIZES, floor + reducible * (SIZES / 800) ** -rate, np.full(4, 0.005))
    for images in (800, 2000, 5000):
        assert law.accuracy(images) == pytest.approx(1 - floor - reducible * (images / 800) ** -rate, abs=0.004)


def test_one_odd_point_does_not_bend_the_law():
    errors = 0.05 + 0.2 * (SIZES / 800) ** -0.5
    errors[1] += 0.05
    law = fit_law(SIZES, errors, np.full(4, 0.003))
    assert law.accuracy(2000) == pytest.approx(1 - 0.05 - 0.2 * 2.5**-0.5, abs=0.03)


def test_the_law_stays_within_its_bounds():
    law = fit_law(SIZES, np.array([0.5, 0.6, 0.7, 0.9]), np.full(4, 0.01))
    assert law.floor >= 0 and law.reducible >= 0 and 0.1 <= law.rate <= 1.5 and 0 <= law.accuracy(1e6) <= 1


def test_the_interval_holds_the_truth_and_widens_away_from_the_data(monkeypatch):
    monkeypatch.setattr(curve, "DRAWS", 60)
    truth = lambda images: 0.9 - 0.2 * (images / 800) ** -0.5  # noqa: E731
    held = 0
    for seed in range(6):
        _, (near, far) = forecast(measured(truth(SIZES), noise=0.01, seed=seed), [1000.0, 5000.0], seed)
        assert near.low <= near.value <= near.high and near.high - near.low < far.high - far.low
        held += far.low <= truth(5000) <= far.high
    assert held >= 5


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        ((0.7, 0.7, 0.7, 0.7), "no trend"),
        ((0.8, 0.75, 0.7, 0.7), "no trend"),
        ((0.99, 1.0, 1.0, 1.0), "100.0 % already"),
    ],
)
def test_a_curve_that_does_not_rise_is_not_carried_on(accuracy, reason):
    assert reason in why_not(measured(accuracy))


def test_too_few_images_for_a_curve_are_said():
    random = np.random.default_rng(0)
    found = measure(random.normal(size=(4, 3)), np.array([0, 0, 1, 1]), np.arange(4), 2, seed=0)
    assert "too few images" in why_not(found)


def test_parts_grow_within_each_other_and_are_judged_on_images_left_out(monkeypatch):
    labels, units = np.repeat([0, 1], [80, 20]), np.arange(100) // 2
    seen = []

    def said(features, targets, part, held):
        seen.append((set(part.tolist()), set(held.tolist())))
        return targets[held] - 0.5

    monkeypatch.setattr(curve, "_said", said)
    found = measure(np.zeros((100, 2)), labels, units, 2, seed=0)
    assert found.sizes == pytest.approx([10, 20, 40, 80], abs=2)
    for start in range(0, len(seen), 4):
        parts = [part for part, _ in seen[start : start + 4]]
        assert parts[0] < parts[1] < parts[2] < parts[3]
        assert not {i // 2 for i in parts[3]} & {i // 2 for i in seen[start][1]}  # pairs stay on one side
        assert np.bincount(labels[sorted(parts[0])], minlength=2).tolist() == pytest.approx([8, 2], abs=1)


def test_accuracy_rises_with_images_that_tell_the_classes_apart():
    random = np.random.default_rng(3)
    labels = np.arange(300) % 3
    features = random.normal(size=(300, 40)) + 0.35 * random.normal(size=(3, 40))[labels]
    found = measure(features, labels, np.arange(300), 3, seed=0)
    assert found.accuracy.mean(axis=0)[-1] > found.accuracy.mean(axis=0)[0] + 0.1 and why_not(found) == ""


def test_with_several_labels_f1_rises_and_every_label_has_its_recall():
    random = np.random.default_rng(5)
    targets = (random.random((300, 3)) < (0.5, 0.3, 0.1)).astype(np.int8)
    features = random.normal(size=(300, 40)) + 0.4 * targets @ random.normal(size=(3, 40))
    found = measure(features, targets, np.arange(300), 3, seed=0)
    assert found.accuracy.mean(axis=0)[-1] > found.accuracy.mean(axis=0)[0] + 0.1 and why_not(found) == ""
    recall = np.nanmean(found.recall[:, -1], axis=0)
    assert recall[0] > recall[2] > 0.1  # a rare label is missed more often


def test_images_that_all_have_the_same_labels_are_answered_alike():
    targets = np.array([[1, 0]] * 6 + [[1, 1]] * 2, np.int8)
    scores = curve._said(np.zeros((8, 2)), targets.astype(float), np.arange(4), np.array([5, 7]))
    assert (scores == [[0.5, -0.5]] * 2).all()
    assert curve._recall(scores, targets[[5, 7]], targets[[5, 7]].astype(float)).tolist() == [1.0, 0.0]


def test_first_comes_the_class_that_lacks_most_and_gains_most():
    recall = np.array([[0.90, 0.30], [0.92, 0.40], [0.94, 0.50], [0.96, 0.60]])
    gains = class_gains(measured([0.6] * 4, recall=recall), ("easy", "hard"), np.array([50, 40]))
    assert [one.name for one in gains] == ["hard", "easy"]
    assert (gains[0].recall, gains[0].gain) == pytest.approx((0.6, 0.1))
    first, advice = first_class(gains)
    assert first == "hard" and "'hard'" in advice and "rule" in advice


def test_curves_that_do_not_tell_name_the_lowest_recall_and_no_first_class():
    recall = np.array([[0.9, 0.5]] * 4)
    first, advice = first_class(class_gains(measured([0.7] * 4, recall=recall), ("easy", "hard"), np.array([50, 40])))
    assert first is None and "'hard' has the lowest recall" in advice
