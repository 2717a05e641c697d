"""Drawn features compared with real ones: a collapsed generator is distinguished from a good one."""

import json

import numpy as np
import pytest

from tlkit.evaluation.portrait import Portrait, distances, portray


def portrait_of(drawn, real=None):
    random = np.random.default_rng(0)
    rare = random.standard_normal((60, 8)).astype(np.float32) if real is None else real
    common = (random.standard_normal((200, 8)) + 9).astype(np.float32)
    labels = np.repeat([1, 0], [len(rare), 200])
    paths = [f"{row}.png" for row in range(len(labels))]
    named = np.ones(len(drawn), np.int64)
    return portray("gan", (np.concatenate([rare, common]), labels), (drawn, named), paths)


def test_draws_of_the_same_kind_are_as_near_as_real_images_and_cover_them():
    drawn = np.random.default_rng(1).standard_normal((140, 8)).astype(np.float32)
    (found,) = portrait_of(drawn).classes
    assert (found.label, found.real, found.drawn) == (1, 60, 140)
    assert found.distance == pytest.approx(1, abs=0.15) and found.spread == pytest.approx(1, abs=0.15)
    assert found.coverage > 0.85


def test_a_collapsed_generator_shows():
    same = np.tile(np.float32([0.1] * 8), (140, 1)) + np.random.default_rng(1).normal(0, 1e-3, (140, 8)).astype("f4")
    (found,) = portrait_of(same).classes
    assert found.spread < 0.01 and found.coverage < 0.85
    far = (np.random.default_rng(1).standard_normal((140, 8)) + 50).astype(np.float32)
    (found,) = portrait_of(far).classes
    assert found.distance > 20 and found.coverage == 0


def test_by_hand():
    """Real 0, 1, 3 on a line: nearest others 1, 1, 2; drawn 1.5 (thrice): nearest real 0.5 away, nearest drawn 0."""
    real = np.float32([[0], [1], [3]]) * np.float32([[1] + [0] * 7])
    drawn = np.full((5, 1), 1.5, np.float32) * np.float32([[1] + [0] * 7])
    found = portrait_of(drawn, real)
    assert found.of == 1 and found.classes[0].distance == 0.5 and found.classes[0].spread == 0.0
    assert set(found.classes[0].nearest) == {"1.png"} and found.classes[0].coverage == 1.0


def test_one_image_has_no_usual_distance_and_json_comes_back():
    found = portrait_of(np.zeros((3, 8), np.float32), np.zeros((1, 8), np.float32))
    assert found.classes[0].distance is None and found.classes[0].spread is None
    again = Portrait.from_json(json.loads(json.dumps(found.as_json())))
    assert json.loads(json.dumps(again.as_json())) == json.loads(json.dumps(found.as_json()))


def test_distances_are_euclidean():
    left, right = np.random.default_rng(0).standard_normal((2, 5, 3))
    np.testing.assert_allclose(distances(left, right), np.linalg.norm(left[:, None] - right[None], axis=-1))
