"""Out-of-fold probabilities: what a linear classifier says about images that it was not fitted on."""

import warnings
from dataclasses import dataclass

import numpy as np

FOLDS = 5
AXES = 128  # principal components that the classifier sees: the rest costs time and adds noise
STRENGTH = 0.3  # inverse penalty: strong, since a classifier that fits wrong labels cannot find them
ITERATIONS = 100
# Threads of BLAS wait for each other longer than they work on products this small.
_THREADS = 1


@dataclass(frozen=True)
class Probe:
    """Logistic regression on principal components, one for each fold.

    Args:
        classes: int64 (K,), the labels it knows, ascending.
        fold: int64 (n,), the fold of each image it was fitted on; its own model never saw the image.
        probabilities: float64 (n, K), out of fold.
        axes: float32 (C, d), from features to components.
        offset: float32 (d,), subtracted from them.
        kernels: float32 (folds, d, K).
        biases: float32 (folds, K).
    """

    classes: np.ndarray
    fold: np.ndarray
    probabilities: np.ndarray
    axes: np.ndarray
    offset: np.ndarray
    kernels: np.ndarray
    biases: np.ndarray

    def ask(self, features: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """float64 (m, K): probabilities of other views of images, by the model that never saw the image.

        Args:
            features: float32 (m, C).
            positions: int (m,), which of the images each one is a view of.
        """
        return self._of(features @ self.axes - self.offset, self.fold[positions])

    def _of(self, components: np.ndarray, folds: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        logits = np.empty((len(components), len(self.classes)))
        for fold in np.unique(folds):
            rows = folds == fold
            logits[rows] = components[rows] @ self.kernels[fold] + self.biases[fold]
        return softmax(logits, axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """int64 (n,), most probable label of each image, out of fold."""
        return self.classes[self.probabilities.argmax(axis=1)]


def fit_probe(features: np.ndarray, labels: np.ndarray, units: np.ndarray, seed: int = 0) -> Probe:
    """Fit on four fifths of the images, ask about the rest, five times.

    Args:
        features: float32 (n, C).
        labels: int (n,).
        units: int (n,); images of one unit share a fold.
        seed: of the folds.
    """
    from threadpoolctl import threadpool_limits

    components, axes, offset = _components(features)
    classes, targets = np.unique(labels, return_inverse=True)
    fold = make_folds(targets, units, seed)
    kernels = np.zeros((FOLDS, components.shape[1], len(classes)), np.float32)
    biases = np.full((FOLDS, len(classes)), -30.0, np.float32)  # a class that a fold cannot know gets no probability
    with threadpool_limits(_THREADS):
        for number in np.unique(fold):
            rows = fold != number
            known, kernel, bias = _solve(components[rows], targets[rows])
            kernels[number][:, known], biases[number][known] = kernel, bias
    probe = Probe(classes, fold, np.empty(0), axes, offset, kernels, biases)
    return Probe(classes, fold, probe._of(components, fold), axes, offset, kernels, biases)


def make_folds(labels: np.ndarray, units: np.ndarray, seed: int, count: int = FOLDS) -> np.ndarray:
    """int64 (n,), fold 0..count-1 of each image: units whole, classes dealt out evenly."""
    random = np.random.default_rng(seed)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    of_unit = np.empty(len(first), np.int64)
    dealt = 0
    for label in np.unique(labels[first]):
        members = random.permutation(np.flatnonzero(labels[first] == label))
        of_unit[members] = (dealt + np.arange(len(members))) % count
        dealt += len(members)
    return of_unit[inverse.ravel()]


def _components(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised features on their leading principal components, the matrix and the offset that lead there."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    weights = 1 / np.where(deviation > 1e-6 * (np.abs(mean) + 1e-6), deviation, np.inf)
    standard = (features - mean) * weights
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    count = min(AXES, *standard.shape)
    leading = vectors[:, ::-1][:, :count] / np.sqrt(max(values[-1], 1e-12))
    axes = (weights[:, None] * leading).astype(np.float32)
    return (standard @ leading).astype(np.float32), axes, (mean @ axes).astype(np.float32)


def _solve(components: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels known, kernel (d, k) and bias (k,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(targets)
    if len(known) == 1:
        return known, np.zeros((components.shape[1], 1)), np.zeros(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close is good enough here
        solved = LogisticRegression(C=STRENGTH, max_iter=ITERATIONS).fit(components, targets)
    if len(known) == 2:  # one row in scikit-learn
        return known, solved.coef_.T * [-0.5, 0.5], solved.intercept_ * [-0.5, 0.5]
    return known, solved.coef_.T, solved.intercept_
