"""Similarity of images by the features of the network: nearest images, and images unlike all training images."""

import io
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tlkit.tasks.task import row_blocks

NEIGHBOURS = 5
_BLOCK = 1 << 22  # distances in memory at a time
_ROWS = 256  # queries that are compared at a time


@dataclass(frozen=True)
class Familiarity:
    """Training images in the space of average-pooled features, and the distance of familiar images from them.

    Features are divided by their norm, centred on the training mean and projected on the directions of greatest variance of
    the training images; the residual outside these directions is added to every distance.

    Args:
        mean: float32 (C,), of the training images.
        directions: float16 (C, d), orthonormal columns.
        places: float16 (R, d), projections of training images.
        rest: float16 (R,), squared norm of their residuals.
        limit: largest score of familiar images, measured on validation images; above it an image is unfamiliar.
        validation: the number of these images.
        weight: of the residual, relative to the energy of the logits (`score`); 0 where there are no logits of classes, or it
            was written before they were used: then the distance to training images is the score.
        zero: score of the most familiar validation image, with a weight; else 0.
    """

    mean: np.ndarray
    directions: np.ndarray
    places: np.ndarray
    rest: np.ndarray
    limit: float
    validation: int
    weight: float = 0.0
    zero: float = 0.0

    def unfamiliarity(self, features: Any, logits: np.ndarray) -> np.ndarray:
        """The score scaled so that `zero` is 0 and `limit` is 1; above 1 is unfamiliar.

        Args:
            features: float (n, C), pooled; an array, or rows of the store, which are read a block at a time.
            logits: float (n, K), of the same images.

        Returns:
            float32 (n,), 0 or more; NaN where a feature is not finite.
        """
        part = (self.score(features, logits) - self.zero) / (self.limit - self.zero)
        return np.maximum(part, 0.0).astype(np.float32)

    def score(self, features: Any, logits: np.ndarray) -> np.ndarray:
        """float64 (n,): virtual-logit matching (Wang et al. 2022), or the distance to training images without a weight.

        The norm of the residual, which training images lack, acts as one more logit, compared with the log of the sum of
        exponentials of the logits of the classes.
        """
        if not self.weight:
            return self.distance(features)
        return self.weight * self.residual(features) - energy(logits)

    def residual(self, features: Any) -> np.ndarray:
        """float64 (n,): norm of the residual of an image outside the directions."""
        step, found = max(1, _BLOCK // len(self.mean)), [np.empty(0)]
        for start in range(0, len(features), step):
            _, outside = self._parts(features[start : start + step])
            found.append(np.sqrt(outside, dtype=np.float64))
        return np.concatenate(found)

    def distance(self, features: Any) -> np.ndarray:
        """float64 (n,): to the 5th nearest training image (Sun et al. 2022); 0..2, for feature vectors of norm 1."""
        references = self.places.astype(np.float32)
        lengths = (references**2).sum(axis=1) + self.rest
        step = max(1, _BLOCK // max(1, len(references)))
        found = [np.empty(0)]
        for start in range(0, len(features), step):
            here, outside = self._parts(features[start : start + step])
            # Squared distances by Pythagoras; residuals are assumed to be orthogonal to each other.
            squares = (here**2).sum(axis=1)[:, None] + lengths - 2 * here @ references.T + outside[:, None]
            rank = min(NEIGHBOURS, len(references)) - 1
            found.append(np.sqrt(np.maximum(np.partition(squares, rank, axis=1)[:, rank], 0.0)))
        return np.concatenate(found)

    def _parts(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Float32 (n, d), projections of images; and (n,), squared norms of their residuals."""
        shifted = unit(features) - self.mean
        here = shifted @ self.directions.astype(np.float32)
        return here, np.maximum((shifted**2).sum(axis=1) - (here**2).sum(axis=1), 0.0)

    def to_bytes(self) -> bytes:
        """The content of an NPZ file without pickles."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, allow_pickle=False, **{spec.name: getattr(self, spec.name) for spec in fields(self)}
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Familiarity":
        """Restore from `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {spec.name: arrays[spec.name] for spec in fields(cls) if spec.name in arrays}
        scalars = {"limit": float, "validation": int, "weight": float, "zero": float}
        return cls(**(found | {name: kind(found[name]) for name, kind in scalars.items() if name in found}))


def energy(logits: np.ndarray) -> np.ndarray:
    """float64 (n,): log of the sum of exponentials of logits (n, K) about their mean; large where the classifier is confident."""
    return np.concatenate([np.logaddexp.reduce(about_mean(logits[rows]), axis=1) for rows in row_blocks(logits)])


def about_mean(logits: np.ndarray) -> np.ndarray:
    """float64 (n, K): logits minus their mean over classes, which carries no information."""
    values = np.asarray(logits, np.float64)
    return values - values.mean(axis=1, keepdims=True)


def unit(features: np.ndarray) -> np.ndarray:
    """float32 (n, C), each row divided by its length; rows of zeros stay."""
    values = np.asarray(features, np.float32)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length > 0, length, 1.0)


def nearest(queries: np.ndarray, references: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` references with the largest cosine to each query.

    Args:
        queries: float (Q, C), pooled features.
        references: float (N, C), pooled features of the same network; N is 1 or more.
        count: how many; all of them where there are fewer.

    Returns:
        indices int64 (Q, n) into `references`, most similar first and in order of index on a tie, and
        their cosines float32 (Q, n), -1..1; n = min(count, N). The cosines of a row of zeros are 0.
    """
    known = unit(references)
    count = min(count, len(known))
    indices, cosines = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
    for first in range(0, len(queries), _ROWS):  # a block of queries at a time, so that memory does not depend on Q
        rows = slice(first, first + _ROWS)
        alike = unit(queries[rows]) @ known.T
        indices[rows] = np.argsort(-alike, axis=1, kind="stable")[:, :count]
        cosines[rows] = np.take_along_axis(alike, indices[rows], axis=1)
    return indices, np.clip(cosines, -1, 1)


# -- The reference for unfamiliar images: from training images, with its limit from validation images ---

REFERENCES = 1000  # training images that are kept
DIRECTIONS = 64  # on which distances are measured
# Directions that should span the training images, at most a quarter of the number of images; and the fewest: with fewer,
# the distance is more informative
PRINCIPAL, LEAST = 128, 8
SPREAD = 1e-5  # of the largest deviation along an axis: below, rows do not vary along it
FEWEST = 20  # validation images that a limit must rest on
FAMILIAR = 0.99  # share of the validation images within the limit


def references(labels: np.ndarray, most: int = REFERENCES) -> np.ndarray:
    """Which training images to keep: all, or evenly spread over each class, classes in their proportions.

    Args:
        labels: int (n,), of the training images.
        most: how many to keep, to within one per class; every class keeps one.

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


def fit_familiarity(
    training: np.ndarray, validation: np.ndarray, logits: np.ndarray | None = None
) -> Familiarity | None:
    """Measure how much other images of the same kind differ from the training images.

    The limit is the conformal quantile of the validation scores (Vovk et al. 2005): of new images of the same
    kind at most 1 in 100 lies beyond it, or 1 in n + 1 where n, the validation images, are fewer than 99.

    Args:
        training: float (R, C), average-pooled features of the images to keep.
        validation: float (n, C), of images that were not trained on.
        logits: float (n, K) of the validation images, for mutually exclusive classes; None where there are none.

    Returns:
        The reference; None for fewer than `FEWEST` validation images, or features without a spread.
    """
    known = unit(training)
    if len(validation) < FEWEST or len(known) < 2 or not (np.isfinite(known).all() and np.isfinite(validation).all()):
        return None
    mean = known.mean(axis=0)
    centred = known - mean
    axes = principal_axes(centred, 2 * PRINCIPAL)
    principal = min(PRINCIPAL, len(known) // 4, len(axes) // 2)
    joined = logits is not None and principal >= LEAST
    directions = axes[: principal if joined else DIRECTIONS].T.astype(np.float16)
    kept = centred[:0] if joined else centred  # the residual needs no training images
    places = kept @ directions.astype(np.float32)
    rest = np.maximum((kept**2).sum(axis=1) - (places**2).sum(axis=1), 0.0)
    found = Familiarity(
        mean=mean,
        directions=directions,
        places=places.astype(np.float16),
        rest=rest.astype(np.float16),
        limit=1.0,
        validation=len(validation),
    )
    return _limited(found, validation, logits if joined else None)


def principal_axes(centred: np.ndarray, most: int) -> np.ndarray:
    """float32 (d, C): orthonormal principal axes of rows with mean zero, largest variance first.

    From the eigenvectors of the smaller Gram matrix: with 420 rows of 1,280 numbers in a sixth of the time of a singular
    value decomposition. On one thread: beside other programs two threads of BLAS wait ten times as long for each other.

    Args:
        centred: float (n, C), n at least 1.
        most: of axes; fewer where the rows span fewer.
    """
    from scipy.linalg import eigh
    from threadpoolctl import threadpool_limits

    wide = len(centred) < centred.shape[1]
    with threadpool_limits(1):
        products = centred.astype(np.float64)
        products = products @ products.T if wide else products.T @ products
        count = len(products)
        squares, vectors = eigh(products, subset_by_index=(max(0, count - most), count - 1))
    sizes = np.sqrt(np.maximum(squares[::-1], 0))
    kept = sizes > SPREAD * max(float(sizes[0]), 1e-30)
    vectors = vectors[:, ::-1][:, kept]
    return ((vectors / sizes[kept]).T @ centred if wide else vectors.T).astype(np.float32)


def _limited(found: Familiarity, validation: np.ndarray, logits: np.ndarray | None) -> Familiarity | None:
    """The reference with its weight and limit from validation images; None where all of these coincide."""
    said = np.zeros((len(validation), 1)) if logits is None else logits
    if logits is not None:
        outside, sure = float(found.residual(validation).mean()), float(about_mean(logits).max(axis=1).mean())
        if min(outside, sure) < 1e-6:
            return None
        found = replace(found, weight=sure / outside)
    scores = np.sort(found.score(validation, said))
    rank = min(len(scores), int(np.ceil((len(scores) + 1) * FAMILIAR)))
    limit, zero = float(scores[rank - 1]), float(scores[0]) if found.weight else 0.0
    return None if limit - zero < 1e-6 else replace(found, limit=limit, zero=zero)
