"""95 % intervals: closed forms where there is one, the bootstrap over images where there is none.

Every function returns `(low, high)`, or `None` where the data cannot say: with nothing to resample but
agreement (no error at all, say) a bootstrap would claim certainty, and here it stays silent instead.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

Interval = tuple[float, float]

LEVEL = 0.95
RESAMPLES = 1000
BOOTSTRAP_LIMIT = 5000  # from here on the mean of n values is normal to three digits, and 1,000 resamples are slow
CHUNK = 2_000_000  # numbers drawn at once, so that memory stays flat
_Z = float(ndtri(0.5 + LEVEL / 2))
_TAILS = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)


def wilson(successes: int, n: int) -> Interval | None:
    """Score interval of a proportion (Wilson 1927); honest at 0 and n successes, None for n = 0."""
    if n == 0:
        return None
    share, z2 = successes / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the exact limits are 0 and 1; rounding must not miss them.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return low, high


def resamples(counts: np.ndarray, rng: np.random.Generator, times: int = RESAMPLES) -> Iterator[np.ndarray]:
    """How often each of M kinds of image is drawn when n are drawn with replacement (Efron 1979).

    Args:
        counts: int (M,), images of each kind; n is their sum.
        rng: source of chance.
        times: how many resamples in all.

    Yields:
        float64 (b, M), in pieces of at most `CHUNK` numbers, `times` rows together.
    """
    shares = counts / counts.sum()
    piece = max(1, min(times, CHUNK // max(1, len(counts))))
    for start in range(0, times, piece):
        yield rng.multinomial(int(counts.sum()), shares, size=min(piece, times - start)).astype(np.float64)


def percentile(values: np.ndarray) -> Interval | None:
    """The middle 95 % of resampled values (B,) (Efron 1979); None where they are undefined or all the same."""
    defined = values[np.isfinite(values)]
    if len(defined) < 0.9 * len(values) or np.ptp(defined) < 1e-12:
        return None
    low, high = np.quantile(defined, _TAILS)
    return float(low), float(high)


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval | None:
    """Interval of the mean of per-image values (n,): bootstrap up to `BOOTSTRAP_LIMIT` images, normal beyond."""
    n = len(values)
    if n < 2 or np.ptp(values) < 1e-12:
        return None
    if n > BOOTSTRAP_LIMIT:
        half = _Z * values.std(ddof=1) / np.sqrt(n)
        return float(values.mean() - half), float(values.mean() + half)
    rng = np.random.default_rng(seed)
    return percentile(np.concatenate([drawn @ values / n for drawn in resamples(np.ones(n, dtype=int), rng)]))


def confusion_scores(cells: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that depend on the confusion matrix alone, for B matrices at once.

    Macro averages run over the classes that have an image; a class that was never predicted has precision 0.

    Args:
        cells: int (M, 2), truth and prediction of each occupied cell of the matrix.
        counts: float (B, M), images in each cell.

    Returns:
        balanced_accuracy, macro_precision, macro_recall, macro_f1, cohen_kappa: float64 (B,), NaN where undefined.
    """
    names, codes = np.unique(cells, return_inverse=True)
    truth, predicted = codes.reshape(cells.shape).T
    support = counts @ _indicator(truth, len(names))
    called = counts @ _indicator(predicted, len(names))
    hits = (counts * (truth == predicted)) @ _indicator(truth, len(names))
    n = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        present = np.where(support > 0, 1.0, np.nan)
        recall = np.nanmean(hits / support, axis=1)
        precision = np.nanmean(np.where(called > 0, hits / called, 0) * present, axis=1)
        f1 = np.nanmean(2 * hits / (support + called) * present, axis=1)
        chance = (support * called).sum(axis=1) / n**2
        kappa = np.where(chance < 1, (hits.sum(axis=1) / n - chance) / (1 - chance), np.nan)
    return {
        "balanced_accuracy": recall,
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
        "cohen_kappa": kappa,
    }


def _indicator(codes: np.ndarray, classes: int) -> csr_array:
    """Sparse (M, classes), 1 where a cell belongs to a class: with a thousand classes a dense one is minutes."""
    return csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), classes))


def confusion_intervals(confusion: np.ndarray, seed: int = 0) -> dict[str, Interval | None]:
    """Percentile bootstrap over images of everything in `confusion_scores`, from int (K, K)."""
    cells = np.argwhere(confusion)
    rng = np.random.default_rng(seed)
    pieces = [confusion_scores(cells, drawn) for drawn in resamples(confusion[tuple(cells.T)], rng)]
    return {name: percentile(np.concatenate([piece[name] for piece in pieces])) for name in pieces[0]}


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray]:
    """Area under the ROC curve and what each image contributes to its error (DeLong et al. 1988).

    Args:
        labels: bool (n,), True for the positive class; both must occur.
        scores: float (n,), higher means more positive; ties count one half.

    Returns:
        The area, and float64 (n,) influences: their sum of squares estimates the variance of the area.
    """
    # Sorted positives are few in a one-versus-rest; looking scores up in them is cheaper than ranking all n.
    positives = np.sort(scores[labels])
    m, n = len(positives), len(scores) - len(positives)
    below, at_most = np.searchsorted(positives, scores, "left"), np.searchsorted(positives, scores, "right")
    placement = 1 - (below + at_most) / (2 * m)  # of a negative: the share of positives above it
    # Of a positive: the share of negatives below it. A negative is below a positive when the positives at
    # most as high as the negative are no more than those below the positive.
    lower = np.bincount(at_most[~labels], minlength=m + 1).cumsum()
    not_higher = np.bincount(below[~labels], minlength=m + 1).cumsum()
    placement[labels] = ((lower + not_higher) / (2 * n))[below[labels]]
    area = float(placement[labels].mean())
    size = np.where(labels, m, n)
    # One image of a class has no spread; the unbiased n - 1 becomes 1 there.
    return area, (placement - area) / np.sqrt(size * np.maximum(size - 1, 1))


def area_interval(area: float, influences: np.ndarray) -> Interval | None:
    """Interval of an area from summed influences, on the logit scale so that it stays within 0..1."""
    deviation = float(np.sqrt((influences**2).sum()))
    if not 0 < area < 1 or deviation < 1e-12:
        return None
    centre, half = np.log(area / (1 - area)), _Z * deviation / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-np.clip([centre - half, centre + half], -700, 700)))
    return float(low), float(high)
