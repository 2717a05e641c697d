"""How far two methods point at the same places, so that a reader knows when to trust neither."""

import numpy as np

from tlkit.explanation.evidence import Evidence

AGREE, DOUBT = 0.7, 0.4  # above the one, nine in ten maps of different images do not agree as well as this


def agreement(first: Evidence, second: Evidence) -> np.ndarray:
    """Pearson's correlation of the heat of two maps of the same images, cell by cell of the second.

    Of the heat, and not of the ranks of all cells: most cells are ground on which neither method has
    much to say, and the order of what they say there is chance. On drawn scenes this tells the maps
    of one image from those of two with an area under the curve of 0.99, ranks with 0.93.

    Args:
        first: maps of B images by one method.
        second: by another one; the first is read at the centres of its cells.

    Returns:
        float64 (B,), -1..1: 1 for the same places, 0 for chance, also where a map is flat.
    """
    y, x = second.lattice.rows.centres, second.lattice.columns.centres
    pairs = zip(first.lattice.sample(first.heat, y, x), second.heat, strict=True)
    return np.array([_correlation(one.ravel(), other.ravel()) for one, other in pairs])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    one, other = (np.float64(values) - np.float64(values).mean() for values in (first, second))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale else 0.0


def in_words(value: float) -> str:
    """`methods agree (0.81)`."""
    words = "methods agree" if value >= AGREE else "methods agree in part" if value >= DOUBT else "methods disagree"
    return f"{words} ({value:.2f})"
