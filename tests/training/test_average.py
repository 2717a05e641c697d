import numpy as np
import pytest

from tlkit.training.choosing import greedy_soup, interpolate, mean

RANDOM = np.random.default_rng(0)


def weights(*values):
    return [np.array(value, np.float32) for value in values]


def test_between_two_networks_by_hand():
    first, second = weights([0.0, 4.0], 1.0), weights([2.0, 0.0], 3.0)
    for alpha, expected in ((0, first), (0.25, weights([0.5, 3.0], 1.5)), (1, second)):
        found = interpolate(first, second, alpha)
        assert [one.tolist() for one in found] == [one.tolist() for one in expected]
        assert all(one.dtype == np.float32 for one in found)


def test_what_did_not_move_comes_out_bit_for_bit():
    frozen = RANDOM.normal(size=1000).astype(np.float32)
    for alpha in (0.25, 0.5, 0.75):
        np.testing.assert_array_equal(interpolate([frozen], [frozen.copy()], alpha)[0], frozen)
    np.testing.assert_array_equal(mean([[frozen], [frozen.copy()], [frozen.copy()]])[0], frozen)


def test_whole_numbers_have_nothing_between_them():
    counter = np.array([1, 7], np.int64)
    assert interpolate([counter], [counter + 3], 0.5)[0].tolist() == [1, 7]
    assert mean([[counter], [counter + 3]])[0].tolist() == [1, 7]


def test_the_mean_by_hand():
    assert mean([weights([1.0, 2.0]), weights([3.0, 4.0]), weights([5.0, 0.0])])[0].tolist() == [3.0, 2.0]


@pytest.mark.parametrize(
    ("offered", "count", "kept"),
    [
        ([1.0, 3.0], 2, 2.0),  # the mean, 2, is the best there is
        ([2.0, 8.0], 1, 2.0),  # 5 would be worse: left out
        ([1.0, 9.0, 3.0], 2, 2.0),  # the second is left out, the third joins
        ([1.5], 1, 1.5),
    ],
)
def test_a_soup_takes_what_does_it_good(offered, count, kept):
    found, taken = greedy_soup(([np.float32([value])] for value in offered), lambda given: (0.0, -abs(given[0][0] - 2)))
    assert taken == count and found[0].tolist() == [kept]
