"""The linear head of several labels an image, solved exactly: a logistic regression for each class.

The K problems share features and penalty, so one L-BFGS solves them together: each step is one product of matrices where
K separate solvers would take K. The solution is the one that each would find alone.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from tlkit.core.predictions import image_losses
from tlkit.training.probe import (
    FALLBACK,
    FOLDS,
    ITERATIONS,
    STRENGTHS,
    WORTH_THREADS,
    CrossValidation,
    Probe,
    on_raw_features,
    standardised,
)

LEVEL, FLAT = 1e-6, 1e-9  # the largest slope of the mean loss, and its least fall, with which the search goes on


def fit_one_vs_rest(
    views: Sequence[np.ndarray],
    targets: np.ndarray,
    *,
    units: np.ndarray,
    strength: float | None = None,
    seed: int = 0,
) -> Probe:
    """Solve the head on all views; the penalty is chosen on the images themselves, view 0, as `fit_probe` does.

    A class that no image has, or every image, has no finite solution and gets the bias that its rate asks for.

    Args:
        views: float32 (N, C) each, the same images in the same order.
        targets: int (N, K), 1 where the image has the class, else 0.
        units: int (N,); images of one unit share a fold.
        strength: inverse penalty for each image; cross-validated unless given.
        seed: of the folds.
    """
    standard, mean, deviation = standardised(np.concatenate(list(views)))
    with threadpool_limits(1 if standard.size * targets.shape[1] < WORTH_THREADS else None):
        found, rule = None, "given"
        if strength is None:
            folds = make_folds(targets, units, seed)
            found = _cross_validate(standard[: len(targets)], targets, folds) if folds else None
            rule = f"best of {len(found.scores)} in {len(folds)}-fold cross-validation" if found else "too few images"
            strength = found.best if found else FALLBACK
        weights = solve(standard, np.tile(targets, (len(views), 1)), strength / len(views))
    return on_raw_features(weights[:-1], weights[-1], mean, deviation, strength=strength, found=found, rule=rule)


def solve(features: np.ndarray, targets: np.ndarray, strength: float, start: np.ndarray | None = None) -> np.ndarray:
    """float64 (C + 1, K), the last row the biases: least sum of log losses times `strength` plus half the squared kernel.

    Args:
        features: float32 (N, C).
        targets: int (N, K).
        strength: inverse penalty; biases carry none.
        start: where to search from.
    """
    truth = targets.astype(np.float32)
    count, rate = len(truth), (truth.sum(axis=0) + 0.5) / (len(truth) + 1)
    solvable = (truth.any(axis=0) & ~truth.all(axis=0)).astype(np.float32)
    shape = (features.shape[1] + 1, truth.shape[1])
    if start is None:
        start = np.zeros(shape)
        start[-1] = np.log(rate / (1 - rate))
    scale = 1 / (strength * count)  # everything by the number of images, so that slopes are of one size

    def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        logits = features @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)
        losses = np.logaddexp(0, logits).sum(dtype=np.float64) - (logits * truth).sum(dtype=np.float64)
        rest = (expit(logits) - truth) * solvable
        gradient = np.vstack([features.T @ rest, rest.sum(axis=0)]).astype(np.float64) / count
        gradient[:-1] += scale * weights[:-1]
        return losses / count + scale * float((weights[:-1] ** 2).sum()) / 2, gradient.ravel()

    options = {"maxiter": ITERATIONS, "gtol": LEVEL, "ftol": FLAT}
    found = minimize(slope, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(shape)


def make_folds(targets: np.ndarray, units: np.ndarray, seed: int) -> list[np.ndarray]:
    """Bool (N,) held-out masks, a unit in one of them; each fold gets its share of every class as far as that goes.

    Units are dealt in random order, those of rare classes first, each to the fold that has least of its classes. Empty
    for fewer than two units.
    """
    number = np.unique(units, return_inverse=True)[1].ravel()
    count = min(FOLDS, int(number.max(initial=-1)) + 1)
    if count < 2:
        return []
    table = np.zeros((int(number.max()) + 1, targets.shape[1] + 1))
    np.add.at(table, number, np.column_stack([np.ones(len(targets)), targets]))  # images, then each class
    totals = np.maximum(table.sum(axis=0), 1)
    rarest = np.where(table > 0, totals, np.inf).min(axis=1)
    shuffled = np.random.default_rng((seed, 4)).permutation(len(table))
    held, fold = np.zeros((count, table.shape[1])), np.empty(len(table), np.int64)
    for unit in shuffled[np.argsort(rarest[shuffled], kind="stable")].tolist():
        fold[unit] = int(np.round(held @ (table[unit] / totals), 9).argmin())
        held[fold[unit]] += table[unit]
    return [fold[number] == one for one in range(count)]


def _cross_validate(features: np.ndarray, targets: np.ndarray, folds: Sequence[np.ndarray]) -> CrossValidation:
    """Mean held-out log loss of each strength, strong penalties first; stops when two weaker ones in a row did worse."""
    scores: dict[float, float] = {}
    best = np.empty(targets.shape, np.float32)
    starts: list[np.ndarray | None] = [None] * len(folds)
    for strength in STRENGTHS:
        logits = np.empty(targets.shape, np.float32)
        for place, held in enumerate(folds):
            # Each solution starts from the one before it, which is close.
            weights = solve(features[~held], targets[~held], strength, starts[place])
            starts[place] = weights
            logits[held] = features[held] @ weights[:-1] + weights[-1]
        scores[strength] = float(image_losses(logits, targets).mean())
        best = logits if scores[strength] == min(scores.values()) else best
        if len(scores) >= 3 and min(list(scores.values())[-2:]) > min(scores.values()):
            break
    return CrossValidation(scores, best)
