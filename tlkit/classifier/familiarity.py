"""How alike images are by the features of the network: the nearest of them, and images unlike all that were trained on."""

import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

NEIGHBOURS = 5
_BLOCK = 1 << 22  # distances in memory at a time
_ROWS = 256  # queries that are compared at a time


@dataclass(frozen=True)
class Familiarity:
    """Training images in the space of average-pooled features, and how far familiar images lie from them.

    Features are divided by their length and seen from the training mean along the directions in which training
    images differ most; what lies outside of these directions adds to every distance as a whole.

    Args:
        mean: float32 (C,), of the training images.
        directions: float16 (C, d), orthonormal columns.
        places: float16 (R, d), training images along the directions.
        rest: float16 (R,), squared length of what of them lies outside.
        limit: distance of the farthest familiar images, measured on validation images; above it is unfamiliar.
        validation: how many images that rests on.
    """

    mean: np.ndarray
    directions: np.ndarray
    places: np.ndarray
    rest: np.ndarray
    limit: float
    validation: int

    def unfamiliarity(self, features: Any) -> np.ndarray:
        """Distance to the 5th nearest training image over the limit (Sun et al. 2022); above 1 is unfamiliar.

        Args:
            features: float (n, C), pooled; an array, or rows of the store, which are read a block at a time.

        Returns:
            float32 (n,), 0 or more; NaN where a feature is not finite.
        """
        return (self.distance(features) / self.limit).astype(np.float32)

    def distance(self, features: Any) -> np.ndarray:
        """float64 (n,), see `unfamiliarity`; 0..2, in lengths of a feature vector."""
        places, references = self.directions.astype(np.float32), self.places.astype(np.float32)
        lengths = (references**2).sum(axis=1) + self.rest
        step = max(1, _BLOCK // max(1, len(references)))
        found = [np.empty(0)]
        for start in range(0, len(features), step):
            shifted = unit(features[start : start + step]) - self.mean
            here = shifted @ places
            # Squares by Pythagoras; parts outside of the directions are taken to be at right angles to each other.
            outside = np.maximum((shifted**2).sum(axis=1) - (here**2).sum(axis=1), 0.0)
            squares = (here**2).sum(axis=1)[:, None] + lengths - 2 * here @ references.T + outside[:, None]
            rank = min(NEIGHBOURS, len(references)) - 1
            found.append(np.sqrt(np.maximum(np.partition(squares, rank, axis=1)[:, rank], 0.0)))
        return np.concatenate(found)

    def to_bytes(self) -> bytes:
        """As an NPZ file without pickles."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, allow_pickle=False, **{spec.name: getattr(self, spec.name) for spec in fields(self)}
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Familiarity":
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {spec.name: arrays[spec.name] for spec in fields(cls)}
        scalars = {"limit": float, "validation": int}
        return cls(**(found | {name: kind(found[name]) for name, kind in scalars.items()}))


def unit(features: np.ndarray) -> np.ndarray:
    """float32 (n, C), each row divided by its length; rows of zeros stay."""
    values = np.asarray(features, np.float32)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length > 0, length, 1.0)


def nearest(queries: np.ndarray, references: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` references of the greatest cosine to each query.

    Args:
        queries: float (Q, C), pooled features.
        references: float (N, C), pooled features of the same network; N is 1 or more.
        count: how many; all of them where there are fewer.

    Returns:
        indices int64 (Q, n) into `references`, the most alike first and the first one on a tie, and
        their cosines float32 (Q, n), -1..1; n = min(count, N). A row of zeros is like nothing: its cosines are 0.
    """
    known = unit(references)
    count = min(count, len(known))
    indices, cosines = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
    for first in range(0, len(queries), _ROWS):  # a block of queries at a time: memory stays small whatever Q is
        rows = slice(first, first + _ROWS)
        alike = unit(queries[rows]) @ known.T
        indices[rows] = np.argsort(-alike, axis=1, kind="stable")[:, :count]
        cosines[rows] = np.take_along_axis(alike, indices[rows], axis=1)
    return indices, np.clip(cosines, -1, 1)


# -- The reference that unfamiliar images are recognised by: made from training images, its limit from validation ---

REFERENCES = 1000  # training images that are kept
DIRECTIONS = 64
FEWEST = 20  # validation images that a limit must rest on
FAMILIAR = 0.99  # of the validation images lie within the limit


def references(labels: np.ndarray, most: int = REFERENCES) -> np.ndarray:
    """Which training images to keep: all, or evenly spread over each class, classes in their proportions.

    Args:
        labels: int (n,), of the training images.
        most: how many to keep, give or take one a class; every class keeps one.

    Returns:
        int64 indices, ascending.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(1, round(len(rows) * most / len(labels)))
        kept.append(rows[np.linspace(0, len(rows) - 1, count).round().astype(int)])
    return np.sort(np.concatenate(kept))


def fit_familiarity(training: np.ndarray, validation: np.ndarray) -> Familiarity | None:
    """Measure how far images of the same kind lie from the training images (Sun et al. 2022).

    The limit is the conformal quantile of the validation distances (Vovk et al. 2005): of new images of the same
    kind at most 1 in 100 lies beyond it, or 1 in n + 1 where n, the validation images, are fewer than 99.

    Args:
        training: float (R, C), average-pooled features of the images to keep.
        validation: float (n, C), of images that were not trained on.

    Returns:
        The reference; None for fewer than `FEWEST` validation images, or features without a spread.
    """
    known = unit(training)
    if len(validation) < FEWEST or len(known) < 2 or not (np.isfinite(known).all() and np.isfinite(validation).all()):
        return None
    mean = known.mean(axis=0)
    centred = known - mean
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    count = min(DIRECTIONS, int((sizes > 1e-5 * max(float(sizes[0]), 1e-30)).sum()))
    directions = rows[:count].T.astype(np.float16)
    places = centred @ directions.astype(np.float32)
    rest = np.maximum((centred**2).sum(axis=1) - (places**2).sum(axis=1), 0.0)
    found = Familiarity(
        mean=mean,
        directions=directions,
        places=places.astype(np.float16),
        rest=rest.astype(np.float16),
        limit=1.0,
        validation=len(validation),
    )
    distances = np.sort(found.distance(validation))
    rank = min(len(distances), int(np.ceil((len(distances) + 1) * FAMILIAR)))
    limit = float(distances[rank - 1])
    return None if limit < 1e-6 else Familiarity(**{**vars(found), "limit": limit})
