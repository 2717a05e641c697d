"""The metrics for numbers, and those that an order of classes adds, all with intervals."""

from dataclasses import replace

import numpy as np

from tlkit.classifier.answers import Predictions
from tlkit.evaluation.class_measures import measure_single
from tlkit.evaluation.curves import metric
from tlkit.evaluation.intervals import (
    Groups,
    Interval,
    mean_interval,
    on_log_scale,
    quantile,
    share_interval,
    spread,
)
from tlkit.evaluation.results import Metric, SplitRequest, SplitResult

OF_ALL = (
    "r2",
    "spearman",
    "interval_coverage",
)  # without a unit, so that their mean over several numbers is meaningful


def measure_number(rows: Predictions, wanted: SplitRequest, groups: Groups) -> SplitResult:
    """Measure the numbers of one split. With several, each has its `NAME:number`, and `OF_ALL` are also averaged.

    - mean_absolute_error, root_mean_squared_error: in the unit of the number; intervals normal on the logarithmic scale.
    - mean_absolute_error_of_mean: that of always answering the mean of these images.
    - r2: 1 - squared error over that of the same mean; interval by the infinitesimal jackknife (Efron 1982).
    - spearman: rank correlation; interval by Fisher's z with the variance of Bonett and Wright (2000).
    - interval_coverage: share of images whose interval holds the truth, where there are intervals; Wilson's interval.
    - interval_width: of those intervals.

    Args:
        rows: n images, the numbers of all known.
        wanted: what to measure.
        groups: int (n,), or None.
    """
    found: dict[str, dict[str, Metric]] = {}
    for place, name in enumerate(rows.classes):
        said, truth = rows.logits[:, place].astype(np.float64), rows.truth[:, place]
        margin = None if rows.margins is None else rows.margins[place]
        found[name] = of_number(said, truth, margin, groups)
    if len(found) == 1:
        metrics = next(iter(found.values()))
    else:
        metrics = {kind: _mean([own[kind] for own in found.values() if kind in own], len(rows)) for kind in OF_ALL}
        metrics |= {f"{kind}:{name}": one for name, own in found.items() for kind, one in own.items()}
    return SplitResult(
        split=wanted.split,
        n=len(rows),
        metrics=metrics,
        confusion=np.zeros((0, 0), np.int64),
        classes=(),
        confused=(),
        leak=wanted.leak,
        task=rows.task,
    )


def of_number(said: np.ndarray, truth: np.ndarray, margin: float | None, groups: Groups) -> dict[str, Metric]:
    """The metrics of one number.

    Args:
        said: float64 (n,), predicted.
        truth: float64 (n,).
        margin: half the width of its intervals, None where there are none.
        groups: int (n,), or None.
    """
    n, error, apart = len(truth), said - truth, truth - truth.mean()
    finite = bool(np.isfinite(said).all())
    if not finite:
        names = ("mean_absolute_error", "root_mean_squared_error", "r2", "spearman")
        return dict.fromkeys(names, metric(None, n, None, groups))
    squares = mean_interval(error**2, groups)
    roots = squares and (float(np.sqrt(squares[0])), float(np.sqrt(squares[1])))
    unexplained, ends = _ratio(error**2, apart**2, np.zeros(n), groups)
    order = _rank_correlation(said, truth)
    found = {
        "mean_absolute_error": metric(float(np.abs(error).mean()), n, mean_interval(np.abs(error), groups), groups),
        "mean_absolute_error_of_mean": metric(float(np.abs(apart).mean()), n, None, groups),
        "root_mean_squared_error": metric(float(np.sqrt((error**2).mean())), n, roots, groups),
        "r2": metric(None if unexplained is None else 1 - unexplained, n, _below_one(ends), groups),
        "spearman": metric(order, n, _fisher(order, n, groups), groups),
    }
    if margin is not None:
        inside = np.abs(error) <= margin
        found["interval_coverage"] = metric(float(inside.mean()), n, share_interval(inside, groups), groups)
        found["interval_width"] = metric(2 * margin, n, None, groups)
    return found


def _mean(metrics: list[Metric], n: int) -> Metric:
    """The mean of what is defined, without an interval: the numbers of one image are not independent."""
    values = [one.value for one in metrics if one.value is not None]
    return Metric(float(np.mean(values)) if len(values) == len(metrics) and values else None, n)


def _ratio(
    above: np.ndarray, below: np.ndarray, further: np.ndarray, groups: Groups
) -> tuple[float | None, Interval | None]:
    """Mean of `above` over mean of `below`, and its interval, normal on the logarithmic scale.

    Args:
        above: float (n,), none negative.
        below: float (n,), whose mean is the divisor.
        further: float (n,), what an image adds to the divisor's mean besides its own share, for a unit more of its weight.
        groups: int (n,), or None.
    """
    n, divisor = len(above), float(below.mean())
    if divisor <= 0:
        return None, None
    value = float(above.mean()) / divisor
    influences = ((above - above.mean()) - value * (below - divisor + further)) / divisor / n
    return value, on_log_scale(value, spread(influences, groups), quantile(groups))


def _below_one(ends: Interval | None) -> Interval | None:
    return ends and (1 - ends[1], 1 - ends[0])


def _rank_correlation(said: np.ndarray, truth: np.ndarray) -> float | None:
    if len(truth) < 2 or np.ptp(said) == 0 or np.ptp(truth) == 0:
        return None
    from scipy.stats import spearmanr  # takes 0.3 s to load, and other tasks have no ranks

    return float(spearmanr(said, truth).statistic)


def _fisher(value: float | None, n: int, groups: Groups) -> Interval | None:
    """Interval of a rank correlation; with groups, n is the number of groups, which is conservative."""
    count = n if groups is None else len(np.unique(groups))
    if value is None or count < 4 or abs(value) >= 1:
        return None
    half = quantile(groups) * np.sqrt((1 + value**2 / 2) / (count - 3))
    middle = np.arctanh(value)
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


# -- Classes with an order ---


def measure_ordinal(rows: Predictions, wanted: SplitRequest, groups: Groups) -> SplitResult:
    """The metrics of single classes, for the median of the probabilities, and those of its error in grades.

    - mean_absolute_error: in grades; interval normal on the logarithmic scale.
    - within_one_accuracy: share of images that are off by one grade at most; Wilson's interval.
    - quadratic_weighted_kappa: agreement beyond chance, disagreements weighted by their square (Cohen 1968); interval by
      the infinitesimal jackknife.

    Arguments as for `class_measures.measure_single`.
    """
    result = measure_single(rows, wanted, groups)
    truth, said = rows.labels.astype(np.int64), rows.predicted
    apart = np.abs(said - truth)
    near = apart <= 1
    kappa, ends = weighted_kappa(truth, said, groups)
    added = {
        "mean_absolute_error": metric(
            float(apart.mean()), len(rows), mean_interval(apart.astype(float), groups), groups
        ),
        "within_one_accuracy": metric(float(near.mean()), len(rows), share_interval(near, groups), groups),
        "quadratic_weighted_kappa": metric(kappa, len(rows), ends, groups),
    }
    first = {"accuracy": result.metrics["accuracy"]}
    return replace(result, metrics=first | added | result.metrics)


def weighted_kappa(truth: np.ndarray, said: np.ndarray, groups: Groups) -> tuple[float | None, Interval | None]:
    """Quadratic weighted kappa of grades int (n,), and its interval; None where truth and answer are a single grade."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.concatenate([truth, said]))) < 2:
        return None, None
    grades = np.arange(
        max(truth.max(), said.max()) + 1
    )  # without it, scikit-learn does not count the step of a grade without an image
    value = float(cohen_kappa_score(truth, said, weights="quadratic", labels=grades))
    # 1 - kappa is the mean squared distance over that of truths paired with answers at random: V(t) + V(s) + (mt - ms)^2.
    from_truth = ((truth - said.mean()) ** 2 + said.var()).astype(np.float64)
    from_said = ((said - truth.mean()) ** 2 + truth.var()).astype(np.float64)
    expected = float(from_truth.mean())
    _, ends = _ratio((truth - said).astype(np.float64) ** 2, from_truth, from_said - expected, groups)
    return value, _below_one(ends)
