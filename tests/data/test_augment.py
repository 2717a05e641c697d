import numpy as np
import pytest

from tlkit.data.views import STRENGTHS, Augmentation, threads

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 24, 32, 3), dtype=np.uint8)
KEYS = RANDOM.integers(0, 256, (6, 32)).astype(np.uint8)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_view_depends_on_image_number_and_seed_alone(strength):
    family = Augmentation(strength=strength, seed=1)
    with threads() as pool:
        whole = family.view(IMAGES, KEYS, 3, pool)
    assert whole.shape == IMAGES.shape and whole.dtype == np.uint8
    np.testing.assert_array_equal(family.view(IMAGES[[4, 1]], KEYS[[4, 1]], 3), whole[[4, 1]])
    for other in (family.view(IMAGES, KEYS, 4), Augmentation(strength=strength, seed=2).view(IMAGES, KEYS, 3)):
        assert (other != whole).any(axis=(1, 2, 3)).all()


def test_view_zero_and_strength_none_are_the_images_themselves():
    assert Augmentation().view(IMAGES, KEYS, 0) is IMAGES
    assert Augmentation(strength="none").view(IMAGES, KEYS, 5) is IMAGES
    assert Augmentation(strength="none").describe(5) == Augmentation().describe(0) == {"view": 0}


def test_without_flip_nothing_is_mirrored():
    ramp = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[None, None, :, None], (40, 24, 32, 3))
    keys = RANDOM.integers(0, 256, (40, 32)).astype(np.uint8)
    rising = {
        flip: (np.diff(Augmentation(flip=flip).view(ramp, keys, 1).mean(axis=(1, 3)), axis=1).mean(axis=1) > 0)
        for flip in (True, False)
    }
    assert rising[False].all() and 8 <= rising[True].sum() <= 32


def test_a_description_tells_every_family_apart():
    families = [Augmentation(strength=s, flip=f, seed=n) for s in STRENGTHS for f in (True, False) for n in (0, 1)]
    assert len({str(sorted(family.describe(1).items())) for family in families}) == len(families)


def test_colour_moves_only_from_medium_up():
    grey = np.full((4, 16, 16, 3), 128, np.uint8)
    assert (Augmentation(strength="light").view(grey, KEYS[:4], 1) == 128).all()
    assert (Augmentation(strength="medium").view(grey, KEYS[:4], 1) != 128).any()


def test_stored_views_of_before_stay_known():
    assert Augmentation(seed=3).describe(2) == {
        "view": 2,
        "strength": "light",
        "flip": True,
        "seed": 3,
        "smallest": 0.5,
        "aspect": 4 / 3,
        "colour": 0.0,
        "erase": 0.0,
    }
    assert Augmentation(strength="strong").describe(1)["operations"] == 2
