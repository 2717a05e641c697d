import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tlkit.auditing.duplicates import connected, exact_duplicates, near_duplicates, near_pairs, nearest
from tlkit.classifier.familiarity import unit


def small(images):
    return np.stack([np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX)) for image in images])


def features(images):
    """Coarse colours: what a network's features are here, near for copies and far for others."""
    return unit(np.stack([np.asarray(image.resize((4, 4), Image.Resampling.BOX)).ravel() - 128.0 for image in images]))


CHANGES = {
    "resized": lambda image: image.resize((144, 108)),
    "cropped": lambda image: image.crop((5, 1, 157, 115)),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(photographs, change):
    images = [*photographs, *(CHANGES[change](image) for image in photographs[:10])]
    left, right, agreement = near_pairs(nearest(features(images)), small(images))
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(i, 60 + i) for i in range(10)}
    assert (agreement >= 0.88).all()


def test_what_all_images_share_is_no_sign_of_a_copy(photographs):
    """The same strong background behind everything, as in a studio."""
    background = np.asarray(photographs[0], float)
    images = [
        Image.fromarray((0.85 * background + 0.15 * np.asarray(image, float)).astype(np.uint8))
        for image in photographs[1:]
    ] * 2
    images = [*images[:59], images[3]]
    left, right, _ = near_pairs(nearest(features(images)), small(images))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(3, 59)]


def test_groups_are_numbered_by_first_appearance_and_chain():
    assert connected(6, np.array([4, 1]), np.array([1, 3])).tolist() == [0, 1, 2, 1, 1, 3]


def test_equal_content_shares_a_group_whatever_the_pixels_say(photographs):
    digests = np.random.default_rng(0).integers(0, 256, (60, 32), dtype=np.uint8)
    digests[7] = digests[2]
    groups = near_duplicates(nearest(features(photographs)), small(photographs), digests)
    assert groups[7] == groups[2] and len(np.unique(groups)) == 59
    assert exact_duplicates(digests)[7] == 2


def test_plain_images_are_copies_of_nothing():
    plain = [Image.new("RGB", (160, 120), (10 * i, 90, 90)) for i in range(20)]
    assert len(near_pairs(nearest(features(plain)), small(plain))[0]) == 0


def test_neighbours_agree_with_sorting_everything():
    points = unit(np.random.default_rng(0).normal(size=(40, 5)))
    cosines = points @ points.T
    np.fill_diagonal(cosines, -np.inf)
    found = nearest(points, 3)
    assert (found.indices == np.argsort(-cosines, axis=1, kind="stable")[:, :3]).all()
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :3], rtol=1e-5)


def test_one_image_alone_has_no_neighbours():
    assert nearest(np.ones((1, 4), np.float32)).indices.shape == (1, 0)
    assert near_duplicates(nearest(np.ones((1, 4), np.float32)), np.zeros((1, 32, 32), np.uint8)).tolist() == [0]


def test_handwritten_digits_that_are_alike_are_no_copies():
    """Soft shapes of one kind correlate as crops of photographs do, and are held against crops of themselves."""
    from sklearn.datasets import load_digits

    grey = (255 - 15.9 * load_digits().images[:600]).astype(np.uint8)
    pictures = small([Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC) for image in grey])
    points = unit(pictures.reshape(600, -1) - pictures.mean())
    assert len(near_pairs(nearest(points), pictures)[0]) <= 6
