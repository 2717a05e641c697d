"""Numbers: conformal intervals by hand and by simulation, quantiles, units, and how they are written."""

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.tasks.number import NUMBER, finite
from tlkit.tasks.registry import of_columns, of_truth


def test_the_margin_is_the_error_at_its_place_from_the_least_on():
    """n = 19: ceil(0.95 x 20) = 19, the largest; n = 39: ceil(0.95 x 40) = 38, the second largest; 18: none is finite."""
    truth = np.zeros((39, 1))
    said = np.arange(1.0, 40.0)[:, None] * np.where(np.arange(39) % 2, 1, -1)[:, None]
    assert NUMBER.margins(said[:19], truth[:19]) == (19.0,)
    assert NUMBER.margins(said, truth) == (38.0,)
    assert NUMBER.margins(said[:18], truth[:18]) is None
    assert NUMBER.margins(np.full((30, 1), np.nan), truth[:30]) is None


def test_intervals_hold_what_they_promise_whatever_the_distribution():
    random, held = np.random.default_rng(0), []
    for _ in range(400):
        errors = random.standard_t(2, (60, 1)) ** 3  # heavy tails
        (margin,) = NUMBER.margins(errors[:40], np.zeros((40, 1)))
        held.append((np.abs(errors[40:]) <= margin).mean())
    assert 0.94 < np.mean(held) < 0.985  # 0.95 to 0.95 + 1/41


def test_each_number_has_a_margin_of_its_own():
    said = np.column_stack([np.arange(19.0), 10 * np.arange(19.0)])
    assert NUMBER.margins(said, np.zeros((19, 2))) == (18.0, 180.0)


def test_strata_are_quantiles_and_equal_numbers_stay_together():
    truth = np.random.default_rng(0).permutation(200.0 * np.arange(100))[:, None]
    strata = NUMBER.strata(truth)
    assert np.bincount(strata).tolist() == [10] * 10
    for code in range(9):
        assert truth[strata == code].max() < truth[strata == code + 1].min()
    counts = np.repeat([0.0, 1.0, 2.0], [60, 30, 10])[:, None]
    assert len({tuple(np.unique(NUMBER.strata(counts)[counts[:, 0] == value])) for value in (0, 1, 2)}) == 3
    assert NUMBER.strata(np.array([[1.0], [np.nan], [2.0]])).tolist() == [0, -1, 0]
    assert NUMBER.strata(np.empty((0, 1))).tolist() == []


def test_units_are_those_of_the_training_images_and_come_back():
    truth = np.random.default_rng(0).normal((5000, 3), (20, 0.1), (50, 2))
    truth[:, 1] = 3.0  # never changes
    scale = NUMBER.scale(truth)
    learned = scale.apply(truth)
    assert learned[:, 0].std() == pytest.approx(1) and scale.unit[1] == 1
    np.testing.assert_allclose(scale.restore(learned), truth, rtol=1e-6)


def test_written_numbers_are_the_very_same():
    truth = np.array([[0.1, 1e300], [-3.0, 2.0000000000000004]])
    texts = [NUMBER.write(row, ("a", "b")) for row in truth]
    assert texts[1] == "-3.0|2.0000000000000004"
    np.testing.assert_array_equal(NUMBER.read([*texts, ""], ("a", "b"))[1][:2], truth)
    assert NUMBER.known(NUMBER.read([*texts, ""], ("a", "b"))[1]).tolist() == [True, True, False]
    assert of_truth(truth) is NUMBER and of_columns(["path", "low", "high"]) is NUMBER
    assert len(np.unique(NUMBER.as_bytes(truth), axis=0)) == 2


@pytest.mark.parametrize(
    ("text", "hint"), [("0,5", "0.5"), ("nan", "12.5"), ("inf", "12.5"), ("", "12.5"), ("x", "12.5")]
)
def test_what_is_no_number_is_refused_with_its_place(text, hint):
    with pytest.raises(TlkitError, match=r"row 7 of 'a\.csv'") as caught:
        finite(text, "row 7 of 'a.csv'")
    assert hint in caught.value.hint


def test_a_corrected_number_is_read():
    assert NUMBER.parsed("12.5|3", ("a", "b"), "line 2").tolist() == [12.5, 3.0]
    with pytest.raises(TlkitError, match="2 numbers are expected"):
        NUMBER.parsed("12.5", ("a", "b"), "line 2")


def test_an_answer_has_each_number_with_its_interval():
    said = NUMBER.answer(np.array([2.0]), np.array([2.0]), 0, ("age",), (0.5,))
    assert said == {"numbers": [{"name": "age", "value": 2.0, "low": 1.5, "high": 2.5}]}
    assert NUMBER.answer(np.array([2.0]), np.array([2.0]), 0, ("age",), None) == {
        "numbers": [{"name": "age", "value": 2.0}]
    }
    assert NUMBER.beside(np.array([2.0, 3.0]), 0, (0.5, 1.0)) == ["1.5|2", "2.5|4"]
    assert NUMBER.beside(np.array([2.0]), 0, None) == ["", ""]


def test_what_a_batch_scores_is_what_the_numbers_score():
    random = np.random.default_rng(1)
    logits, truth = random.normal(0, 1, (20, 2)).astype(np.float32), random.normal(0, 1, (20, 2))
    weights = np.where(np.arange(20) < 15, 1.3, 0.0).astype(np.float32)
    found = float(NUMBER.hits(logits, truth.astype(np.float32), weights))
    assert found == pytest.approx(NUMBER.scores(logits, truth)[:15].sum(), rel=1e-4)


def test_two_networks_say_the_same_within_a_hundredth_of_the_spread():
    said = np.array([[0.0], [100.0], [50.0]])
    assert NUMBER.same(said + 0.3, said).all() and not NUMBER.same(said + 1.0, said).any()


def test_runtimes_are_held_to_a_share_of_the_spread_whatever_the_unit():
    said = np.random.default_rng(0).normal(0, 1, (12, 2))
    for unit, centre in ((1e-6, 0.0), (1e6, 0.0), (3.0, 20.0)):
        expected = unit * said + centre
        apart = NUMBER.comparable(expected + 1e-4 * unit, expected) - NUMBER.comparable(expected, expected)
        assert 0.5e-5 < np.abs(apart).max() < 5e-5


@pytest.mark.parametrize(
    ("column", "message", "hint"),
    [
        ([7, 7, 7], "'age' is 7 in every image", "differ"),
        ([1e300, 2e301, 3e300], "too large or too small for float32", "divide the column by 1e+301"),
        ([1e-300, 2e-300, 0], "too large or too small for float32", "divide the column by 1e-300"),
        ([1e9, 1e9 + 7, 1e9 + 14], "1000000000 to 1000000014, differ by less", "subtract"),
        ([1.7e9, 1.71e9, 1.72e9], "", ""),
        ([1e-12, 2e-12, 5e-12], "", ""),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_refused(column, message, hint):
    truth = np.array([column], np.float64).T
    fault = NUMBER.unlearnable(truth, ("age",))
    assert message in str(fault) and hint in fault.hint if message else fault is None
    assert message or np.allclose(NUMBER.scale(truth).apply(truth).std(), 1)
