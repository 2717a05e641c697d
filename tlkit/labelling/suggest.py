"""Which images to label next: typical ones of clusters while few labels are there, uncertain ones later; never near copies.

    typical     TypiClust (Hacohen et al. 2022): as many clusters as there will be labels; from each that has none yet the
                image that lies densest
    uncertain   the images whose two most probable classes are nearest to each other (margin, Scheffer et al. 2001), those in
                dense places first, one from each of as many clusters as images are wanted (Zhdanov 2019)

Everything is decided by stored features. They are divided by their length, so that distances are those of angles.
"""

from dataclasses import dataclass

import numpy as np

from tlkit.classifier.familiarity import unit

MOST_CLUSTERS = 500
NEIGHBOURS = 20  # whose mean distance says how typical an image is
COPY = 0.2  # images nearer than this share of the median distance of two images show the same thing
FEW = 8  # labels a class; below it what a classifier is unsure of says little
POOLED = 10  # uncertain images considered for each one wanted
_BLOCK = 1 << 23  # distances in memory at a time


@dataclass(frozen=True)
class Suggestions:
    """Images to label, the first first.

    Args:
        rows: int64 (n,), into the features.
        way: `typical` or `uncertain`.
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
        seed: of the clusters.
    """
    points = unit(features)
    margins = np.full(len(points), np.nan) if chances is None else margin(chances)
    few = chances is None or labelled.sum() < FEW * chances.shape[1]
    picker = _Picker(points, labelled)
    if few:
        _typical(picker, count, seed)
        reason = f"{int(labelled.sum())} images have a label: too few for what a classifier is unsure of to say much"
    else:
        _uncertain(picker, margins, count, seed)
        reason = f"{int(labelled.sum())} images have a label, {FEW} or more a class"
    rows = np.array(picker.taken, np.int64)
    return Suggestions(
        rows=rows,
        way="typical" if few else "uncertain",
        reason=reason,
        typicality=typicality(points, rows),
        margins=margins[rows],
        passed_over=picker.passed_over,
    )


def margin(chances: np.ndarray) -> np.ndarray:
    """Float (N,), 0..1: the greatest probability of each row of (N, K) less the next; 0 is most uncertain."""
    if chances.shape[1] < 2:
        return np.ones(len(chances))
    ordered = np.partition(chances, -2, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def typicality(points: np.ndarray, rows: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Float (n,): 1 over the mean distance of these rows to the nearest 20 of those `among` (all unless given)."""
    others = points if among is None else points[among]
    reach = min(NEIGHBOURS, len(others) - 1)
    if reach < 1:
        return np.ones(len(rows))
    found = [np.empty(0)]
    step = max(1, _BLOCK // len(others))
    for start in range(0, len(rows), step):
        near = np.partition(_distances(points[rows[start : start + step]], others), reach, axis=1)[:, : reach + 1]
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


def clusters(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Int (n,) cluster of each point by k-means, `count` or as many as there are points."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    count = min(count, len(points))
    if count > 50 and len(points) > 20 * count:
        means = MiniBatchKMeans(count, n_init=1, random_state=seed, batch_size=4096)
    else:
        means = KMeans(count, n_init=5 if count <= 20 else 1, random_state=seed)  # few centres are easily put wrongly
    with threadpool_limits(1 if points.size < 5_000_000 else None):
        return means.fit_predict(points)


def _typical(picker: _Picker, count: int, seed: int) -> None:
    """From the largest cluster with the fewest labels the most typical image, and so on."""
    points, known = picker.points, np.flatnonzero(picker.labelled)
    wanted = min(len(known) + count, MOST_CLUSTERS)
    cluster = clusters(points, wanted, seed)
    sizes = np.bincount(cluster)
    covered = np.bincount(cluster[known], minlength=len(sizes))
    density = np.empty(len(points))
    for one in np.unique(cluster):
        members = np.flatnonzero(cluster == one)
        density[members] = typicality(points, members, members)
    while len(picker.taken) < count and picker.open.any():
        left = np.bincount(cluster[picker.open], minlength=len(sizes)) > 0
        one = min(np.flatnonzero(left), key=lambda each: (covered[each], -sizes[each]))
        members = np.flatnonzero((cluster == one) & picker.open)
        picker.take(members[np.argmax(density[members])])
        covered[one] += 1


def _uncertain(picker: _Picker, margins: np.ndarray, count: int, seed: int) -> None:
    """Of the least certain images one from each of as many clusters as images are wanted, the least certain of it."""
    while len(picker.taken) < count and picker.open.any():
        wanted = count - len(picker.taken)
        rows = np.flatnonzero(picker.open)
        rows = rows[np.argsort(margins[rows], kind="stable")][: POOLED * wanted]
        cluster = clusters(picker.points[rows], wanted, seed)
        worth = (1 - margins[rows]) * typicality(picker.points, rows)
        for one in np.unique(cluster):
            members = rows[cluster == one]
            members, value = members[picker.open[members]], worth[cluster == one][picker.open[members]]
            if len(members):
                picker.take(members[np.argmax(value)])
