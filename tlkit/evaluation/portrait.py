"""How the features drawn for rare classes compare with real ones: their distances, and how much of a class they cover.

A generator that has collapsed draws the same few points repeatedly: they lie much nearer to each other than real images
do, and few real images have one near them. As many drawn features as real images are compared, since with more of them
the nearest would be nearer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

CLASSES, POINTS, SHOWN = (
    6,
    200,
    6,
)  # rarest classes, points of each kind in a plot, drawn features shown by their nearest image
NEAR = 5  # the distance to that neighbour is the radius of an image's neighbourhood
JUDGED = 1000  # drawn features of a class that are compared, at most, and no more than there are real images


@dataclass(frozen=True, kw_only=True)
class ClassPortrait:
    """One class.

    Args:
        label: its number.
        real, drawn: how many there are.
        distance: median distance of a drawn feature to the nearest real image of the class, over that of a real image to the
            nearest other one; about 1 is as alike as real images are. None with one real image.
        spread: median distance of drawn features to the nearest other drawn one, over the same of real images; near 0
            nearly the same is drawn repeatedly. None with one real or one drawn.
        coverage: share of real images with a drawn feature in their neighbourhood (Naeem et al. 2020), 0..1.
        of_real, of_drawn: points (n, 2) on the first two principal components of the training images.
        nearest: paths of the real images nearest to a few drawn features.
    """

    label: int
    real: int
    drawn: int
    distance: float | None
    spread: float | None
    coverage: float
    of_real: Sequence[Sequence[float]]
    of_drawn: Sequence[Sequence[float]]
    nearest: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """The rarest classes.

    Args:
        way: `smote`, `gaussian` or `gan`.
        classes: the rarest first, at most six of `of`.
        of: classes that features were drawn for.
        others: points (n, 2) of images of all classes.
    """

    way: str
    classes: Sequence[ClassPortrait]
    of: int
    others: Sequence[Sequence[float]]

    def as_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Portrait":
        """Restore the value of `as_json`."""
        return cls(**{**record, "classes": tuple(ClassPortrait(**each) for each in record["classes"])})


def portray(
    way: str,
    real: tuple[np.ndarray, np.ndarray],
    drawn: tuple[np.ndarray, np.ndarray],
    paths: Sequence[str],
    seed: int = 0,
) -> Portrait:
    """Compare drawn features with real ones.

    Args:
        way: how it was drawn.
        real: features float32 (N, C) of the training images, and their labels int (N,).
        drawn: features float32 (m, C), and their labels int (m,).
        paths: of the N images.
        seed: of the sample, where there are many.
    """
    (features, labels), (made_of_all, named) = real, drawn
    random = np.random.default_rng((seed, 8))
    centre = features.mean(axis=0)
    axes = np.linalg.svd(features - centre, full_matrices=False)[2][:2]

    def flat(points: np.ndarray) -> list[list[float]]:
        some = points if len(points) <= POINTS else points[random.permutation(len(points))[:POINTS]]
        return np.round((some - centre) @ axes.T, 4).tolist()

    def one(label: int) -> ClassPortrait:
        rows, made = np.flatnonzero(labels == label), made_of_all[named == label]
        own, some = features[rows], made[random.permutation(len(made))[: min(JUDGED, len(rows))]]
        across, within, among = distances(some, own), distances(own, own), distances(some, some)
        np.fill_diagonal(within, np.inf)
        np.fill_diagonal(among, np.inf)
        usual = float(np.median(within.min(axis=1))) if len(own) > 1 else None
        reach = np.sort(within, axis=1)[:, min(NEAR, len(own) - 1) - 1] if len(own) > 1 else np.zeros(1)
        return ClassPortrait(
            label=label,
            real=len(own),
            drawn=len(made),
            distance=_share(np.median(across.min(axis=1)), usual),
            spread=_share(np.median(among.min(axis=1)), usual) if len(some) > 1 else None,
            coverage=round(float((across.min(axis=0) <= reach).mean()), 4),
            of_real=flat(own),
            of_drawn=flat(made),
            nearest=[paths[row] for row in rows[across[:SHOWN].argmin(axis=1)]],
        )

    sizes = np.bincount(labels)
    lacking = sorted(np.unique(named), key=lambda label: (sizes[label], label))
    return Portrait(
        way=way, classes=[one(int(label)) for label in lacking[:CLASSES]], of=len(lacking), others=flat(features)
    )


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Float64 (n, m), Euclidean."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(np.maximum(squared, 0))


def _share(value: float, usual: float | None) -> float | None:
    return round(float(value) / usual, 4) if usual else None
