"""How far a cross-validated number can be trusted: the corrected resampled t-test."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from scipy.stats import binomtest

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over folds with its corrected standard error and 95 % interval."""

    value: float
    error: float
    low: float
    high: float


def corrected(values: np.ndarray, folds: int) -> Estimate:
    """Mean of what the folds of repeated cross-validation say.

    Folds share most of their training images, so their scatter alone promises too much: Nadeau and Bengio (2003) add
    the ratio of test to training images to 1/k in the variance of the mean of k values; Student's t with k - 1 degrees
    of freedom does the rest. With groups kept whole in a fold, the scatter is that between groups.

    Args:
        values: float (k,), k >= 2, a number for each fold of each repeat.
        folds: in one repeat; a fold is tested on 1/(folds - 1) of the images it trained on.
    """
    value, error = float(values.mean()), float(values.std(ddof=1) * correction(len(values), folds))
    half = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2)) * error
    return Estimate(value, error, value - half, value + half)


def correction(count: int, folds: int) -> float:
    """Standard error of the mean of `count` values over their standard deviation."""
    return float(np.sqrt(1 / count + 1 / (folds - 1)))


def corrected_share(values: np.ndarray, folds: int, images: int) -> Estimate:
    """The same for shares, 0..1; where all folds agree, Wilson's interval (1927) of so many images instead."""
    found = corrected(values, folds)
    low, high = found.low, found.high
    if found.error < 1e-12:
        interval = binomtest(round(found.value * images), images).proportion_ci(LEVEL, method="wilson")
        low, high = float(interval.low), float(interval.high)
    return Estimate(found.value, found.error, max(0.0, low), min(1.0, high))
