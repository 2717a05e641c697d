"""Calibration: reliability, temperature scaling, and the threshold of abstention."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import betaincinv

from tlkit.classifier.answers import image_losses, image_scores
from tlkit.evaluation.curves import metric
from tlkit.evaluation.intervals import FEWEST, LEVEL, Groups, Interval, effective_size, share_interval
from tlkit.evaluation.results import Abstention, Reliability
from tlkit.tasks.registry import of_truth

BINS = 15
DRAWS = 1000  # of noise, for the interval of the calibration error
FEW_ERRORS = 5  # with fewer errors among the validation images, one more is added to the fit
TEMPERATURES = (0.05, 20.0)  # beyond these the fit says more about too few images than about the network


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """int64 (n,), the bin of equal width that each confidence lies in; a bin holds its upper edge."""
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1, 0, bins - 1)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Sort n images into bins of confidence.

    Args:
        confidence: float (n,), probability of the predicted class, 0..1; n at least 1.
        correct: bool (n,).
        bins: how many, of equal width.
    """
    place = bin_of(confidence, bins)
    count = np.bincount(place, minlength=bins)
    some = np.where(count > 0, count, np.nan)
    return Reliability(
        edges=np.linspace(0, 1, bins + 1),
        count=count,
        confidence=np.bincount(place, weights=confidence, minlength=bins) / some,
        accuracy=np.bincount(place, weights=correct, minlength=bins) / some,
    )


def calibration_error_interval(
    confidence: np.ndarray, correct: np.ndarray, groups: Groups = None, seed: int = 0
) -> Interval | None:
    """Interval of the expected calibration error in `BINS` bins, by test inversion (Carpenter 1999).

    The error sums absolute gaps, so noise alone makes it positive, and a bootstrap, which adds noise to noise,
    is too high. Instead, for a supposed error, the gaps nearest to the observed ones that add up to it (Duchi
    et al. 2008) are drawn with the noise of these images; the interval holds the supposed errors under which
    the observed one is neither among the 2.5 % lowest nor the 2.5 % highest. It begins at 0 where perfect
    calibration explains the observed error.

    Args:
        confidence: float (n,), probability of the predicted class, 0..1.
        correct: bool (n,).
        groups: int (n,), or None.
        seed: of the noise.

    Returns:
        (low, high), or None for fewer than 20 images or groups.
    """
    place, n = bin_of(confidence), len(confidence)
    units = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(units.max()) + 1 if n else 0
    if count < FEWEST:
        return None
    sums = np.zeros((count, BINS))  # of each unit, its share of the gap of each bin
    np.add.at(sums, (units, place), (confidence - correct) * (count / n))
    gaps, observed = sums.mean(axis=0), float(np.abs(sums.mean(axis=0)).sum())
    values, vectors = np.linalg.eigh(np.cov(sums.T) / count)
    noise = np.random.default_rng(seed).normal(size=(DRAWS, BINS)) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    images = np.bincount(place, minlength=BINS)
    share = np.maximum(images, 1) / n
    accuracy = np.bincount(place, weights=correct, minlength=BINS) / np.maximum(images, 1)

    def not_below(supposed: float) -> float:
        """Share of draws at least as high as the observed error; rises with `supposed`."""
        nearest = _adding_up_to(gaps, supposed)
        # An accuracy nearer to one half than the observed one is noisier.
        then = np.clip(accuracy + (gaps - nearest) / share, 0.0, 1.0)
        wider = np.sqrt(np.maximum(1.0, _bernoulli(then, images) / _bernoulli(accuracy, images)))
        return float((np.abs(nearest + noise * wider).sum(axis=1) >= observed).mean())

    tail = (1 - LEVEL) / 2
    low = 0.0 if not_below(0.0) >= tail else _bisect(lambda error: not_below(error) >= tail, 0.0, observed)
    return low, _bisect(lambda error: not_below(error) >= 1 - tail, observed, 1.0)


def _bernoulli(share: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Variance of a hit, with half a hit and half a miss added so that it is never 0."""
    smoothed = (share * n + 0.5) / (n + 1)
    return smoothed * (1 - smoothed)


def _adding_up_to(gaps: np.ndarray, total: float) -> np.ndarray:
    """The nearest gaps whose absolute values add up to `total`: all shrunk by the same amount, or all scaled up."""
    size = np.abs(gaps)
    if total >= size.sum():
        return gaps * (total / size.sum()) if size.sum() else gaps
    falling = np.sort(size)[::-1]
    excess = (falling.cumsum() - total) / np.arange(1, len(gaps) + 1)
    by = excess[np.flatnonzero(falling >= excess)[-1]]
    return np.sign(gaps) * np.maximum(size - by, 0.0)


def _bisect(beyond: Callable[[float], bool], low: float, high: float) -> float:
    """Where `beyond` turns true between `low` and `high`, to a ten-thousandth."""
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return (low + high) / 2


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean of -log p(truth), from logits (n, K) and int labels (n,), or (n, K) of 0 and 1; finite for finite logits."""
    return float(image_losses(logits, labels, temperature).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that calibrates a classifier (Guo et al. 2017): logits are divided by it before the softmax.

    It does not change the most probable class, only its confidence. With fewer than `FEW_ERRORS` errors, which may all be
    narrow, it falls below 1 no further than if one of n + 2 images were a further error (the prior of Platt 1999).

    Args:
        logits: float (n, K), of images that were not trained on.
        labels: int (n,), 0..K-1; or (n, K), 1 where the image has the class, where it may have several.
    """
    temperature = likeliest_temperature(logits, labels)
    if temperature >= 1.0 or int((image_scores(logits, labels) < 1).sum()) >= FEW_ERRORS:
        return temperature
    mistaken, share = of_truth(labels).mistaken(logits, labels), 1 / (len(labels) + 2)

    def with_one_more(found: float) -> float:
        seen, imagined = (negative_log_likelihood(logits, truth, found) for truth in (labels, mistaken))
        return (1 - share) * seen + share * imagined

    return min(1.0, max(temperature, _lowest(with_one_more)))


def likeliest_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the highest likelihood on held-out images, within `TEMPERATURES`; arguments as above.

    Where the images cannot determine it (fewer than two, or no error among them, so that the likelihood rises without
    limit as it falls), it is never below 1.
    """
    known = of_truth(labels).calibrated and np.isfinite(logits).all()
    if len(labels) < 2 or logits.shape[1] < 2 or not known:
        return 1.0
    temperature = _lowest(lambda found: negative_log_likelihood(logits, labels, found))
    separated = bool((image_scores(logits, labels) == 1).all())
    return max(1.0, temperature) if separated else temperature


def _lowest(loss: Callable[[float], float]) -> float:
    """The temperature of the lowest loss, which is convex in 1/T and so has a single minimum in log T."""
    found = minimize_scalar(
        lambda log: loss(float(np.exp(log))),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


# -- Abstention: the confidence above which answers are as precise as was asked for ---

RISK = 0.05  # how often, over validation sets, the bound of one threshold may promise too much


def lowest_precision(hits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Lower 95 % bound of the precision after `hits` among n; 0..1.

    The one-sided bound of Clopper and Pearson (1934), exact for every n. Takes fractions, for images in groups.
    """
    return np.where(hits > 0, betaincinv(np.maximum(hits, 1e-9), n - hits + 1, RISK), 0.0)


def fewest_images(target: float) -> int:
    """The fewest images that show a precision of `target`, without an error among them."""
    return int(np.ceil(np.log(RISK) / np.log(target)))


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, target: float, groups: Groups = None) -> float | None:
    """The lowest threshold of confidence whose answers are shown to reach the precision.

    Selective classification with a guaranteed risk (Geifman and El-Yaniv 2017), with the exact bound at every
    threshold and no correction for the search: precision falls as more is answered, so a threshold that
    promises too much occurs about as often as one bound errs (3 to 6 times in 100, benchmarks/coverage.py).

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
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # ties are answered together
    hits, answered = correct[order].cumsum()[last] * worth, (last + 1) * worth
    enough = np.flatnonzero(lowest_precision(hits, answered) >= target)
    # Rounded down, so that the confidence still reaches it after conversion to float32 or nine digits of text.
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
