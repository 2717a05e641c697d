"""Where the cells of a map lie in the image, and what the map says between them.

A grid's cells are taken as equal tiles of the image. The centres of their receptive fields lie up to
half a cell further right and down where padding is lopsided, but what cells respond to does not: on
scenes with a known place, maps with cells moved there are worse on most heads (benchmarks/RESULTS.md).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axis:
    """Cells along one side of an image.

    Args:
        side: of the image, in pixels.
        count: how many equal cells it is cut into.
    """

    side: int
    count: int

    @property
    def centres(self) -> np.ndarray:
        """float64 (count,), in pixels; 0 is the edge of the image, 0.5 the centre of its first pixel."""
        return (np.arange(self.count) + 0.5) * self.side / self.count

    def weights(self, positions: np.ndarray) -> np.ndarray:
        """How much each cell counts at each position: quadratic B-splines, smooth and never below 0.

        Linear interpolation draws stars and boxes that are not in the map. Beyond the image its
        outermost cells go on.

        Args:
            positions: float (n,), in pixels.

        Returns:
            float32 (n, count); rows sum to 1.
        """
        cells = np.clip(positions * self.count / self.side - 0.5, 0, self.count - 1)
        away = np.abs(cells[:, None] - np.arange(-1, self.count + 1))
        spline = np.where(away < 0.5, 0.75 - away**2, 0.5 * np.maximum(0, 1.5 - away) ** 2)
        spline[:, 1] += spline[:, 0]
        spline[:, -2] += spline[:, -1]
        return spline[:, 1:-1].astype(np.float32)


@dataclass(frozen=True)
class Lattice:
    """Cells of a map (h, w) in an image."""

    rows: Axis
    columns: Axis

    def sample(self, maps: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Maps (..., h, w) at the pixel positions `y` (n,) and `x` (m,): float32 (..., n, m)."""
        return self.rows.weights(y) @ maps @ self.columns.weights(x).T


def tiles(size: tuple[int, int], shape: tuple[int, int]) -> Lattice:
    """An image of `size` (height, width) cut into `shape` (h, w) equal tiles."""
    return Lattice(*map(Axis, size, shape))


def pixel_centres(count: int) -> np.ndarray:
    """Positions of `count` pixels in a row: 0.5, 1.5, ..."""
    return np.arange(count) + 0.5


def hot(values: np.ndarray) -> np.ndarray:
    """Maps (..., h, w): what is above 0, the greatest of each map 1; nothing above 0 stays 0."""
    positive = np.maximum(values, 0)
    strongest = positive.max(axis=(-2, -1), keepdims=True)
    return positive / np.where(strongest > 0, strongest, 1)
