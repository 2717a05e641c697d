"""Several views of an image, one answer."""

import numpy as np


def average_logits(views: np.ndarray, temperature: float = 1.0, *, multi: bool = False) -> np.ndarray:
    """Logits whose probabilities, at the same temperature, are the mean of the probabilities of the views.

    Probabilities are averaged, not logits: no view then outvotes the others by being sure of itself (Krizhevsky et al.
    2012 average the softmax of ten crops). On photographs of flowers the two gave the same accuracy, see docs/log.md.
    What is returned are logits again, so that whatever works on those of one view works on these.

    Args:
        views: float (V, N, K), logits of V views of N images.
        temperature: that makes probabilities of them.
        multi: whether each class is a question of its own, a sigmoid, and not one of K, a softmax.

    Returns:
        float32 (N, K); finite for any finite input.
    """
    scaled = views.astype(np.float64) / temperature
    if multi:
        yes, no = _mean(-np.logaddexp(0.0, -scaled)), _mean(-np.logaddexp(0.0, scaled))
        return ((yes - no) * temperature).astype(np.float32)
    log_sum = np.logaddexp.reduce(scaled, axis=2, keepdims=True)
    return (_mean(scaled - log_sum) * temperature).astype(np.float32)


def _mean(logarithms: np.ndarray) -> np.ndarray:
    """Logarithm of the mean over the first axis."""
    return np.logaddexp.reduce(logarithms, axis=0) - np.log(len(logarithms))
