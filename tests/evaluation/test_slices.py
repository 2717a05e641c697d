"""Slices: weak ones are found, others are not, and corrections are those of the textbook."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from tlkit.evaluation.class_measures import holm, slices


def test_a_planted_failure_is_found_and_chance_is_not():
    rng = np.random.default_rng(0)
    camera = np.where(rng.random(400) < 0.2, "phone", "camera").tolist()
    correct = rng.random(400) < np.where(np.array(camera) == "phone", 0.6, 0.95)
    noise = {f"column {i}": rng.integers(0, 3, 400).astype(float) for i in range(10)}
    found = slices({"camera": camera, **noise}, correct)
    assert [(row.column, row.value) for row in found if row.worse] == [("camera", "phone")]
    assert found[0].accuracy.n == camera.count("phone") and found[0].accuracy.high < found[0].rest.low
    assert len(found) == 2 + 30


def test_p_values_are_fishers_corrected_by_holm():
    correct = np.arange(100) < 80
    found = slices({"half": ["late" if i >= 60 else "early" for i in range(100)]}, correct)
    late = next(row for row in found if row.value == "late")
    expected = fisher_exact([[20, 20], [60, 0]], alternative="less").pvalue
    assert late.p_value == pytest.approx(2 * expected)
    assert late.accuracy.value == 0.5 and late.rest.value == 1.0


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([])).tolist() == []
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_many_numbers_are_cut_into_thirds_and_classes_called_by_numbers_are_not():
    correct = np.ones(90, bool)
    found = slices({"size": [str(i) for i in range(90)]}, correct)
    assert {row.value for row in found} == {"up to 29.67", "29.67 to 59.33", "above 59.33"}
    names = np.array([str(i % 15) for i in range(900)], dtype=object)
    assert len(slices({"class": names}, np.ones(900, bool))) == 15


def test_small_slices_and_missing_values_say_nothing():
    correct = np.ones(100, bool)
    values = np.full(100, np.nan)
    values[:9] = 1
    assert slices({"rare": values, "text": [""] * 95 + ["x"] * 5, "all": ["y"] * 100}, correct) == ()


def test_a_group_that_fails_as_a_whole_is_one_failure():
    """One clip of 25 images that all fail is no evidence that such images are hard."""
    groups = np.repeat(np.arange(16), 25)
    night = np.isin(groups, (0, 1))
    correct = groups != 0
    column = {"light": np.where(night, "night", "day").tolist()}
    assert next(row for row in slices(column, correct) if row.value == "night").worse
    assert not any(row.worse for row in slices(column, correct, groups))
