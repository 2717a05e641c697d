"""How alike images are by the features of the network: the nearest of them, and images unlike all that were trained on."""

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
    """Training images in the space of average-pooled features, and how far familiar images lie from them.

    Features are divided by their length and seen from the training mean along the directions in which training
    images differ most; what lies outside of these directions adds to every distance as a whole.

    Args:
        mean: float32 (C,), of the training images.
        directions: float16 (C, d), orthonormal columns.
        places: float16 (R, d), training images along the directions.
        rest: float16 (R,), squared length of what of them lies outside.
        limit: score of the least familiar of familiar images, measured on validation images; above it is unfamiliar.
        validation: how many images that rests on.
        weight: of what lies outside of the directions, beside the energy of the logits (`score`); 0 where there are no logits
            of classes, or it was written before they were used: then the distance to training images is the score.
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
        """The score between its `zero` and its `limit`; above 1 is unfamiliar.

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

        The length of what lies outside of the directions of the training images stands as one more logit: what no training
        image has, against the log of the sum of exponentials of what the classifier says for its classes.
        """
        if not self.weight:
            return self.distance(features)
        return self.weight * self.residual(features) - energy(logits)

    def residual(self, features: Any) -> np.ndarray:
        """float64 (n,): length of what of an image lies outside of the directions."""
        step, found = max(1, _BLOCK // len(self.mean)), [np.empty(0)]
        for start in range(0, len(features), step):
            _, outside = self._parts(features[start : start + step])
            found.append(np.sqrt(outside, dtype=np.float64))
        return np.concatenate(found)

    def distance(self, features: Any) -> np.ndarray:
        """float64 (n,): to the 5th nearest training image (Sun et al. 2022); 0..2, in lengths of a feature vector."""
        references = self.places.astype(np.float32)
        lengths = (references**2).sum(axis=1) + self.rest
        step = max(1, _BLOCK // max(1, len(references)))
        found = [np.empty(0)]
        for start in range(0, len(features), step):
            here, outside = self._parts(features[start : start + step])
            # Squares by Pythagoras; parts outside of the directions are taken to be at right angles to each other.
            squares = (here**2).sum(axis=1)[:, None] + lengths - 2 * here @ references.T + outside[:, None]
            rank = min(NEIGHBOURS, len(references)) - 1
            found.append(np.sqrt(np.maximum(np.partition(squares, rank, axis=1)[:, rank], 0.0)))
        return np.concatenate(found)

    def _parts(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Float32 (n, d), where images lie along the directions; and (n,), the squared length of what lies outside."""
        shifted = unit(features) - self.mean
        here = shifted @ self.directions.astype(np.float32)
        return here, np.maximum((shifted**2).sum(axis=1) - (here**2).sum(axis=1), 0.0)

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
            found = {spec.name: arrays[spec.name] for spec in fields(cls) if spec.name in arrays}
        scalars = {"limit": float, "validation": int, "weight": float, "zero": float}
        return cls(**(found | {name: kind(found[name]) for name, kind in scalars.items() if name in found}))


def energy(logits: np.ndarray) -> np.ndarray:
    """float64 (n,): log of the sum of exponentials of logits (n, K) about their mean; great where the classifier is sure."""
    return np.concatenate([np.logaddexp.reduce(about_mean(logits[rows]), axis=1) for rows in row_blocks(logits)])


def about_mean(logits: np.ndarray) -> np.ndarray:
    """float64 (n, K): what is the same for all classes says nothing, and is taken away."""
    values = np.asarray(logits, np.float64)
    return values - values.mean(axis=1, keepdims=True)


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
DIRECTIONS = 64  # that distances are measured along
# Directions outside of which nothing of the training images should lie, at most a quarter as many as there are of them; and
# how many it takes: with fewer the distance says more
PRINCIPAL, LEAST = 128, 8
SPREAD = 1e-5  # of the largest deviation along an axis: below, rows do not differ along it
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


def fit_familiarity(
    training: np.ndarray, validation: np.ndarray, logits: np.ndarray | None = None
) -> Familiarity | None:
    """Measure how unlike the training images others of the same kind are.

    The limit is the conformal quantile of the validation scores (Vovk et al. 2005): of new images of the same
    kind at most 1 in 100 lies beyond it, or 1 in n + 1 where n, the validation images, are fewer than 99.

    Args:
        training: float (R, C), average-pooled features of the images to keep.
        validation: float (n, C), of images that were not trained on.
        logits: float (n, K), of classes that exclude each other, of the validation images; None where there are none.

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
    kept = centred[:0] if joined else centred  # what lies outside needs no training images
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
    """float32 (d, C): orthonormal axes along which rows of mean zero differ, those along which they differ most first.

    By the eigenvectors of the smaller matrix of products: with 420 rows of 1,280 numbers a sixth of the time of a singular
    value decomposition. On one thread: beside other programs two of BLAS wait for each other ten times as long.

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
    """With its weight and limit, from validation images; None where all of them lie at one place."""
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
