"""Leakage: which images are exact or near-duplicates of training images."""

import numpy as np

from tlkit.auditing.duplicates import near_duplicates, nearest
from tlkit.base.story import Story
from tlkit.classifier.answers import IN_TRAINING
from tlkit.classifier.familiarity import unit
from tlkit.data.dataset import Dataset
from tlkit.data.look import Looks, look


def in_training(pictures: np.ndarray, sha256: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """int8 (N,), index into `IN_TRAINING`: exact and near-duplicates of training images, among images outside training.

    Args:
        pictures: int (N,), equal for images that show the same picture.
        sha256: uint8 (N, 32).
        trained: bool (N,).
    """
    contents = np.unique(sha256, axis=0, return_inverse=True)[1].ravel()
    codes = np.zeros(len(trained), np.int8)
    for kind, numbers in (("near", pictures), ("exact", contents)):
        codes[~trained & np.isin(numbers, numbers[trained])] = IN_TRAINING.index(kind)
    return codes


def kin_of(dataset: Dataset, looks: Looks, training: Dataset, story: Story) -> np.ndarray:
    """`in_training` for images that were in no run: int8 (N,), their kin among the images of a training set.

    Training images that cannot be read any more are left out, and said; the very bytes are known all the same.

    Args:
        dataset: N images.
        looks: of their files.
        training: the images that were trained on.
        story: hears what is lacking.
    """
    theirs = look([training.file(i) for i in range(len(training))], story=story)
    gone = int((theirs.width == 0).sum())
    if gone:
        story.say(f"{gone} of {len(training)} training images cannot be read: no near-duplicates of them are found")
    there = np.flatnonzero(theirs.width > 0)
    small = np.concatenate([looks.small, theirs.small[there]])
    sha256 = np.concatenate([dataset.sha256, training.sha256[there]])
    pictures = near_duplicates(nearest(unit(flat(small))), small, sha256)
    codes = in_training(pictures, sha256, np.arange(len(small)) >= len(dataset))[: len(dataset)]
    known = {row.tobytes() for row in training.sha256}
    codes[[row.tobytes() in known for row in dataset.sha256]] = IN_TRAINING.index("exact")
    return codes


def flat(small: np.ndarray) -> np.ndarray:
    """float32 (N, S * S): grey copies uint8 (N, S, S) as features, each without its mean; where no network is at hand."""
    values = small.reshape(len(small), -1).astype(np.float32)
    return values - values.mean(axis=1, keepdims=True)
