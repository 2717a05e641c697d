"""The heat lands where the network looked, in the photograph itself."""

import numpy as np
import pytest
from PIL import Image

from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode, placement
from tlkit.explanation.pictures import LEAST, heat_on, overlay, panel, shaded, sheet, tiles

SIDE = 64


@pytest.mark.parametrize("size", [(300, 200), (150, 400), (40, 30)], ids=str)
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_a_spot_comes_back_to_where_it_was(fit, size, tmp_path):
    """Paint a spot into a photograph, decode it, take the pixels as heat: the heat lies on the spot."""
    width, height = size
    contract = InputContract(height=SIDE, width=SIDE, fit=fit)
    side = min(size) // 5
    left, top = round(width * 0.55) - side // 2, round(height * 0.4) - side // 2  # crop keeps it too
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[top : top + side, left : left + side] = 255
    Image.fromarray(pixels).save(tmp_path / "spot.png")
    seen = decode(tmp_path / "spot.png", contract)[..., 0] / 255.0
    heat = heat_on(size, seen, tiles((SIDE, SIDE), (SIDE, SIDE)), contract)
    assert heat.shape == (height, width)
    y, x = ((heat.sum(axis=1 - axis) @ (np.arange(heat.shape[axis]) + 0.5)) / heat.sum() for axis in (0, 1))
    assert (x, y) == pytest.approx((left + side / 2, top + side / 2), abs=max(size) / SIDE)
    assert heat[top + side // 2, left + side // 2] > 0.8
    assert heat[pixels[..., 0] > 0].sum() > 0.6 * heat.sum()


def test_what_a_crop_leaves_out_has_no_heat_and_is_dark():
    contract = InputContract(height=SIDE, width=SIDE, fit="crop")
    heat = heat_on((200, 100), np.ones((4, 4)), tiles((SIDE, SIDE), (4, 4)), contract)
    assert (heat[:, 50:150] > 0.999).all() and (heat[:, :50] == 0).all() and (heat[:, 150:] == 0).all()
    dark = np.asarray(shaded(Image.new("RGB", (200, 100), (90, 90, 90)), contract))
    assert (dark[:, :50] == 30).all() and (dark[:, 50:150] == 90).all()


def test_the_part_that_is_seen_and_where_it_lies_in_the_input():
    contract = InputContract(height=SIDE, width=SIDE, fit="pad")
    assert placement((200, 100), contract) == ((0, 0, 200, 100), (0, 16, 64, 48))
    assert placement((100, 200), contract) == ((0, 0, 100, 200), (16, 0, 48, 64))


def test_no_heat_leaves_the_photograph_and_the_hottest_place_stands_out():
    photograph = Image.new("RGB", (30, 20), (120, 120, 120))
    heat = np.zeros((20, 30))
    heat[5, 7] = 1
    mixed = np.asarray(overlay(photograph, heat)).astype(int)
    assert np.abs(mixed[heat == 0] - 120).max() <= 1
    assert np.abs(mixed[5, 7] - 120).max() > 80


def test_a_sheet_shows_long_captions_whole_and_small_images_large():
    small = panel(Image.new("RGB", (10, 5), "red"))
    assert small.size == (LEAST, LEAST // 2)
    short = sheet([[(small, "one"), (small, "two")]], ["bees 97.0%"])
    long = sheet([[(small, "one"), (small, "two")], [(small, "three")]], ["x" * 300, "y"])
    assert short.width == long.width
    assert long.height > short.height + small.height
    assert np.asarray(short)[short.height // 2, 100].tolist() == [255, 0, 0]
