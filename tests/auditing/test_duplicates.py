import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tlkit.auditing import duplicates
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


@pytest.mark.parametrize("count", [3, 10])
def test_the_largest_of_long_rows_are_those_of_sorting(count):
    values = np.random.default_rng(0).normal(size=(20, 64 * 8 * count + 17)).astype(np.float32)
    values[0, -3:] = 9.0  # in what is left over behind even parts
    values[1, :5] = 9.0  # neighbours in different parts
    found = np.sort(duplicates._largest(values, count), axis=1)
    expected = np.sort(np.argsort(-values, axis=1, kind="stable")[:, :count], axis=1)
    rows = np.arange(20) != 1 if count < 5 else slice(None)  # of five equal ones any three
    np.testing.assert_array_equal(found[rows], expected[rows])
    assert (np.take_along_axis(values, found, 1) >= np.sort(values, axis=1)[:, -count][:, None]).all()


def test_one_image_alone_has_no_neighbours():
    assert nearest(np.ones((1, 4), np.float32)).indices.shape == (1, 0)
    assert near_duplicates(nearest(np.ones((1, 4), np.float32)), np.zeros((1, 32, 32), np.uint8)).tolist() == [0]


def test_handwritten_digits_that_are_alike_are_no_copies():
    """Soft shapes of one kind correlate like crops of photographs, and are compared with crops of themselves."""
    from sklearn.datasets import load_digits

    grey = (255 - 15.9 * load_digits().images[:600]).astype(np.uint8)
    pictures = small([Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC) for image in grey])
    points = unit(pictures.reshape(600, -1) - pictures.mean())
    assert len(near_pairs(nearest(points), pictures)[0]) <= 6


# -- many look-alikes, as of a fixed camera ---


@pytest.fixture(scope="module")
def looking_alike(photographs):
    """Twenty scenes by thirty, each with noise of its own; and the scene of each."""
    scenes = small(photographs[:20])
    random = np.random.default_rng(0)
    rows = np.repeat(np.arange(20), 30)
    noisy = np.clip(scenes[rows] + random.normal(0, 2, (600, 32, 32)), 0, 255).round().astype(np.uint8)
    return noisy, rows


def cosines_of(pictures):
    return nearest(unit(pictures.reshape(len(pictures), -1).astype(np.float32) - 128))


def test_of_many_look_alikes_the_pictures_are_those_of_comparing_all(looking_alike, monkeypatch):
    pictures, scenes = looking_alike
    neighbours = cosines_of(pictures)
    left, right, _ = near_pairs(neighbours, pictures)
    everything = connected(600, left, right)
    monkeypatch.setattr(duplicates, "LISTED", 100)
    monkeypatch.setattr(duplicates, "_BATCH", 128)
    said, reached = [], []
    story = SimpleNamespace(say=said.append)
    fewer, others, _ = near_pairs(neighbours, pictures, story, reached.append)
    np.testing.assert_array_equal(connected(600, fewer, others), everything)
    assert len(fewer) < 0.7 * len(left) and "counted, not compared" in said[0]
    assert {*zip(fewer.tolist(), others.tolist(), strict=True)} <= {*zip(left.tolist(), right.tolist(), strict=True)}
    assert reached == sorted(reached) and reached[-1] == 1.0 and len(reached) > 5
    assert all(len(set(scenes[everything == number])) == 1 for number in np.unique(everything))


def test_what_pairs_hold_in_memory_does_not_grow_with_their_number(looking_alike, monkeypatch):
    pictures, _ = looking_alike
    neighbours = cosines_of(pictures)
    peaks = []
    for count in (150, 600):
        some = duplicates.Neighbours(
            *(np.minimum(each[:count], count - 1) for each in (neighbours.indices, neighbours.cosines))
        )
        tracemalloc.start()
        near_pairs(some, pictures[:count])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.5 * peaks[0]


def test_of_pairs_that_decide_by_themselves_nothing_more_is_computed(looking_alike, monkeypatch):
    pictures = np.concatenate([looking_alike[0][:60]] * 2)  # each twice, and others of its scene
    neighbours = cosines_of(pictures)
    seen, reaches = [], duplicates.attainable
    monkeypatch.setattr(
        duplicates, "attainable", lambda some, common: (seen.append(len(some)), reaches(some, common))[1]
    )
    left, right, agreement = near_pairs(neighbours, pictures)
    monkeypatch.setattr(duplicates, "_SAME", 2.0)
    again = near_pairs(neighbours, pictures)
    for one, other in zip((left, right), again, strict=False):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(agreement, again[2], atol=1e-6)
    monkeypatch.undo()
    monkeypatch.setattr(
        duplicates, "attainable", lambda some, common: (seen.append(len(some)), reaches(some, common))[1]
    )
    partner = ((np.arange(120) + 60) % 120)[:, None]
    seen.clear()
    left, right, _ = near_pairs(duplicates.Neighbours(partner, np.ones((120, 1), np.float32)), pictures)
    assert (right - left == 60).all() and len(left) > 20 and sum(seen) == 0


def test_correlations_of_crops_are_those_of_laying_one_over_the_other(photographs):
    """Every crop computed and projected, one at a time and in float64."""
    pictures = small(photographs[:12]).astype(np.float64)
    left, right = pictures[:6], np.roll(pictures, 1, axis=0)[:6]
    left[0] = duplicates._stretch(0.95, 0.5) @ right[0] @ duplicates._stretch(0.95, 0.25).T
    common = duplicates.common_directions(np.concatenate([small(photographs)] * 3))

    def rest(picture):
        vector = picture.ravel() - picture.mean()
        vector = vector / np.linalg.norm(vector)
        vector = vector - common.T @ (common @ vector)
        return vector / np.linalg.norm(vector)

    expected = []
    for one, other in zip(left, right, strict=True):
        best = plain = float(rest(one) @ rest(other))
        for side, steps in duplicates._SCALES if plain >= duplicates._WORTH_ALIGNING else ():
            shifts = [duplicates._stretch(side, shift) for shift in np.linspace(0, 1, steps)]
            for whole, fixed in ((one, rest(other)), (other, rest(one))):
                best = max(best, *(float(rest(r @ whole @ c.T) @ fixed) for r in shifts for c in shifts))
        expected.append(best)
    found = duplicates.aligned_correlation(left, right, common)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found[0] > 0.9 > found[1]
