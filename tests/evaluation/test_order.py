"""Whether order matters, in numbers and in words, against cases counted by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tlkit.classifier.answers import Predictions
from tlkit.evaluation.compare import with_order
from tlkit.evaluation.evaluate import evaluate
from tlkit.evaluation.judgement import Mean
from tlkit.extraction.store import ClipFeatures, Rows

CLIP = SimpleNamespace(time="gru")


def said(right, count=40):
    """Logits (count, 2) that are right about the first `right` clips of class 0, 1, 0, 1, ..."""
    truth = np.arange(count) % 2
    answer = np.where(np.arange(count) < right, truth, 1 - truth)
    return np.eye(2, dtype=np.float32)[answer] * 4


def predictions(logits):
    count = len(logits)
    return Predictions(
        paths=[f"clip{i}" for i in range(count)],
        sha256=[f"{i:064x}" for i in range(count)],
        labels=(np.arange(count) % 2).astype(np.int32),
        splits=np.full(count, 2, np.int8),
        logits=logits,
        classes=("left", "right"),
    )


def judged(own, mean, shuffled):
    rows = predictions(said(own))
    return with_order(evaluate(rows), rows, {"mean": said(mean), "shuffled": said(shuffled)}, CLIP)


def test_order_matters_where_both_fall_behind():
    found = judged(38, 20, 18)
    metrics = found.splits["test"].metrics
    assert metrics["accuracy_of_mean"].value == 20 / 40 and metrics["accuracy_shuffled"].value == 18 / 40
    assert metrics["accuracy_of_mean"].low < 0.5 < metrics["accuracy_of_mean"].high
    assert found.notes[0].startswith("Does order matter? Yes: accuracy 0.950")
    assert (
        "+45.0 points against the mean" in found.notes[0] and "+50.0 points against shuffled frames" in found.notes[0]
    )


def test_order_that_is_used_may_gain_nothing():
    assert "uses the order of frames, but is not shown to gain by it" in judged(38, 38, 18).notes[0]


def test_a_difference_that_chance_explains_is_none():
    assert "Not as far as these 40 clips show" in judged(30, 29, 30).notes[0]


def test_where_the_mean_ships_it_is_said():
    assert "(the mean ships, not gru)" in judged(30, 30, 30).notes[0]


def test_of_grades_the_share_that_is_right_is_counted_and_not_how_close_they_are():
    """Four grades, every answer off by one: none is right, and each is two thirds of the way."""
    rows = predictions(said(40))
    grades = replace(rows, targets=rows.labels[:, None].astype(np.int16) + 1, classes=tuple("abcd"))
    grades = replace(grades, logits=np.eye(4, dtype=np.float32)[rows.labels + 2] * 8)
    found = with_order(evaluate(grades), grades, {"mean": grades.logits}, CLIP)
    metrics = found.splits["test"].metrics
    assert metrics["accuracy_of_mean"].value == metrics["accuracy"].value == 0
    assert metrics["accuracy_of_mean"].low == 0


def test_images_have_no_order():
    rows = predictions(said(30))
    evaluation = evaluate(rows)
    assert with_order(evaluation, rows, {}, None) is evaluation


@pytest.fixture
def clips():
    """Three clips of 3, 1 and 2 frames among four places; the features of frame f are (f, 10 f)."""
    frames = np.arange(1, 7, dtype=np.float32)[:, None] * np.array([1.0, 10.0], np.float32)
    places = np.array([[0, 1, 2, -1], [3, -1, -1, -1], [4, 5, -1, -1]])
    return ClipFeatures(frames, places)


def test_features_of_clips_are_those_of_their_frames(clips):
    assert clips.shape == (3, 4, 2)
    assert clips[np.array([2])].tolist() == [[[5, 50], [6, 60], [0, 0], [0, 0]]]
    full = ClipFeatures(np.arange(8, dtype=np.float32).reshape(4, 2), np.array([[3, 0], [1, 2]]))
    assert full[np.array([1, 0])].tolist() == [[[2, 3], [4, 5]], [[6, 7], [0, 1]]]
    assert clips.means().tolist() == [[2, 20], [4, 40], [5.5, 55]]
    assert Rows(clips).select(np.array([1])).pooled().tolist() == [[4, 40]]
    mean = Mean(np.array([[1.0], [2.0]], np.float32), np.array([0.5], np.float32))
    assert mean.logits(Rows(clips)).ravel().tolist() == [42.5, 84.5, 116.0]


def test_shuffling_keeps_every_frame_with_its_clip_and_the_mask_at_the_end(clips):
    for seed in range(5):
        shuffled = clips.shuffled(seed)
        assert np.array_equal(shuffled.means(), clips.means())
        assert np.array_equal((shuffled[:] != 0).any(axis=2), (clips[:] != 0).any(axis=2))
    assert any(not np.array_equal(clips.shuffled(seed)[:], clips[:]) for seed in range(5))
