"""The reference that unfamiliar images are recognised by: made from training images, its limit from validation."""

import numpy as np

from tlkit.core.familiarity import Familiarity, unit

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
