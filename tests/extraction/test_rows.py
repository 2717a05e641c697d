import numpy as np
import pytest

from tlkit.extraction import store as module
from tlkit.extraction.store import Appender, Rows, look_up, open_space, pooled

RANDOM = np.random.default_rng(5)
KEYS = RANDOM.integers(0, 256, (40, 32), np.uint8)
GRIDS = RANDOM.normal(2, 3, (40, 3, 4, 5)).astype(np.float32)


@pytest.fixture(params=["in memory", "float32", "float16"])
def rows(request, empty_cache):
    """The same features, in memory and in the store."""
    if request.param == "in memory":
        return Rows(GRIDS)
    space = open_space({"output": "grid", "stored": request.param})
    for part in np.array_split(np.arange(40), 3):  # in three shards
        with Appender(space) as appender:
            appender.append(KEYS[part], GRIDS[part])
    return Rows(look_up(space, KEYS))


def test_rows_are_single_precision_wherever_they_are(rows):
    assert rows.shape == GRIDS.shape and len(rows) == 40 and not rows.lacking.any()
    assert rows[:].dtype == np.float32
    np.testing.assert_allclose(rows[:], GRIDS, rtol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_selection_of_a_selection_is_one_selection(rows, seed):
    random = np.random.default_rng(seed)
    first, positions = random.integers(0, 40, 25), random.integers(0, 12, 7)
    second = random.integers(0, 25, 12)
    chosen = rows.select(first).select(second)
    assert chosen.shape == (12, 3, 4, 5)
    np.testing.assert_array_equal(chosen[positions], rows[first[second[positions]]])
    np.testing.assert_array_equal(chosen.pooled(), rows.pooled()[first[second]])
    np.testing.assert_array_equal(chosen.flat(), rows.flat()[first[second]])


def test_flat_keeps_every_number_and_pooled_the_mean_of_the_cells(rows):
    np.testing.assert_array_equal(rows.flat().reshape(GRIDS.shape), rows[:])
    np.testing.assert_allclose(rows.pooled(), rows[:].astype(np.float64).mean(axis=(1, 2)), atol=1e-5)
    assert rows.pooled().dtype == rows.flat().dtype == np.float32


def test_pooling_in_blocks_changes_nothing(rows, monkeypatch):
    whole = rows.pooled()
    monkeypatch.setattr(module, "BLOCK", 7)
    np.testing.assert_array_equal(rows.pooled(), whole)


def test_vectors_are_pooled_already():
    vectors = GRIDS[:, 0, 0]
    np.testing.assert_array_equal(Rows(vectors).pooled(), vectors)
    np.testing.assert_array_equal(pooled(GRIDS[:, 0]), GRIDS[:, 0].mean(axis=1))


def test_rows_that_are_lacking_are_left_out_or_refused(empty_cache):
    space = open_space({"output": "grid"})
    with Appender(space) as appender:
        appender.append(KEYS[::2], GRIDS[::2])
    rows = Rows(look_up(space, KEYS))
    assert rows.lacking.tolist() == [False, True] * 20
    np.testing.assert_array_equal(rows.present()[:], GRIDS[::2])
    with pytest.raises(KeyError):
        rows[np.array([0, 1])]
