"""Choose the images to label next: the most informative about images the classifier is unsure of, without near copies.

Labels are treated as measurements of a linear function of the features. A label for one image reduces the variance of
the function at every similar image; the image chosen is the one whose label leaves the smallest sum of variances, then
the next, given the first (transductive experimental design, Yu et al. 2006). If a classifier guesses, an image is
weighted in the sum by the trace of its Fisher information for a linear head, 1 minus the sum of its squared
probabilities (after BAIT, Ash et al. 2021), and the value of its own label is multiplied by the square of 1 minus its
margin (Scheffer et al. 2001). So dense regions come first, and no region twice. Everything is computed from stored
features, in their principal components.
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.classifier.familiarity import unit
from tlkit.extraction.store import Rows
from tlkit.extraction.transforms.components import Components

COMPONENTS = 128
NOISE = 1.0  # variance of a label, in units of the prior variance of the function
NEIGHBOURS = 20  # neighbours whose mean distance measures typicality
COPY = 0.2  # images closer than this fraction of the median distance between images count as copies
LEAST = 1e-6  # minimum doubt of an image
_BLOCK = 1 << 23  # distances in memory at a time


@dataclass(frozen=True)
class Suggestions:
    """Images to label, in order.

    Args:
        rows: int64 (n,), rows of the features.
        way: `spread`, or `uncertain` if a classifier guesses.
        reason: the reason for it, in a sentence.
        typicality: float (n,), 1 over the mean distance to the nearest images; larger is more typical.
        margins: float (n,), the probability of the most probable class minus that of the next; NaN without a
            classifier.
        passed_over: number of images too close to a labelled or suggested one.
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
    """Choose unlabelled images.

    Args:
        features: float (N, C), pooled, of images with and without a label.
        labelled: bool (N,).
        count: number to choose; fewer if only near copies are left.
        chances: float (N, K), class probabilities from a classifier; None without one.
        seed: seed of the sample on which components are fitted if there are more than 20,000 images.
    """
    information = doubt = np.ones(len(features))
    margins = np.full(len(features), np.nan)
    if chances is not None:
        margins = margin(chances)
        information, doubt = np.maximum(1 - (chances**2).sum(axis=1), LEAST), np.maximum(1 - margins, LEAST) ** 2
    with threadpool_limits(1):  # matrices are narrow, so threads would wait for each other longer than they work
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
    """Embeddings for comparison, float32 (N, c) of unit length: at most 128 principal components of features (N, C).

    Each component is divided by the square root of its standard deviation: the largest often encode lighting or the
    person rather than the class, the smallest are noise.
    """
    if not np.ptp(features, axis=0).any():  # one image, or all identical
        return np.zeros((len(features), 1), np.float32)
    width = min(COMPONENTS, *features.shape)
    codes = Components.fit(Rows(features), width, seed).apply(features)
    deviation = codes.std(axis=0)
    return unit(codes / np.sqrt(np.maximum(deviation, 1e-6 * max(float(deviation[0]), 1e-30))))


def margin(chances: np.ndarray) -> np.ndarray:
    """Margin, float (N,), 0..1: the largest probability of each row of (N, K) minus the next; 0 is most uncertain."""
    if chances.shape[1] < 2:
        return np.ones(len(chances))
    ordered = np.partition(chances, -2, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def typicality(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Typicality, float (n,): 1 over the mean distance of these rows to the nearest 20 of the points."""
    reach = min(NEIGHBOURS, len(points) - 1)
    if reach < 1:
        return np.ones(len(rows))
    found = [np.empty(0)]
    step = max(1, _BLOCK // len(points))
    for start in range(0, len(rows), step):
        near = np.partition(_distances(points[rows[start : start + step]], points), reach, axis=1)[:, : reach + 1]
        found.append(1 / np.maximum(near.sum(axis=1) / reach, 1e-6))  # the image itself is at distance 0
    return np.concatenate(found)


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Distances, float (n, m), between rows of unit length."""
    return np.sqrt(np.maximum(2 - 2 * left @ right.T, 0))


def median_distance(points: np.ndarray) -> float:
    """Median distance between images, over at most 1,000 evenly spaced ones; 0 for a single image."""
    some = points[np.unique(np.linspace(0, len(points) - 1, min(len(points), 1000)).astype(int))]
    apart = _distances(some, some)[np.triu_indices(len(some), 1)]
    return float(np.median(apart)) if len(apart) else 0.0


class _Picker:
    """Takes images one by one, none of them close to a labelled or taken one."""

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
        """Take an available image."""
        self.taken.append(int(row))
        self.open[row] = False
        self._close(np.array([row]))

    def _close(self, rows: np.ndarray) -> None:
        near = (_distances(self.points[rows], self.points) < self.reach).any(axis=0) & self.open
        self.passed_over += int(near.sum())
        self.open[near] = False


def _most_telling(picker: _Picker, information: np.ndarray, doubt: np.ndarray, count: int) -> None:
    """Repeatedly take the image whose label reduces the summed variance most, multiplied by its doubt.

    Args:
        picker: takes them.
        information: float (N,), weight of each image in the sum.
        doubt: float (N,), factor on the value of each image's label.
        count: number to take.
    """
    points, known = picker.points, picker.points[picker.labelled].astype(np.float64)
    spread = np.linalg.inv(np.eye(points.shape[1]) + known.T @ known / NOISE)  # covariance, given the labels
    summed = ((points * information[:, None].astype(np.float32)).T @ points).astype(np.float64)
    told = spread @ summed @ spread
    # per image: variance of the function, and the reduction of the sum by its label, times variance and noise
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
