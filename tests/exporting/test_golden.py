import hashlib

import numpy as np
import pytest

from tlkit.base.errors import OutOfDate
from tlkit.exporting.golden import Golden, agreement, difference, draw, excess, refuse_different


def test_the_drawn_images_are_the_same_everywhere_and_differ_from_each_other():
    images = draw(32, 48)
    assert images.shape == (12, 32, 48, 3) and images.dtype == np.uint8
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "456c7d008180213f"
    flat = images.reshape(12, -1).astype(float)
    assert min(np.abs(a - b).mean() for i, a in enumerate(flat) for b in flat[:i]) > 10
    assert all(len({tuple(colour) for colour in image.reshape(-1, 3)}) > 1 for image in images)
    assert draw(1, 1).shape == (12, 1, 1, 3)


def test_the_tolerance_grows_with_the_largest_logit_of_each_image():
    expected = np.array([[0.5, -0.2], [20.0, 3.0]])
    assert excess(expected + 1e-4, expected) == pytest.approx(1.0)  # the first image allows 1e-4
    assert excess(expected + np.array([[0, 0], [0, 1e-3]]), expected) == pytest.approx(0.5)  # the second 2e-3
    assert excess(expected, expected) == 0


def test_what_is_no_number_is_infinitely_far():
    logits = np.array([[1.0, np.nan]], np.float32)
    assert difference(logits, np.array([[1.0, 2.0]])) == np.inf
    assert excess(logits, np.array([[1.0, 2.0]])) == np.inf


def test_agreement_is_of_the_most_probable_class():
    assert agreement(np.array([[1, 2], [5, 0], [0, 1]]), np.array([[0, 9], [0, 1], [3, 4]])) == pytest.approx(2 / 3)


def test_the_worst_image_is_named_with_what_is_allowed(tmp_path):
    logits = np.zeros((3, 2), np.float32)
    Golden(draw(8, 8)[:3], logits, logits).write(tmp_path / "golden.npz")
    golden = Golden.read(tmp_path / "golden.npz")
    assert np.array_equal(golden.images, draw(8, 8)[:3])
    refuse_different(logits + 9e-5, golden, 1e-4, "it", "mend it.")
    moved = logits + np.array([[0], [2e-3], [5e-2]], np.float32)
    with pytest.raises(OutOfDate, match=r"golden image 2 differs by 0\.05, where 0\.0001 is allowed"):
        refuse_different(moved, golden, 1e-4, "it", "mend it.")
    with pytest.raises(OutOfDate, match="shape"):
        refuse_different(logits[:, :1], golden, 1e-4, "it", "mend it.")
