"""Images unlike the others: in size, shape, brightness or sharpness, or in their features."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tlkit.auditing.evidence import Evidence, counted
from tlkit.auditing.findings import Finding
from tlkit.data.look import Looks

# -- what the file shows: size, shape, brightness, sharpness ---------------------------------------

MANY = 0.1  # of all images: what so many have in common is a property of the set, not an outlier


class Oddity(NamedTuple):
    """One kind of outlier.

    Args:
        what: ends the sentence "3 images are ...".
        remedy: what to do.
        extent: how extreme each image is, float (N,); above 1 it is an outlier.
        caption: of an image, from its facts.
    """

    what: str
    remedy: str
    extent: Callable[[Looks], np.ndarray]
    caption: Callable[[Looks, int], str]


def _against_median(values: np.ndarray, times: float) -> np.ndarray:
    """Distance from the median in logarithm, relative to that of the factor `times`; 1 is at the limit."""
    logs = np.log(np.maximum(values, 1e-6))
    return np.abs(logs - np.median(logs)) / np.log(times)


def _blur(looks: Looks) -> np.ndarray:
    """Log sharpness below the median, in units of four robust standard deviations, or of a factor of 3 if that is more."""
    logs = np.log(np.maximum(looks.sharpness, 1e-3))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    pictures = looks.contrast >= PLAIN
    return np.where(pictures, (middle - logs) / max(4 * spread, np.log(3.0)), 0.0)


def _size(looks: Looks) -> np.ndarray:
    return _against_median(looks.width.astype(float) * looks.height, 16)


PLAIN = 6.0  # grey levels of standard deviation
DARK, BRIGHT = 16.0, 243.0  # mean grey
ODDITIES = (
    Oddity(
        "16 times larger or smaller than usual",
        "Check whether they come from another source; if they are all of one class, the model may learn the source.",
        _size,
        lambda looks, row: f"{looks.width[row]}x{looks.height[row]}",
    ),
    Oddity(
        "of a shape twice as wide or tall as usual",
        "Resized to a square they are distorted; try --fit pad or --fit crop, or crop them to the object.",
        lambda looks: _against_median(looks.aspect, 2),
        lambda looks, row: f"{looks.width[row]}x{looks.height[row]}",
    ),
    Oddity(
        "nearly one plain colour",
        "Remove them if they show nothing.",
        lambda looks: PLAIN / np.maximum(looks.contrast, 0.1),
        lambda looks, row: f"contrast {looks.contrast[row]:.1f} of 128",
    ),
    Oddity(
        "nearly black",
        "Remove them if nothing can be seen.",
        lambda looks: np.where(looks.contrast >= PLAIN, DARK / np.maximum(looks.brightness, 0.1), 0),
        lambda looks, row: f"mean brightness {looks.brightness[row]:.0f} of 255",
    ),
    Oddity(
        "nearly white",
        "Remove them if nothing can be seen.",
        lambda looks: np.where(looks.contrast >= PLAIN, (255 - BRIGHT) / np.maximum(255 - looks.brightness, 0.1), 0),
        lambda looks, row: f"mean brightness {looks.brightness[row]:.0f} of 255",
    ),
    Oddity(
        "far more blurred than usual",
        "Remove them, or keep them if the model will meet such images.",
        _blur,
        lambda looks, row: f"sharpness {looks.sharpness[row]:.1f}, usually {np.median(looks.sharpness):.1f}",
    ),
)


def check_looks(evidence: Evidence) -> Iterator[Finding]:
    """One finding for each kind of outlier."""
    for oddity in ODDITIES:
        extent = oddity.extent(evidence.looks)
        rows = np.flatnonzero(extent > 1)
        if not 0 < len(rows) <= max(1, MANY * len(evidence)):
            continue
        rows = rows[np.argsort(-extent[rows], kind="stable")]
        yield Finding(
            check="outliers",
            severity="note",
            sentence=f"{counted(len(rows), 'image is', 'images are')} {oddity.what}{_of_one_class(evidence, rows)}.",
            remedy=oddity.remedy,
            groups=tuple(
                evidence.group([int(row)], oddity.caption(evidence.looks, int(row)), score=extent[row]) for row in rows
            ),
        )


def _of_one_class(evidence: Evidence, rows: np.ndarray) -> str:
    """A clause for the case that several images are all of one class."""
    names = {evidence.dataset.label_name(int(row)) for row in rows}
    return f", all of class {names.pop()!r}" if len(rows) > 1 and len(names) == 1 and "" not in names else ""


# -- features: far from every other image ----------------------------------------------------------

FAR = 3.0  # robust standard deviations of the log distance
MOST = 0.02  # of all images: the farthest of them are shown


def check_distance(evidence: Evidence) -> Iterator[Finding]:
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
