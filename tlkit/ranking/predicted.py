"""Accuracy expected after fine-tuning, from what is known before it: a linear model in log odds, fitted to measured pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtrit

from tlkit.evaluation.results import Metric

LEVEL = 0.95
ALL = 1 - 1e-6  # of the labels explained; values above are equal
MEASURE = "accuracy"  # what was predicted: `Task.score_name` of one class per image


@dataclass(frozen=True)
class Fit:
    """The fitted model, its data, and its error on unseen sets.

    Args:
        weights: of a constant, the level of a set and the lead of a candidate over the others; see `terms`.
        error: standard error, in log odds, of the prediction for a set left out of the fit.
        sets: number of sets, each left out in turn.
        pairs: number of measurements, each of a backbone on a set with a seed.
    """

    weights: tuple[float, float, float]
    error: float
    sets: int
    pairs: int


# Printed by `python benchmarks/ranked_pairs.py fit --rows benchmarks/results/ranked_pairs.jsonl`
FITTED = Fit(weights=(0.7959, 0.6520, 1.2247), error=0.4596, sets=4, pairs=60)


def log_odds(share: float, images: int) -> float:
    """Log odds of a share of so many images, also for none and all of them (half an image is added to both sides)."""
    return float(logit((share * images + 0.5) / (images + 1)))


def terms(accuracies: Sequence[float], explained: Sequence[float], images: int) -> np.ndarray:
    """float64 (n, 3): the regressors of each candidate of one ranking.

    A constant; the level of the set, which is the mean of the log odds of all ridge accuracies; and the lead of a candidate
    over the mean of all in a third of its log odds plus two thirds of its gain in log evidence. The two use different data
    (held-out images in folds, all images) and have different errors, so that together they order candidates better than
    either; the size of the evidence says little about the accuracy on another set, so that it is not part of the level
    (benchmarks/results/ranking.md).
    """
    ridge = np.array([log_odds(one, images) for one in accuracies])
    gain = -np.log1p(-np.minimum(explained, ALL))
    order = (ridge + 2 * gain) / 3
    return np.column_stack([np.ones(len(ridge)), np.full(len(ridge), ridge.mean()), order - order.mean()])


def after_tuning(
    accuracies: Sequence[float], explained: Sequence[float], images: int, fit: Fit = FITTED
) -> list[Metric]:
    """Accuracies expected on new images after the default fine-tuning of each candidate, with 95 % intervals.

    The interval is that of a set of images that the fit has not seen: Student's t with one degree of freedom less than
    there were sets. The comparison of candidates on one set is more precise, since the effect of a set is common to all.

    Args:
        accuracies: one or more, of a ridge classifier on the features of each candidate, cross-validated, 0..1.
        explained: share of the labels that its features explain, see `logme.explained`.
        images: number used, the same ones for all.
        fit: the weights.
    """
    half = float(stdtrit(fit.sets - 1, 0.5 + LEVEL / 2)) * fit.error
    values = terms(accuracies, explained, images) @ fit.weights
    return [Metric(float(expit(one)), images, float(expit(one - half)), float(expit(one + half))) for one in values]
