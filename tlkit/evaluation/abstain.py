"""When to say nothing: the confidence above which answers are as precise as was asked for."""

import numpy as np
from scipy.stats import beta

from tlkit.core.results import Abstention
from tlkit.evaluation.curves import metric
from tlkit.evaluation.intervals import Groups, effective_size, share_interval

RISK = 0.05  # how often, over validation sets, the bound of one threshold may promise too much


def lowest_precision(hits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """What the precision is at least, 95 times in 100, after so many hits among n; 0..1.

    The one-sided bound of Clopper and Pearson (1934), exact for every n. Takes fractions, for images in groups.
    """
    return np.where(hits > 0, beta.ppf(RISK, np.maximum(hits, 1e-9), n - hits + 1), 0.0)


def fewest_images(target: float) -> int:
    """How many images can show a precision of `target` if there is no error among them."""
    return int(np.ceil(np.log(RISK) / np.log(target)))


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, target: float, groups: Groups = None) -> float | None:
    """The lowest confidence at which the answers from there on up are shown to be precise enough.

    Selective classification with a guaranteed risk (Geifman and El-Yaniv 2017), with the exact bound at every
    threshold and no further price for the search: precision falls as more is answered, so a threshold that
    promises too much is met about as often as one bound errs (3 to 6 times in 100, benchmarks/coverage.py).

    Args:
        confidence: float (n,) of validation images, after the temperature; 0..1.
        correct: bool (n,).
        target: precision asked for, 0..1.
        groups: int (n,), or None; images count for as many as the effective size says.

    Returns:
        The threshold: answer where the confidence reaches it. None where no threshold is shown to be enough.
    """
    if not len(confidence):
        return None
    order = np.argsort(-confidence, kind="stable")
    ranked, n = confidence[order], len(order)
    worth = 1.0 if groups is None else effective_size(correct, groups) / n
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # equals are answered together
    hits, answered = correct[order].cumsum()[last] * worth, (last + 1) * worth
    enough = np.flatnonzero(lowest_precision(hits, answered) >= target)
    # A rounded-down copy still reaches itself after a trip through float32 or nine digits of text.
    return None if not len(enough) else float(np.floor(ranked[last[enough[-1]]] * 1e6) / 1e6)


def abstention(
    confidence: np.ndarray, correct: np.ndarray, threshold: float, target: float, groups: Groups = None
) -> Abstention:
    """Coverage and precision of a threshold on n images."""
    answered = confidence >= threshold
    among = None if groups is None else groups[answered]
    precision = float(correct[answered].mean()) if answered.any() else None
    return Abstention(
        target_precision=target,
        threshold=threshold,
        coverage=metric(float(answered.mean()), len(answered), share_interval(answered, groups), groups),
        precision=metric(precision, int(answered.sum()), share_interval(correct[answered], among), among),
    )
