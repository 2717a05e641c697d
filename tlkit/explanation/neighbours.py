"""The training images most like an image, in the eyes of the network."""

import numpy as np


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


def unit(features: np.ndarray) -> np.ndarray:
    """Rows float32 (N, C) of length 1; rows of zeros stay."""
    features = np.asarray(features, np.float32)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths == 0, 1, lengths)


_ROWS = 256
