"""Ridge classification in closed form: one eigendecomposition gives every fold and every penalty."""

from dataclasses import dataclass

import numpy as np

PENALTIES = 10.0 ** np.arange(-3, 3)  # in units of the mean eigenvalue


@dataclass(frozen=True)
class Spectrum:
    """Standardised features (N, C) as left singular vectors and squared singular values.

    Args:
        standard: float64 (N, C), columns of mean 0 and deviation 1.
        mean, deviation: (C,), used for this.
        left: (N, r), orthonormal.
        values: (r,), positive.
    """

    standard: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    left: np.ndarray
    values: np.ndarray

    @property
    def penalties(self) -> np.ndarray:
        """(P,) to try, weak to strong."""
        return PENALTIES * (float(self.values.mean()) if len(self.values) else 1.0)


def spectrum(features: np.ndarray) -> Spectrum:
    """Decompose features float (N, C); a column that does not vary stays 0."""
    features = features.astype(np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 1e-6 * (np.abs(mean) + 1e-6), deviation, np.inf)
    standard = (features - mean) / deviation
    if len(standard) <= standard.shape[1]:
        values, left = np.linalg.eigh(standard @ standard.T)
    else:
        values, right = np.linalg.eigh(standard.T @ standard)
        left = standard @ right
    keep = values > max(values.max(), 0.0) * 1e-10
    left = left[:, keep] / np.linalg.norm(left[:, keep], axis=0)
    return Spectrum(standard, mean, deviation, left, values[keep])


def out_of_fold(found: Spectrum, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """float64 (N, K): out-of-fold predictions of ridge regression on the targets, less one half.

    The predicted class is that of the largest value; with several labels, those above 0. The intercept is not penalised.
    Leaving out a fold needs no new fit: with the hat matrix H of all images, the residuals of the images left out are
    (I - H_ff)^-1 r_f, exactly. The penalty for a fold is the one with the least squared error on all others, so that no
    image contributes to the choice of its own penalty.

    Args:
        found: of the features.
        targets: float64 (N, K), 1 where the image has the class, 0 where not.
        folds: int (N,), at least two different values.
    """
    count, names = len(targets), np.unique(folds)
    centred = targets - targets.mean(axis=0)
    along = found.left.T @ centred
    scores = np.empty((len(PENALTIES), *targets.shape))
    for number, penalty in enumerate(found.penalties):
        shrink = found.values / (found.values + penalty)
        residual = centred - found.left @ (shrink[:, None] * along)
        for name in names:
            held = folds == name
            hat = (found.left[held] * shrink) @ found.left[held].T + 1 / count
            scores[number, held] = targets[held] - np.linalg.solve(np.eye(len(hat)) - hat, residual[held])
    errors = ((scores - targets) ** 2).sum(axis=2)
    said = np.empty_like(targets)
    for name in names:
        held = folds == name
        said[held] = scores[int(errors[:, ~held].sum(axis=1).argmin()), held]
    return said - 0.5


def fit_predict(features: np.ndarray, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
    """float64 (M, K): predictions for `others` of a ridge model with its penalty chosen by leave-one-out (Allen 1974), less one half.

    Args:
        features: float (N, C), N >= 2, not all alike.
        targets: float64 (N, K), as for `out_of_fold`.
        others: float (M, C).
    """
    found = spectrum(features)
    centre = targets.mean(axis=0)
    along = found.left.T @ (targets - centre)
    errors = []
    for penalty in found.penalties:
        shrink = found.values / (found.values + penalty)
        residual = targets - centre - found.left @ (shrink[:, None] * along)
        leverage = (found.left**2) @ shrink + 1 / len(targets)
        errors.append(float(((residual / (1 - leverage)[:, None]) ** 2).sum()))
    penalty = found.penalties[int(np.argmin(errors))]
    weights = found.standard.T @ (found.left @ (along / (found.values + penalty)[:, None]))
    return ((others - found.mean) / found.deviation) @ weights + centre - 0.5
