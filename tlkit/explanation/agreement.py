"""How far two methods point at the same places, so that a reader knows when to trust neither."""

import numpy as np
from scipy.stats import rankdata

from tlkit.explanation.evidence import Evidence

DOUBT = 0.2  # below this two maps agree hardly more than those of different images do (benchmarks/RESULTS.md)


def agreement(first: Evidence, second: Evidence) -> np.ndarray:
    """Spearman's rank correlation of two maps of the same images, cell by cell of the second.

    Args:
        first: maps of B images by one method.
        second: by another one; the first is read at the centres of its cells.

    Returns:
        float64 (B,), -1..1: 1 for the same order of places, 0 for none in common, also where a map is flat.
    """
    here = first.lattice.sample(first.values, second.lattice.rows.centres, second.lattice.columns.centres)
    return np.array(
        [_rank_correlation(one.ravel(), other.ravel()) for one, other in zip(here, second.values, strict=True)]
    )


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (first, second)]
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / scale) if scale else 0.0


def in_words(value: float) -> str:
    """`methods agree (0.71)`."""
    words = "methods agree" if value >= 0.5 else "methods agree in part" if value >= DOUBT else "methods disagree"
    return f"{words} ({value:.2f})"
