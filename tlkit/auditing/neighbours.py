"""The nearest images of every image by feature cosine, in blocks, so that memory does not grow with their square."""

from dataclasses import dataclass

import numpy as np

COUNT = 10
_BLOCK = 1 << 24  # similarities in memory at a time: 64 MB


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of N images, nearest first; no image is its own neighbour.

    Args:
        indices: int32 (N, k).
        cosines: float32 (N, k), -1..1, descending.
    """

    indices: np.ndarray
    cosines: np.ndarray


def nearest(features: np.ndarray, count: int = COUNT) -> Neighbours:
    """Compare every image with every other one.

    Args:
        features: float32 (N, C), of length 1 each, see `unit`.
        count: neighbours wanted; fewer where there are fewer images.
    """
    n = len(features)
    count = min(count, n - 1)
    indices, cosines = np.empty((n, count), np.int32), np.empty((n, count), np.float32)
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, n if count > 0 else 0, step):
        rows = np.arange(start, min(start + step, n))
        block = features[rows] @ features.T
        block[np.arange(len(rows)), rows] = -np.inf
        best = np.argpartition(block, n - count, axis=1)[:, n - count :]
        values = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        indices[rows] = np.take_along_axis(best, order, axis=1)
        cosines[rows] = np.take_along_axis(values, order, axis=1)
    return Neighbours(indices, cosines)


def unit(features: np.ndarray) -> np.ndarray:
    """float32 (N, C), each row divided by its length; rows of zeros stay."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(length > 0, length, 1)).astype(np.float32)
