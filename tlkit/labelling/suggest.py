"""Which images to label next: those that say most about the images a classifier is unsure of; never near copies.

Labels are taken for measurements of a linear function of the features. A label for one image makes the function better known
at every image like it; of all images comes the one after whose label the sum of variances is smallest, then the next, given the
first (transductive experimental design, Yu et al. 2006). Where a classifier guesses, an image counts in the sum by the trace of
its Fisher information for a linear head, 1 less the sum of its squared probabilities (after BAIT, Ash et al. 2021), and what its own label is worth is
multiplied by the square of 1 less its margin (Scheffer et al. 2001). So dense places come first, and no place twice.

Everything is decided by stored features, seen along their principal components.
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.classifier.familiarity import unit
from tlkit.extraction.store import Rows
from tlkit.extraction.transforms.components import Components

COMPONENTS = 128
NOISE = 1.0  # variance of what a label measures, as that of the function at every image before the first
NEIGHBOURS = 20  # whose mean distance says how typical an image is
COPY = 0.2  # images nearer than this share of the median distance of two images show the same thing
LEAST = 1e-6  # doubt of an image of which a classifier has none
_BLOCK = 1 << 23  # distances in memory at a time


@dataclass(frozen=True)
class Suggestions:
    """Images to label, the first first.

    Args:
        rows: int64 (n,), into the features.
        way: `spread`, or `uncertain` where a classifier guesses.
        reason: why that way, in a sentence.
        typicality: float (n,), 1 over the mean distance to the nearest images; greater is more typical.
        margins: float (n,), the probability of the most probable class less that of the next; NaN without a classifier.
        passed_over: images that lay too near to one that has a label or is suggested.
    """

    rows: np.ndarray
    way: str
    reason: str
    typicality: np.ndarray
    margins: np.ndarray
    passed_over: int


def suggest(
    features: np.ndarray,
    labelled: np.ndarray,
    *,
    count: int,
    chances: np.ndarray | None = None,
    seed: int = 0,
) -> Suggestions:
    """Choose images that have no label yet.

    Args:
        features: float (N, C), pooled, of images with and without a label.
        labelled: bool (N,).
        count: how many; fewer come where no more are left that are no near copies.
        chances: float (N, K), probabilities of the classes by a classifier; None without one.
        seed: of the sample that components are fitted on where there are more than 20,000 images.
    """
    information = doubt = np.ones(len(features))
    margins = np.full(len(features), np.nan)
    if chances is not None:
        margins = margin(chances)
        information, doubt = np.maximum(1 - (chances**2).sum(axis=1), LEAST), np.maximum(1 - margins, LEAST) ** 2
    with threadpool_limits(1):  # matrices are narrow, and threads would wait for each other longer than they work
        points = compared(features, seed)
        picker = _Picker(points, labelled)
        _most_telling(picker, information, doubt, count)
    rows, known = np.array(picker.taken, np.int64), int(labelled.sum())
    return Suggestions(
        rows=rows,
        way="spread" if chances is None else "uncertain",
        reason=f"{known} images have a label" + (", and nobody can guess yet" if chances is None else ""),
        typicality=typicality(points, rows),
        margins=margins[rows],
        passed_over=picker.passed_over,
    )


def compared(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """float32 (N, c) of unit length, by which images are told apart: at most 128 principal components of features (N, C).

    Each is divided by the root of its deviation: the largest are often the light and the person and not the class, the
    smallest are noise.
    """
    if not np.ptp(features, axis=0).any():  # one image, or all alike
        return np.zeros((len(features), 1), np.float32)
    width = min(COMPONENTS, *features.shape)
    codes = Components.fit(Rows(features), width, seed).apply(features)
    deviation = codes.std(axis=0)
    return unit(codes / np.sqrt(np.maximum(deviation, 1e-6 * max(float(deviation[0]), 1e-30))))


def margin(chances: np.ndarray) -> np.ndarray:
    """Float (N,), 0..1: the greatest probability of each row of (N, K) less the next; 0 is most uncertain."""
    if chances.shape[1] < 2:
        return np.ones(len(chances))
    ordered = np.partition(chances, -2, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def typicality(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Float (n,): 1 over the mean distance of these rows to the nearest 20 of the points."""
    reach = min(NEIGHBOURS, len(points) - 1)
    if reach < 1:
        return np.ones(len(rows))
    found = [np.empty(0)]
    step = max(1, _BLOCK // len(points))
    for start in range(0, len(rows), step):
        near = np.partition(_distances(points[rows[start : start + step]], points), reach, axis=1)[:, : reach + 1]
        found.append(1 / np.maximum(near.sum(axis=1) / reach, 1e-6))  # an image itself is at distance 0
    return np.concatenate(found)


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Float (n, m) between rows of unit length."""
    return np.sqrt(np.maximum(2 - 2 * left @ right.T, 0))


def median_distance(points: np.ndarray) -> float:
    """Of two images, among at most 1,000 evenly spaced ones; 0 for a single image."""
    some = points[np.unique(np.linspace(0, len(points) - 1, min(len(points), 1000)).astype(int))]
    apart = _distances(some, some)[np.triu_indices(len(some), 1)]
    return float(np.median(apart)) if len(apart) else 0.0


class _Picker:
    """Takes images one by one, none of them near a labelled one or one that was taken."""

    def __init__(self, points: np.ndarray, labelled: np.ndarray) -> None:
        self.points, self.labelled = points, labelled
        self.reach = COPY * median_distance(points)
        self.open = ~labelled
        self.taken: list[int] = []
        self.passed_over = 0
        known = np.flatnonzero(labelled)
        step = max(1, _BLOCK // max(1, len(points)))
        for start in range(0, len(known), step):
            self._close(known[start : start + step])

    def take(self, row: int) -> None:
        """Take an image that is open."""
        self.taken.append(int(row))
        self.open[row] = False
        self._close(np.array([row]))

    def _close(self, rows: np.ndarray) -> None:
        near = (_distances(self.points[rows], self.points) < self.reach).any(axis=0) & self.open
        self.passed_over += int(near.sum())
        self.open[near] = False


def _most_telling(picker: _Picker, information: np.ndarray, doubt: np.ndarray, count: int) -> None:
    """Take the image whose label lowers the variance most, summed over all images, times its doubt; and so on.

    Args:
        picker: takes them.
        information: float (N,), weight of each image in the sum.
        doubt: float (N,), by which what its label is worth is multiplied.
        count: how many.
    """
    points, known = picker.points, picker.points[picker.labelled].astype(np.float64)
    spread = np.linalg.inv(np.eye(points.shape[1]) + known.T @ known / NOISE)  # of the function, given the labels
    summed = ((points * information[:, None].astype(np.float32)).T @ points).astype(np.float64)
    told = spread @ summed @ spread
    # of each image: variance of the function there, and by how much its label would lower the sum, times variance and noise
    variance = np.einsum("nc,nc->n", points @ spread.astype(np.float32), points).astype(np.float64)
    lowered = np.einsum("nc,nc->n", points @ told.astype(np.float32), points).astype(np.float64)
    while len(picker.taken) < count and picker.open.any():
        worth = np.where(picker.open, doubt * lowered / (NOISE + variance), -np.inf)
        row = int(np.argmax(worth))
        picker.take(row)
        toward = spread @ points[row]
        total, after = NOISE + variance[row], summed @ toward
        along = points @ toward.astype(np.float32) / total
        ahead = points @ (spread @ after).astype(np.float32)
        lowered += along * (along * (toward @ after) - 2 * ahead)
        variance -= along**2 * total
        spread -= np.outer(toward, toward) / total
