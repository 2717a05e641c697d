"""Solvers of logistic regression: scikit-learn's for few coefficients, an L-BFGS in float32 for many."""

import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

ITERATIONS = 300
FLAT = 1e-9  # the search ends when the mean loss falls by less
MANY_NUMBERS = 100_000  # coefficients from which our own search pays
LOGITS = 2**25  # numbers in memory at once: more images are processed in blocks
MEMORY = 10  # steps from which the curvature is estimated


class _Quiet(LogisticRegression):
    """Logistic regression that may stop at its iteration limit without a warning: an approximate solution is enough here."""

    def fit(self, *arguments: Any, **options: Any) -> "_Quiet":
        """Fit as usual."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            return super().fit(*arguments, **options)


class Solver(Protocol):
    """Logistic regression, as scikit-learn has it."""

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray

    def set_params(self, C: float) -> "Solver":  # noqa: N803
        """Another inverse penalty."""

    def fit(self, features: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None) -> "Solver":
        """Find the coefficients."""


def logistic_regression(numbers: int, strength: float, iterations: int = ITERATIONS, level: float = 1e-4) -> Solver:
    """The solver of logistic regression for so many coefficients; all give the same solution.

    Args:
        numbers: features times classes.
        strength: inverse penalty.
        iterations: at most.
        level: the largest slope of the mean loss at the end.
    """
    if numbers >= MANY_NUMBERS:
        return ManyClasses(strength, iterations, level)
    return _Quiet(C=strength, max_iter=iterations, tol=level, warm_start=True)


class ManyClasses:
    """Multinomial logistic regression in float32 by L-BFGS (Liu and Nocedal 1989), for many coefficients.

    The problem is convex and smooth, and steps of length one nearly always suffice. scikit-learn uses SciPy's L-BFGS-B, which
    for 205,000 coefficients spends more time on absent bounds than on the loss (benchmarks/results/scale.md).
    """

    def __init__(self, strength: float, iterations: int, level: float) -> None:
        self.strength, self.iterations, self.level = strength, iterations, level
        self.classes_ = np.empty(0)
        self.coef_ = self.intercept_ = np.empty(0)
        self._weights = np.empty((0, 0), np.float32)

    def set_params(self, C: float) -> "ManyClasses":  # noqa: N803 - as scikit-learn calls it
        """Set another inverse penalty; the next search starts where the last one ended."""
        self.strength = C
        return self

    def fit(self, features: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None) -> "ManyClasses":
        """Find the coefficients for features (N, C) and labels int (N,)."""
        self.classes_, places = np.unique(labels, return_inverse=True)
        points, rows = features.astype(np.float32, copy=False), np.arange(len(places))
        weights = np.ones(len(rows), np.float32) if sample_weight is None else sample_weight.astype(np.float32)
        total, shape = float(weights.sum(dtype=np.float64)), (points.shape[1] + 1, len(self.classes_))
        penalty = 1 / (
            self.strength * total
        )  # all divided by the weight of the images, so that slopes are of one scale
        step = max(1, LOGITS // len(self.classes_))

        def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
            kernel, bias = flat.reshape(shape)[:-1], flat.reshape(shape)[-1]
            loss, gradient = penalty / 2 * float(np.vdot(kernel, kernel)), np.zeros(shape, np.float32)
            for start in range(0, len(points), step):
                here = slice(start, start + step)
                logits = points[here] @ kernel
                logits += bias
                logits -= logits.max(axis=1, keepdims=True)
                right = logits[rows[: len(logits)], places[here]]
                chances = np.exp(logits, out=logits)
                sums, heavy = chances.sum(axis=1), weights[here] / np.float32(total)
                loss += float(heavy @ (np.log(sums) - right))
                chances *= (heavy / sums)[:, None]
                chances[rows[: len(logits)], places[here]] -= heavy
                gradient[:-1] += points[here].T @ chances
                gradient[-1] += chances.sum(axis=0)
            gradient[:-1] += np.float32(penalty) * kernel
            return loss, gradient.ravel()

        start = self._weights if self._weights.shape == shape else np.zeros(shape, np.float32)
        found = self._weights = descend(slope, start.ravel(), self.iterations, self.level).reshape(shape)
        self.coef_, self.intercept_ = found[:-1].T, found[-1]
        return self


def descend(
    slope: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, iterations: int, level: float
) -> np.ndarray:
    """float32 (n,), the minimum of a smooth convex function by L-BFGS, from `start`.

    Args:
        slope: value and gradient float32 (n,) at a point.
        start: float32 (n,).
        iterations: at most.
        level: the largest component of the gradient at the end.
    """
    point, (value, gradient) = start, slope(start)
    steps: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=MEMORY)
    for _ in range(iterations):
        if np.abs(gradient).max() <= level:
            break
        direction = _downhill(gradient, steps)
        fall, length = float(gradient @ direction), 1.0 if steps else 1 / float(np.linalg.norm(gradient))
        while length > 1e-6:
            trial = point + np.float32(length) * direction
            lower, turned = slope(trial)
            if lower <= value + 1e-4 * length * fall:
                break
            length /= 2
        else:  # as low as float32 can resolve
            break
        moved, bent = trial - point, turned - gradient
        if (curvature := float(moved @ bent)) > 0:
            steps.append((moved, bent, curvature))
        gained, point, value, gradient = value - lower, trial, lower, turned
        if gained <= FLAT * max(abs(value), 1e-3):
            break
    return point


def _downhill(gradient: np.ndarray, steps: "deque[tuple[np.ndarray, np.ndarray, float]]") -> np.ndarray:
    """Minus the inverse curvature, estimated from the last steps, times the gradient: the two loops of L-BFGS."""
    direction, parts = -gradient, []
    for moved, bent, curvature in reversed(steps):
        parts.append(float(moved @ direction) / curvature)
        direction -= np.float32(parts[-1]) * bent
    if steps:
        _, bent, curvature = steps[-1]
        direction *= np.float32(curvature / float(bent @ bent))
    for (moved, bent, curvature), part in zip(steps, reversed(parts), strict=True):
        direction += np.float32(part - float(bent @ direction) / curvature) * moved
    return direction
