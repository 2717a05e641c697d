"""The images used for a ranking, and the units that must not be split."""

from collections.abc import Sequence

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import Dataset
from tlkit.data.folds import strata
from tlkit.data.split import order_keys, unit_of_rows
from tlkit.tasks.registry import of_truth

FEWEST = 10  # images of a rare class that are kept, where there are so many


def choose(dataset: Dataset, rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Up to `limit` of the rows, each class in proportion, in the order of a hash of their content (or group).

    The choice does not depend on names or order, and that of a smaller limit is a subset of that of a larger one.
    Rare classes keep up to ten images.

    Raises:
        TlkitError: fewer than two images for each class within the limit.
    """
    ordered = rows[np.argsort(order_keys(dataset, rows, seed), kind="stable")]
    labels = strata(dataset.truth[ordered])
    counts = np.bincount(labels, minlength=len(dataset.classes))
    present = int((counts > 0).sum())
    if len(rows) > limit < 2 * present:
        raise TlkitError(
            f"--limit {limit} leaves fewer than two images for each of {present} classes.",
            f"give {2 * present} or more.",
        )
    if len(rows) <= limit:
        return ordered
    shares = _shares(counts, limit)
    place = np.empty(len(ordered), np.int64)
    for label in np.flatnonzero(counts):
        own = np.flatnonzero(labels == label)
        place[own] = np.arange(len(own))
    return ordered[place < shares[labels]]


def _shares(counts: np.ndarray, limit: int) -> np.ndarray:
    """int64 (K,) images of each class, in all at most `limit`: a small class up to its floor, the others in proportion."""
    floor = np.minimum(counts, min(FEWEST, limit // int((counts > 0).sum())))
    spare = limit - int(floor.sum())
    over = counts - floor
    return floor + (over * min(1.0, spare / max(1, int(over.sum())))).astype(np.int64)


def units_of(dataset: Dataset) -> np.ndarray:
    """int64 (N,): images connected by groups or exact copies share one number."""
    return np.unique(unit_of_rows(dataset), return_inverse=True)[1].ravel()


def refuse_hopeless(classes: Sequence[str], truth: np.ndarray, units: np.ndarray) -> list[str]:
    """Classes of a single unit, which cannot be both trained on and tested; with several labels, those that count for images.

    Raises:
        TlkitError: fewer than two classes, or none with two units.
    """
    labels, task = strata(truth), of_truth(truth)
    present = np.unique(labels)
    if len(present) < 2:
        have = f"one class, {task.stratum(present[0], classes)!r}" if len(present) else "no labelled image"
        raise TlkitError(
            f"there is {have}; a ranking needs two classes or more.", "put the images into one folder for each class."
        )
    single = [task.stratum(label, classes) for label in present if len(np.unique(units[labels == label])) < 2]
    if len(single) == len(present):
        raise TlkitError(
            "no class has two images that are not copies of each other or of one group.",
            "a class is learned from one image and tested on another: add images.",
        )
    return single
