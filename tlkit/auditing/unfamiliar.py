"""Images far from all others, or far from the rest of their class."""

from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import Evidence, counted
from tlkit.auditing.findings import Finding

FAR = 3.0  # robust standard deviations of the log distance
MOST = 0.02  # of all images: the farthest of them are shown
CLASS_NEIGHBOURS = 5


def check(evidence: Evidence) -> Iterator[Finding]:
    """Far from everything, and far from their own class."""
    if len(evidence) < 20:
        return
    score = deviation(unfamiliarity(evidence))
    limit = max(1, int(MOST * len(evidence)))
    odd = _farthest(score, limit)
    if len(odd):
        yield Finding(
            check="unfamiliar",
            severity="note",
            sentence=f"{counted(len(odd), 'image is', 'images are')} unlike every other image of the set.",
            remedy="Review them: placeholders, wrong files and drawings among photographs appear here; remove what does not belong.",
            groups=tuple(
                evidence.group([int(row)], f"{score[row]:.1f} times as far as usual", score=score[row]) for row in odd
            ),
        )


def unfamiliarity(evidence: Evidence) -> np.ndarray:
    """float32 (N,), mean cosine distance to the nearest other pictures, 0..2 (Kuan and Mueller 2022).

    Copies of the picture itself do not count: a placeholder that occurs twice is still unlike the rest.
    """
    near = evidence.neighbours
    copies = evidence.pictures[near.indices] == evidence.pictures[:, None]
    distances = np.where(copies, np.nan, 1 - near.cosines)
    filled = np.where(np.isnan(distances).all(axis=1, keepdims=True), 0.0, distances)
    return np.nanmean(filled, axis=1)


def deviation(distances: np.ndarray) -> np.ndarray:
    """Robust standard deviations above the median of the logarithm."""
    logs = np.log(np.maximum(distances, 1e-6))
    middle = np.median(logs)
    return (logs - middle) / max(1.4826 * float(np.median(np.abs(logs - middle))), 1e-6)


def _farthest(score: np.ndarray, limit: int) -> np.ndarray:
    order = np.argsort(-score, kind="stable")[:limit]
    return order[score[order] > FAR]
