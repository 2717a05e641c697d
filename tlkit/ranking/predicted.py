"""Accuracy to expect after fine-tuning, from what is known before it: a linear model in log odds, fitted to measured pairs."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtrit

from tlkit.evaluation.results import Metric

LEVEL = 0.95
MEASURE = "accuracy"  # what was predicted: `Task.score_name` of one class an image


@dataclass(frozen=True)
class Fit:
    """What was fitted, to which pairs, and how far it was off on sets that it had not seen.

    Args:
        weights: of a constant, the log odds of the ridge accuracy, the share explained (0..1), and log10 of parameters.
        parameters: least and most of the networks fitted to; those of a network outside count as the nearer of the two.
        error: standard error, in log odds, of what is predicted for a set left out of the fit.
        sets: that each took its turn to be left out.
        pairs: a backbone on a set with a seed.
    """

    weights: tuple[float, float, float, float]
    parameters: tuple[int, int]
    error: float
    sets: int
    pairs: int


# Printed by `python benchmarks/ranked_pairs.py fit --rows benchmarks/results/ranked_pairs.jsonl`
FITTED = Fit(weights=(0.0390, 0.6554, 0.5821, 0.0907), parameters=(410_208, 3_413_024), error=0.5194, sets=4, pairs=30)


def log_odds(share: float, images: int) -> float:
    """Of a share of so many images, 0 and all of them included (half an image is added to both sides)."""
    return float(logit((share * images + 0.5) / (images + 1)))


def terms(accuracy: float, explained: float, parameters: int, images: int, within: tuple[int, int]) -> np.ndarray:
    """float64 (4,): what the weights multiply; see `Fit` and `after_tuning`."""
    size = np.log10(np.clip(parameters, *within))
    return np.array([1.0, log_odds(accuracy, images), explained, size])


def after_tuning(accuracy: float, explained: float, parameters: int, images: int, fit: Fit = FITTED) -> Metric:
    """Accuracy to expect on new images after the default fine-tuning, with a 95 % interval.

    The interval is that of a set of images that the fit has not seen: Student's t with a degree of freedom less than there
    were sets. How candidates compare on one set is known better, since what a set has of its own meets all of them.

    Args:
        accuracy: of a ridge classifier on the features, cross-validated, 0..1.
        explained: share of the labels that the features explain, see `logme.explained`.
        parameters: of the backbone.
        images: that were looked at.
        fit: the weights.
    """
    value = float(fit.weights @ terms(accuracy, explained, parameters, images, fit.parameters))
    half = float(stdtrit(fit.sets - 1, 0.5 + LEVEL / 2)) * fit.error
    return Metric(float(expit(value)), images, float(expit(value - half)), float(expit(value + half)))
