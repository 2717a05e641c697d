"""Whether a probability means what it says, and the one number that repairs it."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from tlkit.core.results import Reliability

BINS = 15
TEMPERATURES = (0.05, 20.0)  # beyond these the fit says more about too few images than about the network


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Sort n images into bins of confidence.

    Args:
        confidence: float (n,), probability of the predicted class, 0..1; n at least 1.
        correct: bool (n,).
        bins: how many, of equal width.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    some = np.where(count > 0, count, np.nan)
    return Reliability(
        edges=edges,
        count=count,
        confidence=np.bincount(place, weights=confidence, minlength=bins) / some,
        accuracy=np.bincount(place, weights=correct, minlength=bins) / some,
    )


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean of -log p(truth), from logits (n, K) and int labels (n,); finite for finite logits."""
    scaled = logits.astype(np.float64) / temperature
    return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes held-out images most likely (Guo et al. 2017), within `TEMPERATURES`.

    Divide logits by it before the softmax. It changes no prediction, only how sure each one is. Where the
    images cannot say - fewer than two, or no error among them, so that ever colder looks ever better - it
    is never below 1: sharpening without a single error to answer for would be invention.

    Args:
        logits: float (n, K), of images that were not trained on.
        labels: int (n,), 0..K-1.
    """
    if len(labels) < 2 or logits.shape[1] < 2 or not np.isfinite(logits).all():
        return 1.0
    low, high = np.log(TEMPERATURES)
    # Convex in 1/T, hence with a single valley in log T.
    found = minimize_scalar(
        lambda log: negative_log_likelihood(logits, labels, float(np.exp(log))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    separated = bool((np.argmax(logits, axis=1) == labels).all())
    temperature = float(np.exp(found.x))
    return max(1.0, temperature) if separated else temperature
