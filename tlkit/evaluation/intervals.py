"""95 % intervals: closed forms where there is one, the bootstrap over images where there is none.

Images of one group (a patient, a clip) are not independent: with `groups`, int (n,), whole groups are
resampled, and Student's t with groups - 1 degrees of freedom takes the place of the normal distribution.

Every function returns `(low, high)`, or None where the data cannot determine them. Where all images agree (no
error at all, say) a bootstrap would claim certainty, and a loss that rests on two or three images has no
interval (five constructions were tried; all covered far less than 95 %).
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, logit, ndtri, stdtrit

Interval = tuple[float, float]
Groups = np.ndarray | None

LEVEL = 0.95
RESAMPLES = 1000
FEWEST = 20  # images that a mean must effectively rest on
CHUNK = 2_000_000  # numbers drawn at once, so that memory stays flat
_Z = float(ndtri(0.5 + LEVEL / 2))


def wilson(successes: float, n: float) -> Interval | None:
    """Score interval of a proportion (Wilson 1927); with its nominal coverage near 0 and n successes, None for n = 0."""
    if n == 0:
        return None
    share, z2 = successes / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the exact limits are 0 and 1; rounding must not miss them.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return low, high


def quantile(groups: Groups = None) -> float:
    """How many standard deviations an interval reaches to each side; infinite for a single group."""
    if groups is None:
        return _Z
    return float(stdtrit(count - 1, 0.5 + LEVEL / 2)) if (count := len(np.unique(groups))) > 1 else float("inf")


def spread(influences: np.ndarray, groups: Groups = None) -> float:
    """Standard deviation of an estimate from what each image contributes to it.

    The infinitesimal jackknife (Jaeckel 1972; Efron 1982), the limit of the bootstrap with many resamples;
    over groups it is the sandwich of Liang and Zeger (1986).

    Args:
        influences: float (n,), change of the estimate for a unit more weight on the image, over n; they sum to 0.
        groups: int (n,), or None.
    """
    if groups is None:
        return float(np.sqrt((influences**2).sum()))
    _, codes = np.unique(groups, return_inverse=True)
    sums = np.bincount(codes, weights=influences)
    return float(np.sqrt((sums**2).sum() * len(sums) / max(1, len(sums) - 1)))


def effective_size(hits: np.ndarray, groups: np.ndarray) -> float:
    """How many independent images would determine the mean of bool (n,) as well as these do; at most n.

    n over the design effect (Kish 1965), reduced for the few groups it is estimated from (Korn and
    Graubard 1998). With nothing but hits, or none, a group counts for one.
    """
    n, share = len(hits), float(hits.mean())
    if share in (0.0, 1.0):
        size = float(len(np.unique(groups)))
    else:
        variance = spread((hits - share) / n, groups) ** 2
        size = min(float(n), share * (1 - share) / variance) if variance > 0 else float(n)
    return size * (_Z / quantile(groups)) ** 2


def share_interval(hits: np.ndarray, groups: Groups = None) -> Interval | None:
    """Wilson's interval of the mean of bool (n,); with groups, the effective size replaces n."""
    if groups is None or not len(hits):
        return wilson(int(hits.sum()), len(hits))
    size = effective_size(hits, groups)
    return wilson(float(hits.mean()) * size, size)


def resamples(counts: np.ndarray, rng: np.random.Generator, times: int = RESAMPLES) -> Iterator[np.ndarray]:
    """How often each of M kinds of image is drawn when n are drawn with replacement (Efron 1979).

    Args:
        counts: int (M,), images of each kind; n is their sum.
        rng: source of chance.
        times: how many resamples in all.

    Yields:
        float64 (b, M), in pieces of at most `CHUNK` numbers, `times` rows in total.
    """
    shares = counts / counts.sum()
    piece = max(1, min(times, CHUNK // max(1, len(counts))))
    for start in range(0, times, piece):
        yield rng.multinomial(int(counts.sum()), shares, size=min(piece, times - start)).astype(np.float64)


def on_logit_scale(value: float, deviation: float, centre: float | None = None, reach: float = _Z) -> Interval | None:
    """Interval of a share from its standard deviation: normal on the logit scale, so that it stays within 0..1.

    At 95 % accuracy and n = 150 it covers the truth 96 to 97 times in 100, bootstrap percentiles 88 to 92 times.

    Args:
        value: the share, 0..1; always inside the interval.
        deviation: its standard deviation.
        centre: where the interval is centred, where `value` is known to be biased.
        reach: deviations to each side.
    """
    if not 0 < value < 1 or not deviation > 1e-12 or not np.isfinite(reach):
        return None
    # A correction never takes more than half of what is left to 0 or to 1.
    middle = value if centre is None else float(np.clip(centre, value / 2, (1 + value) / 2))
    half = reach * deviation / (middle * (1 - middle))
    low, high = expit(logit(middle) - half), expit(logit(middle) + half)
    return min(float(low), value), max(float(high), value)


def mean_interval(values: np.ndarray, groups: Groups = None) -> Interval | None:
    """Interval of the mean of per-image losses (n,), none negative: normal on the logarithmic scale.

    None where fewer than `FEWEST` images carry the mean in effect, (sum v)^2 / sum v^2 (Kish 1965), or where
    there are fewer groups than that.
    """
    n, mean = len(values), float(values.mean())
    if n < 2 or mean <= 0 or values.sum() ** 2 < FEWEST * (values**2).sum():
        return None
    deviation = spread((values - mean) / n, groups) * np.sqrt(n / (n - 1) if groups is None else 1)
    return on_log_scale(mean, deviation, quantile(groups))


def on_log_scale(value: float, deviation: float, reach: float = _Z) -> Interval | None:
    """Interval of something positive from its standard deviation: normal on the logarithmic scale."""
    if value <= 0 or deviation < 1e-12 or not np.isfinite(reach):
        return None
    factor = float(np.exp(reach * deviation / value))
    return value / factor, value * factor


def confusion_scores(cells: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that depend on the confusion matrix alone, for B matrices at once.

    Macro averages are over the classes that have an image; those of precision, recall and F1 also over predicted
    classes without any image, as 0; a class that was never predicted has precision 0.

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
        stranger = ~np.isin(np.arange(len(names)), truth) & (called > 0)
        present = np.where((support > 0) | stranger, 1.0, np.nan)
        balanced = np.nanmean(hits / support, axis=1)
        recall = np.nanmean(np.where(support > 0, hits / support, 0) * present, axis=1)
        precision = np.nanmean(np.where(called > 0, hits / called, 0) * present, axis=1)
        f1 = np.nanmean(2 * hits / (support + called) * present, axis=1)
        chance = (support * called).sum(axis=1) / n**2
        kappa = np.where(chance < 1, (hits.sum(axis=1) / n - chance) / (1 - chance), np.nan)
    return {
        "balanced_accuracy": balanced,
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
        "cohen_kappa": kappa,
    }


def _indicator(codes: np.ndarray, classes: int) -> csr_array:
    """Sparse (M, classes), 1 where a cell belongs to a class: with a thousand classes a dense one takes minutes."""
    return csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), classes))


def confusion_intervals(
    cells: np.ndarray, counts: np.ndarray, seed: int = 0, by_group: csr_array | None = None
) -> dict[str, Interval | None]:
    """Interval of everything in `confusion_scores`: spread by bootstrap, shape by logit.

    F1 is concave in what it averages: with few images of each class it is biased low, and resamples are biased
    once more. Their bias against the value is corrected (Efron and Tibshirani 1993, chapter 10).

    Args:
        cells: int (M, 2), truth and prediction of each occupied cell of the confusion matrix, row by row.
        counts: int (M,), images in each.
        seed: of the resamples.
        by_group: sparse (G, M), images of each group in each occupied cell, in the order of `cells`; then
            groups are drawn, else images.
    """
    point = confusion_scores(cells, counts[None].astype(np.float64))
    rng = np.random.default_rng(seed)
    if by_group is None:
        drawn_counts, reach = resamples(counts, rng), _Z
    else:
        groups = by_group.shape[0]
        drawn_counts, reach = (w @ by_group for w in resamples(np.ones(groups, int), rng)), quantile(np.arange(groups))
    pieces = [confusion_scores(cells, drawn) for drawn in drawn_counts]
    intervals: dict[str, Interval | None] = {}
    for name, (value,) in point.items():
        drawn = np.concatenate([piece[name] for piece in pieces])
        defined = drawn[np.isfinite(drawn)]
        if len(defined) < 0.9 * len(drawn) or not np.isfinite(value):
            intervals[name] = None
        elif name == "cohen_kappa":  # -1..1, not a share
            found = on_logit_scale((1 + value) / 2, float(defined.std()) / 2, reach=reach)
            intervals[name] = found and (2 * found[0] - 1, 2 * found[1] - 1)
        else:
            centre = 2 * value - float(defined.mean()) if name == "macro_f1" else None
            intervals[name] = on_logit_scale(float(value), float(defined.std()), centre, reach)
    return intervals
