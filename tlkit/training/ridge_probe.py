"""The linear head of numbers solved exactly: ridge regression (Hoerl and Kennard 1970) on stored features."""

from collections.abc import Sequence

import numpy as np

from tlkit.data.folds import strata, stratified_by_labels
from tlkit.training.probe import FALLBACK, CrossValidation, Probe, on_raw_features, standardised

# Inverse penalties on standardised features per training image, strong to weak; each is a product of small matrices.
STRENGTHS = tuple(10.0 ** np.arange(-6, 2.5, 0.5))
SMALL = 1e-10  # eigenvalues below this share of the largest are rounding errors


def fit_ridge(
    views: Sequence[np.ndarray],
    targets: np.ndarray,
    *,
    units: np.ndarray,
    strength: float | None = None,
    seed: int = 0,
) -> Probe:
    """Solve the head on all views; the penalty is chosen on the images themselves, view 0, as `fit_probe` does.

    Args:
        views: float32 (N, C) each, the same images in the same order.
        targets: float (N, K), the numbers in the units of training.
        units: int (N,); images of one unit share a fold.
        strength: inverse penalty for each image; by default cross-validated.
        seed: of the folds.
    """
    standard, mean, deviation = standardised(np.concatenate(list(views)))
    found, rule = None, "given"
    if strength is None:
        parts = strata(targets)
        folds = stratified_by_labels(np.eye(int(parts.max(initial=0)) + 1)[parts], units, seed)
        found = cross_validate(standard[: len(targets)], targets, folds) if folds else None
        rule = f"best of {len(found.scores)} in {len(folds)}-fold cross-validation" if found else "too few images"
        strength = found.best if found else FALLBACK
    kernel, bias = solve(standard, np.tile(targets, (len(views), 1)), strength / len(views))
    return on_raw_features(kernel, bias, mean, deviation, strength=strength, found=found, rule=rule)


def solve(features: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel float64 (C, K) and bias (K,): least sum of half squared errors times `strength` plus half the squared kernel.

    Args:
        features: float (N, C).
        targets: float (N, K).
        strength: inverse penalty; the bias carries none.
    """
    points, centre = _centred(features)
    middle = targets.mean(axis=0)
    count, width = points.shape
    if count > width:
        kernel = np.linalg.solve(points.T @ points + np.eye(width) / strength, points.T @ (targets - middle))
    else:
        kernel = points.T @ np.linalg.solve(points @ points.T + np.eye(count) / strength, targets - middle)
    return kernel, middle - centre @ kernel


def cross_validate(features: np.ndarray, targets: np.ndarray, folds: Sequence[np.ndarray]) -> CrossValidation:
    """Mean held-out half squared error of each strength, from one eigendecomposition.

    Leaving out a fold needs no new fit: with the hat matrix H of all images, the residuals of the images left out are
    (I - H_ff)^-1 r_f, exactly.

    Args:
        features: float (N, C).
        targets: float (N, K).
        folds: bool (N,) masks; each image in one of them.
    """
    left, values = _spectrum(_centred(features)[0])
    middle = targets.mean(axis=0)
    along, count = left.T @ (targets - middle), len(targets)
    scores: dict[float, float] = {}
    best = np.empty(targets.shape, np.float32)
    for strength in STRENGTHS:
        shrink = values / (values + 1 / strength)
        residual = (targets - middle) - left @ (shrink[:, None] * along)
        errors = np.empty(targets.shape)
        for held in folds:
            hat = (left[held] * shrink) @ left[held].T + 1 / count
            errors[held] = np.linalg.solve(np.eye(len(hat)) - hat, residual[held])
        scores[strength] = float((errors**2).mean() / 2)
        best = (targets - errors).astype(np.float32) if scores[strength] == min(scores.values()) else best
    return CrossValidation(scores, best)


def _centred(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = features.astype(np.float64)
    centre = points.mean(axis=0)
    return points - centre, centre


def _spectrum(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (N, r) and squared singular values (r,) of centred features."""
    if len(points) <= points.shape[1]:
        values, left = np.linalg.eigh(points @ points.T)
    else:
        values, right = np.linalg.eigh(points.T @ points)
        left = points @ right
    keep = values > max(float(values.max(initial=0.0)), 1e-300) * SMALL
    left = left[:, keep]
    return left / np.linalg.norm(left, axis=0), values[keep]
