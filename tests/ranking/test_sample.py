from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.data import folds as dealing
from tlkit.data.dataset import Dataset
from tlkit.ranking import selection as sample


def dataset(counts, groups=None, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    count = len(labels)
    return Dataset(
        root=Path(),
        classes=tuple(f"class{i}" for i in range(len(counts))),
        paths=[f"{i}.png" for i in range(count)],
        labels=labels,
        sha256=np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8),
        sizes=np.ones(count, np.int64),
        given=np.full(count, -1, np.int8),
        groups=groups,
    )


def contents(images, rows):
    return [images.sha256[row].tobytes() for row in rows]


def test_the_choice_follows_from_content_alone():
    images = dataset((60, 30, 10))
    shuffled = images.select(np.random.default_rng(1).permutation(100))
    chosen = [contents(one, sample.choose(one, np.arange(100), 40, seed=0)) for one in (images, shuffled)]
    assert chosen[0] == chosen[1] and len(chosen[0]) <= 40
    assert chosen[0] != contents(images, sample.choose(images, np.arange(100), 40, seed=1))


def test_each_class_has_its_share_and_rare_ones_stay():
    images = dataset((900, 90, 6))
    chosen = images.labels[sample.choose(images, np.arange(996), 100, seed=0)]
    counts = np.bincount(chosen)
    assert counts[2] == 6 and counts[1] >= 10 and 95 <= len(chosen) <= 100


def test_a_smaller_limit_takes_from_a_larger_one():
    images = dataset((80, 40))
    small, large = (set(sample.choose(images, np.arange(120), limit, seed=0).tolist()) for limit in (30, 60))
    assert small < large


def test_a_limit_below_two_for_each_class_is_refused():
    with pytest.raises(TlkitError, match="fewer than two images for each of 5 classes"):
        sample.choose(dataset((4,) * 5), np.arange(20), 9, seed=0)


def test_folds_keep_units_whole_and_share_out_classes():
    labels = np.repeat([0, 1], [40, 10])
    units = np.concatenate([np.arange(40) // 4, 10 + np.arange(10)])
    folds = dealing.deal(labels, units, 5, np.random.default_rng(0))
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in np.unique(units))
    assert np.bincount(folds[labels == 0]).tolist() == [8] * 5 and np.bincount(folds[labels == 1]).tolist() == [2] * 5


def test_two_images_of_a_class_are_never_in_one_fold():
    labels = np.array([0, 0, 1, 1])
    for folds in dealing.deals(labels, np.arange(4), folds=5, repeats=3, seed=0):
        assert folds[0] != folds[1] and folds[2] != folds[3] and set(folds) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("labels", "units", "message"),
    [
        ([0, 0, 0], [0, 1, 2], "one class, 'a'"),
        ([0, 1], [0, 1], "no class has two"),
        ([0, 0, 1, 1], [0, 0, 1, 1], "no class"),
    ],
)
def test_what_cannot_be_judged_is_refused(labels, units, message):
    with pytest.raises(TlkitError, match=message):
        sample.refuse_hopeless(("a", "b"), np.array(labels), np.array(units))


def test_a_class_with_one_image_is_named():
    assert sample.refuse_hopeless(("a", "b"), np.array([0, 0, 1]), np.arange(3)) == ["b"]


def test_of_several_labels_the_rarest_counts_and_none_is_a_class_of_its_own():
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]], np.int8)
    assert dealing.strata(targets).tolist() == [1, 0, 3, 2, 1]
    assert dealing.strata(np.array([2, 0])).tolist() == [2, 0]
    assert sample.refuse_hopeless(("a", "b", "c"), targets, np.arange(5)) == ["a", "c", "none of the classes"]
    with pytest.raises(TlkitError, match="one class, 'none of the classes'"):
        sample.refuse_hopeless(("a", "b", "c"), np.zeros((4, 3), np.int8), np.arange(4))


def test_folds_share_out_images_without_a_label_too():
    targets = np.array([[1, 0]] * 20 + [[1, 1]] * 10 + [[0, 0]] * 10, np.int8)
    (folds,) = dealing.deals(targets, np.arange(40), folds=5, repeats=1, seed=0)
    for rows, each in ((slice(0, 20), 4), (slice(20, 30), 2), (slice(30, 40), 2)):
        assert np.bincount(folds[rows]).tolist() == [each] * 5


def test_a_limit_of_several_labels_keeps_the_rare_one():
    images = dataset((200,))
    targets = np.zeros((200, 2), np.int8)
    targets[:150, 0], targets[:8, 1] = 1, 1
    images = replace(images, classes=("a", "b"), labels=np.full(200, -1, np.int32), targets=targets)
    chosen = sample.choose(images, np.arange(200), 60, seed=0)
    assert (
        targets[chosen][:, 1].sum() == 8 and 55 <= len(chosen) <= 60 and (targets[chosen].sum(axis=1) == 0).sum() >= 10
    )
