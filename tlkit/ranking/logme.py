"""LogME: the probability of the labels under a Bayesian linear model of the features (You et al. 2021)."""

import numpy as np
from scipy.optimize import minimize_scalar

GRID = np.linspace(-8.0, 8.0, 65)  # log10 of noise over signal, in units of the mean eigenvalue


def logme(features: np.ndarray, targets: np.ndarray) -> float:
    """Maximum log evidence per image, averaged over the classes, each against the rest.

    You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021: y = F w + noise,
    w ~ N(0, 1/alpha), noise ~ N(0, 1/beta), evidence maximised over alpha and beta. The paper uses a fixed-point
    iteration; here y ~ N(0, (F F' + lambda) / alpha) with lambda = alpha / beta, so alpha has a closed form for each
    lambda and one number is left to search, which cannot stall where features outnumber images.

    Args:
        features: float (N, C), as from the backbone.
        targets: float64 (N, K), 1 where the image has the class, 0 where not; classes without an image count too, as in
            the paper.

    Returns:
        Nats per image; higher is better, but only differences on the same images are meaningful.
    """
    features = features.astype(np.float64)
    count, width = features.shape
    if count <= width:
        values, left = np.linalg.eigh(features @ features.T)
    else:
        values, right = np.linalg.eigh(features.T @ features)
        left = features @ right
    keep = values > max(values.max(), 0.0) * 1e-12
    values, left = values[keep], left[:, keep]
    left = left / np.linalg.norm(left, axis=0)
    scale = float(values.mean()) if len(values) else 1.0
    values = values / scale
    seen = (left.T @ targets) ** 2
    unseen = np.maximum((targets**2).sum(axis=0) - seen.sum(axis=0), 0.0)
    return float(np.mean([_evidence(values, seen[:, k], unseen[k], count) for k in range(targets.shape[1])]) / count)


def explained(evidence: float, targets: np.ndarray) -> float:
    """The share of the labels that features explain, comparable between sets: 1 - exp(-2 (evidence - that of no features)).

    For normal targets of known noise it is the share of their variance that is explained (Kent 1983). Features that
    explain less than their number costs have a little below 0.

    Args:
        evidence: of `logme`.
        targets: float64 (N, K), as in `logme`.
    """
    variance = targets.var(axis=0)
    alone = np.where(variance > 0, -0.5 * (np.log(2 * np.pi * np.where(variance > 0, variance, 1)) + 1), 0.0)
    return 1.0 - float(np.exp(-2 * (evidence - alone.mean())))


def _evidence(values: np.ndarray, seen: np.ndarray, unseen: float, count: int) -> float:
    """Log evidence at its maximum; 0 for a class without an image.

    Args:
        values: (r,) eigenvalues of F F' in any unit, which alpha absorbs.
        seen: (r,) squares of the target along their eigenvectors.
        unseen: square of the target outside their span.
        count: N.
    """
    if seen.sum() + unseen < 1e-12:
        return 0.0
    rest = count - len(values)

    def minus(exponent: float) -> float:
        noise = 10.0**exponent
        spread = (float((seen / (values + noise)).sum()) + unseen / noise) / count
        logs = float(np.log(values + noise).sum()) + rest * np.log(noise)
        return 0.5 * (count * np.log(2 * np.pi * max(spread, 1e-300)) + logs + count)

    tried = [minus(exponent) for exponent in GRID]
    place = int(np.argmin(tried))
    ends = GRID[max(place - 1, 0)], GRID[min(place + 1, len(GRID) - 1)]
    return -min(tried[place], float(minimize_scalar(minus, bounds=ends, method="bounded").fun))
