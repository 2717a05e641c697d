"""Which images to label next, on points with known answers."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from tlkit.classifier.familiarity import unit
from tlkit.labelling.guess import guess
from tlkit.labelling.suggest import COPY, NOISE, compared, margin, median_distance, suggest, typicality


def clouds(sizes, seed=0, spread=0.25, width=24):
    """Points around orthogonal directions, (sum of sizes, width), and which direction each is of."""
    random = np.random.default_rng(seed)
    cloud = np.repeat(np.arange(len(sizes)), sizes)
    return 4 * np.eye(width)[cloud] + random.normal(0, spread * 4 / np.sqrt(width) * 2, (len(cloud), width)), cloud


def test_the_first_images_are_one_of_each_cloud():
    points, cloud = clouds([80, 50, 40, 60])
    found = suggest(points, np.zeros(len(points), bool), count=4)
    assert found.way == "spread" and sorted(cloud[found.rows]) == [0, 1, 2, 3]


def test_a_cloud_that_has_a_label_comes_last():
    points, cloud = clouds([40, 40, 40])
    labelled = np.zeros(len(points), bool)
    labelled[np.flatnonzero(cloud == 1)[:1]] = True
    assert set(cloud[suggest(points, labelled, count=2).rows]) == {0, 2}


def test_typical_is_the_inverse_mean_distance_to_the_nearest_twenty():
    points = unit(clouds([60, 30])[0])
    near, _ = NearestNeighbors(n_neighbors=21).fit(points).kneighbors(points)
    np.testing.assert_allclose(typicality(points, np.arange(90)), 1 / near[:, 1:].mean(axis=1), rtol=1e-4)


def test_the_margin_by_hand():
    np.testing.assert_allclose(margin(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])), [0.2, 0.7])
    assert margin(np.ones((2, 1))).tolist() == [1, 1]


def test_the_uncertain_come_first():
    points, _cloud = clouds([200, 200])
    labelled = np.arange(400) % 200 < 8
    chances = np.tile([0.99, 0.01], (400, 1))
    doubtful = np.flatnonzero(~labelled)[::9][:40]
    chances[doubtful] = [0.52, 0.48]
    found = suggest(points, labelled, count=4, chances=chances)
    assert found.way == "uncertain" and set(found.rows) <= set(doubtful.tolist())
    np.testing.assert_allclose(found.margins, 0.04)


@pytest.mark.parametrize("guessed", [False, True])
def test_each_image_is_the_one_whose_label_leaves_the_least_variance(guessed):
    """Against variances of a linear function solved afresh for every image that might be next."""
    random = np.random.default_rng(5)
    features, labelled = random.normal(size=(40, 6)) * [5, 3, 2, 1, 1, 0.5], np.arange(40) % 10 == 0
    chances = random.dirichlet([0.5, 0.5, 0.5], 40) if guessed else None
    information, doubt = np.ones(40), np.ones(40)
    if guessed:
        information, doubt = 1 - (chances**2).sum(axis=1), (1 - margin(chances)) ** 2
    points, known = compared(features).astype(np.float64), list(np.flatnonzero(labelled))

    def summed(rows: list[int]) -> float:
        spread = np.linalg.inv(np.eye(points.shape[1]) + points[rows].T @ points[rows] / NOISE)
        return float(information @ ((points @ spread) * points).sum(axis=1))

    for row in suggest(features, labelled, count=6, chances=chances).rows:
        worth = [(summed(known) - summed([*known, i])) * doubt[i] * (i not in known) for i in range(40)]
        assert worth[row] == pytest.approx(max(worth), rel=1e-4)
        known.append(int(row))


def test_doubt_about_one_class_alone_chooses_as_without_a_classifier():
    points, _ = clouds([30, 20])
    none = np.zeros(50, bool)
    found = suggest(points, none, count=5, chances=np.tile([1.0, 0.0], (50, 1)))
    np.testing.assert_array_equal(found.rows, suggest(points, none, count=5).rows)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_few_images_and_images_all_alike(images):
    alike = np.ones((images, 4), np.float32)
    assert len(suggest(alike, np.zeros(images, bool), count=5).rows) >= 1
    different = np.eye(4, dtype=np.float32)[:images]
    assert sorted(suggest(different, np.zeros(images, bool), count=5).rows) == list(range(images))


@pytest.mark.parametrize("chances", [None, np.tile([0.6, 0.4], (300, 1))])
def test_near_copies_are_never_suggested(chances):
    """Every image three times, slightly changed, as frames of a clip are."""
    points, _ = clouds([50, 50], spread=0.5)
    points = np.repeat(points, 3, axis=0) + np.random.default_rng(1).normal(0, 1e-3, (300, 24))
    labelled = np.arange(300) % 3 == 0
    labelled[150:] = False
    found = suggest(points, labelled, count=300, chances=chances)
    of = found.rows // 3
    assert len(set(of)) == len(of) and of.min() >= 50  # none with a labelled copy
    taken = unit(points)[found.rows]
    apart = np.sqrt(np.maximum(2 - 2 * taken @ taken.T, 0)) + 9 * np.eye(len(taken))
    assert apart.min() >= COPY * median_distance(unit(points)) and found.passed_over == 300 - labelled.sum() - len(of)


def test_fewer_come_where_no_more_are_left():
    points, _ = clouds([3, 3])
    assert sorted(suggest(points, np.zeros(6, bool), count=50).rows) == list(range(6))


def test_the_same_seed_chooses_the_same():
    points, _ = clouds([60, 60, 60])
    rows = [suggest(points, np.zeros(180, bool), count=20, seed=3).rows for _ in range(2)]
    np.testing.assert_array_equal(*rows)


def test_a_guess_knows_the_classes_that_have_an_image():
    points, cloud = clouds([30, 30, 30], spread=0.05, width=3)
    labels = np.full(90, -1)
    labels[[0, 1, 60, 61]] = [0, 0, 2, 2]
    found = guess(points.astype(np.float32), labels, 4)
    assert (found.chances[cloud == 0].argmax(axis=1) == 0).all()
    assert (found.chances[cloud == 2].argmax(axis=1) == 2).all() and not found.chances[:, [1, 3]].any()
    np.testing.assert_allclose(found.chances.sum(axis=1), 1, rtol=1e-6)
    assert guess(points, np.where(labels == 0, 0, -1), 4) is None
