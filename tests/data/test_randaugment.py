import numpy as np
import pytest
from PIL import Image

from tlkit.data.views import OPERATIONS, randaugment

IMAGE = np.random.default_rng(0).integers(30, 220, (24, 32, 3), dtype=np.uint8)
STILL = {"identity", "autocontrast", "equalize"}  # have no magnitude


def applied(name, magnitude, image=IMAGE):
    return np.asarray(OPERATIONS[name](Image.fromarray(image), magnitude, (9, 9, 9)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_magnitude_changes_nothing_and_more_of_it_changes_more(name):
    changed = [np.abs(applied(name, size).astype(int) - IMAGE).mean() for size in (0.0, 0.3, 1.0)]
    if name in STILL:
        assert changed[0] == changed[2]
    else:
        assert changed[0] == 0 < changed[1] < changed[2]
    assert applied(name, -0.3).shape == IMAGE.shape and applied(name, -0.3).dtype == np.uint8


@pytest.mark.parametrize(("name", "axis"), [("translate-x", 1), ("translate-y", 0)])
def test_a_shift_is_a_share_of_the_side_and_what_comes_in_is_filled(name, axis):
    moved = np.moveaxis(applied(name, 1.0), axis, 0)
    cells, part = divmod(0.3 * moved.shape[0], 1)
    still = np.moveaxis(IMAGE, axis, 0)[int(cells) :].astype(float)
    between = (1 - part) * still[:-1] + part * still[1:]
    assert (moved[-1] == 9).all()
    np.testing.assert_allclose(moved[: len(between)], between, atol=1)
    assert (np.moveaxis(applied(name, -1.0), axis, 0)[0] == 9).all()


def test_a_shear_leaves_the_middle_where_it_is():
    stripe = np.zeros((21, 21, 3), np.uint8)
    stripe[:, 10] = 255
    sheared = applied("shear-x", 1.0, stripe)[..., 0]
    assert sheared[10].argmax() == 10 and sheared[0].argmax() != 10


def test_operations_come_one_after_the_other_and_from_the_generator_alone():
    one, again = (randaugment(IMAGE, 2, 0.3, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    seen = {randaugment(IMAGE, 1, 0.3, np.random.default_rng(seed)).tobytes() for seed in range(200)}
    assert len(seen) == 2 * len(OPERATIONS) - len(STILL) - 2  # solarize and posterize ignore the sign
