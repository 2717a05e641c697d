"""Out-of-fold probabilities: what classifiers of the features say about images that they were not fitted on.

Two logistic regressions, averaged: one on principal components, one on a Gaussian kernel of them (Nyström
approximation, Williams and Seeger 2001). They err in different places, so that together they find more wrong
labels than either alone, and both take a second on thousands of images.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.data.folds import FOLDS, in_turn

AXES = 256  # principal components: the rest costs time and adds noise
LANDMARKS = 500  # images that the kernel compares with
WIDTH = 1.0  # of the Gaussian: exp(-WIDTH * distance²) of components at length 1
TOLERANCE, ITERATIONS = 1e-3, 60  # close is good enough here
# Inverse penalties; strong ones, since a classifier that fits wrong labels cannot find them.
_LINEAR, _CURVED = 0.1, 10.0
_UNKNOWN = -30.0  # logit of a class that a fold does not know
Lens = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Side:
    """One of the classifiers, fitted once for each fold.

    Args:
        lens: float32 (m, C) features to float32 (m, d), what it looks at.
        kernels: float32 (folds, d, K).
        biases: float32 (folds, K).
    """

    lens: Lens
    kernels: np.ndarray
    biases: np.ndarray

    def ask(self, seen: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """float64 (m, K) probabilities of `seen` (m, d), by the model that left out `fold` (m,)."""
        from scipy.special import softmax

        logits = np.empty((len(seen), self.biases.shape[1]))
        for number in np.unique(fold):
            rows = fold == number
            logits[rows] = seen[rows] @ self.kernels[number] + self.biases[number]
        return softmax(logits, axis=1)


@dataclass(frozen=True)
class HeldOutProbe:
    """Classifiers cross-validated on five folds.

    Args:
        classes: int64 (K,), the labels it knows, ascending.
        fold: int64 (n,), the fold of each image; the models of that fold never saw it.
        sides: the classifiers.
        probabilities: float64 (n, K), out of fold.
        targets: int64 (n,), place of each image's label in `classes`.
    """

    classes: np.ndarray
    fold: np.ndarray
    sides: tuple[Side, ...]
    probabilities: np.ndarray
    targets: np.ndarray

    def ask(self, features: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """float64 (m, K): probabilities of other views of images, by models that never saw the image.

        Args:
            features: float32 (m, C).
            positions: int (m,), which of the images each one is a view of.
        """
        return np.mean([side.ask(side.lens(features), self.fold[positions]) for side in self.sides], axis=0)

    @cached_property
    def judged(self) -> np.ndarray:
        """Bool (n,): images whose class the models of their fold have seen; of the others nothing can be said.

        A class that is one unit (copies of one picture, one clip) is in one fold alone.
        """
        known = self.sides[0].biases > _UNKNOWN
        return known[self.fold, self.targets]

    @property
    def predicted(self) -> np.ndarray:
        """int64 (n,), most probable label of each image, out of fold."""
        return self.classes[self.probabilities.argmax(axis=1)]


def fit_probe(features: np.ndarray, labels: np.ndarray, units: np.ndarray, seed: int = 0) -> HeldOutProbe:
    """Fit, and predict out of fold.

    Args:
        features: float32 (n, C).
        labels: int (n,).
        units: int (n,); images of one unit share a fold.
        seed: of the folds and landmarks.
    """
    classes, targets = np.unique(labels, return_inverse=True)
    fold = in_turn(targets, units, seed)
    with threadpool_limits(1):  # on products this small, threads of BLAS wait for each other longer than they work
        linear = _components(features)
        curved = _compared(linear, features, seed)
        sides = tuple(
            _fitted(lens, features, targets, fold, strength)
            for lens, strength in ((linear, _LINEAR), (curved, _CURVED))
        )
        probe = HeldOutProbe(classes, fold, sides, np.empty(0), targets)
        return replace(probe, probabilities=probe.ask(features, np.arange(len(features))))


def _components(features: np.ndarray) -> Lens:
    """Standardised roots of the features on their leading principal components, the first at variance 1.

    Averages of rectified activations have long tails, which the signed root tames.
    """
    features = _root(features)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    weights = 1 / np.where(deviation > 1e-6 * (np.abs(mean) + 1e-6), deviation, np.inf)
    standard = (features - mean) * weights
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    count = min(AXES, *standard.shape)
    leading = vectors[:, ::-1][:, :count] / np.sqrt(max(values[-1], 1e-12))
    axes = (weights[:, None] * leading).astype(np.float32)
    offset = (mean @ axes).astype(np.float32)
    return lambda found: _root(found) @ axes - offset


def _root(features: np.ndarray) -> np.ndarray:
    return np.sign(features) * np.sqrt(np.abs(features))


def _compared(linear: Lens, features: np.ndarray, seed: int) -> Lens:
    """Features whose products are a Gaussian kernel of the components' directions."""
    count = min(LANDMARKS, max(2, len(features) // 2))
    chosen = np.random.default_rng(seed).choice(len(features), count, replace=False)
    landmarks = _direction(linear(features[chosen]))
    values, vectors = np.linalg.eigh(_gaussian(landmarks, landmarks) + 1e-6 * np.eye(count))
    whitening = (vectors / np.sqrt(np.maximum(values, 1e-6))).astype(np.float32)
    return lambda found: _gaussian(_direction(linear(found)), landmarks) @ whitening


def _direction(points: np.ndarray) -> np.ndarray:
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)


def _gaussian(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float32 (n, m), of points at length 1."""
    return np.exp(-WIDTH * (2 - 2 * (left @ right.T)))


def _fitted(lens: Lens, features: np.ndarray, targets: np.ndarray, fold: np.ndarray, strength: float) -> Side:
    seen = lens(features)
    kernels = np.zeros((FOLDS, seen.shape[1], targets.max() + 1), np.float32)
    biases = np.full((FOLDS, targets.max() + 1), _UNKNOWN, np.float32)
    for number in np.unique(fold):
        rows = fold != number
        known, kernel, bias = _solve(seen[rows], targets[rows], strength)
        kernels[number][:, known], biases[number][known] = kernel, bias
    return Side(lens, kernels, biases)


def _solve(points: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels known, kernel (d, k) and bias (k,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(targets)
    if len(known) < 2:
        return known, np.zeros((points.shape[1], len(known))), np.zeros(len(known))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        solved = LogisticRegression(C=strength, max_iter=ITERATIONS, tol=TOLERANCE).fit(points, targets)
    if len(known) == 2:  # one row in scikit-learn
        return known, solved.coef_.T * [-0.5, 0.5], solved.intercept_ * [-0.5, 0.5]
    return known, solved.coef_.T, solved.intercept_
