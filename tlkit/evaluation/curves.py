"""Curves over all thresholds and the areas under them, each area with what every image contributes to its error."""

from collections.abc import Callable

import numpy as np

from tlkit.evaluation.intervals import Groups, Interval, on_logit_scale, quantile, spread
from tlkit.evaluation.results import ClassCurves, Curve, Metric, RiskCoverage

CURVES = 30  # classes whose curves are kept
POINTS = 200  # of a curve
Chances = Callable[[int], np.ndarray]
FEWEST_ERRORS = 5  # that an area under risk and coverage must rest on


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


def average_precision(labels: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray]:
    """Precision averaged over the positives, and what each image contributes to its error.

    Args:
        labels: bool (n,), True for the positive class, which must occur.
        scores: float (n,), higher means more positive; images with the same score are taken together.

    Returns:
        The average precision, and float64 (n,) influences: its derivative by the weight of each image, those of
        the m positives times sqrt(m / (m - 1)).
    """
    influences = np.zeros(len(labels))
    # Images that score below every positive change nothing; with thousands of classes these are nearly all.
    order = np.flatnonzero(scores >= scores[labels].min())
    order = order[np.argsort(-scores[order], kind="stable")]
    truth = labels[order]
    last = np.searchsorted(-scores[order], -scores[order], "right")  # images that score at least as high
    hits = truth.cumsum()[last - 1]
    precision, m = hits / last, int(hits[-1])
    value = float(precision[truth].sum() / m)
    first = np.searchsorted(-scores[order], -scores[order], "left")
    # An image changes the precision at every positive that scores no higher than it.
    up, down = (_from_here(np.where(truth, part, 0.0))[first] for part in (1 / last, hits / last**2))
    influences[order] = (truth * (precision - value) + truth * up - down) / m
    # Positives are few: their spread is estimated with m - 1, as everywhere.
    influences[labels] *= np.sqrt(m / max(1, m - 1))
    return value, influences


def _from_here(values: np.ndarray) -> np.ndarray:
    """Sum of each value and all that follow it."""
    return values[::-1].cumsum()[::-1]


def area_metric(value: float, influences: np.ndarray, groups: Groups, classes: int = 1) -> Metric:
    """An area, or the mean of several, whose influences have been added up, with its interval."""
    interval = on_logit_scale(value, spread(influences, groups) / classes, reach=quantile(groups))
    return metric(value, len(influences), interval, groups)


def metric(value: float | None, n: int, interval: Interval | None, groups: Groups = None) -> Metric:
    """A Metric; an interval of something undefined is dropped."""
    low, high = (None, None) if value is None or interval is None else interval
    return Metric(value, n, low, high, None if groups is None else len(np.unique(groups)))


def class_curves(
    names: tuple[str, ...], labels: np.ndarray, chances: Chances | None, groups: Groups
) -> tuple[dict[int, tuple[Metric, Metric]], tuple[ClassCurves, ...], dict[str, Metric]]:
    """Each class against the rest: areas of every class, curves of those of lowest average precision, and the mean areas.

    Args:
        names: K classes.
        labels: int (n,).
        chances: class -> float (n,), its probability; None where they are not defined.
        groups: int (n,), or None.

    Returns:
        class -> (ROC-AUC, average precision), for classes with positive and negative images; the curves of the
        `CURVES` classes with the lowest average precision; roc_auc and mean_average_precision, over those
        classes (of two classes, over class 1).
    """
    present = [int(code) for code in np.unique(labels)]
    present = present if len(present) > 1 else []
    counted = [1] if len(names) == 2 and present else present
    return one_versus_rest(names, lambda code: labels == code, present, counted, chances, groups, len(labels))


def one_versus_rest(
    names: tuple[str, ...],
    of_class: Callable[[int], np.ndarray],
    present: list[int],
    counted: list[int],
    chances: Chances | None,
    groups: Groups,
    n: int,
) -> tuple[dict[int, tuple[Metric, Metric]], tuple[ClassCurves, ...], dict[str, Metric]]:
    """As `class_curves`, with the positives of each class given by a function.

    Args:
        names: K classes.
        of_class: class -> bool (n,), its images.
        present: classes with positive and negative images.
        counted: those of them that the means are over.
        chances: class -> float (n,), its probability; None where they are not defined.
        groups: int (n,), or None.
        n: images.
    """
    means = dict.fromkeys(("roc_auc", "mean_average_precision"), metric(None, n, None, groups))
    if chances is None or not present:
        return {}, (), means
    areas: dict[int, tuple[Metric, Metric]] = {}
    sums, totals, averaged = np.zeros((2, n)), np.zeros(2), set(counted)
    for code in present:
        positive, scores = of_class(code), chances(code)
        found = [area(positive, scores) for area in (roc_auc, average_precision)]
        areas[code] = tuple(area_metric(*pair, groups) for pair in found)  # type: ignore[assignment]
        if code in averaged:
            sums += [influences for _, influences in found]
            totals += [value for value, _ in found]
    hardest = sorted(areas, key=lambda code: areas[code][1].value or 0.0)[:CURVES]
    curves = tuple(_drawn(names[code], of_class(code), chances(code), areas[code]) for code in hardest)
    for place, name in enumerate(means):
        # The areas share their images, so influences add up before they are squared.
        means[name] = area_metric(totals[place] / len(counted), sums[place], groups, len(counted))
    return areas, curves, means


def _drawn(name: str, positive: np.ndarray, scores: np.ndarray, areas: tuple[Metric, Metric]) -> ClassCurves:
    """The two curves of one class, thinned."""
    false, true, recall, precision = curves_of(positive, scores)
    return ClassCurves(name, Curve(*_thinned(false, true)), Curve(*_thinned(recall, precision)), *areas)


def curves_of(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points of both curves as in scikit-learn, which takes ten times as long, mostly to validate its arguments.

    Args:
        positive: bool (n,); both must occur.
        scores: float (n,), higher means more positive.

    Returns:
        False and true positive rates, without points between others on a straight line; recall and precision, from the
        highest score on.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of the images of one score
    true = positive[order].cumsum()[last].astype(np.float64)
    false = 1 + last - true
    corners = np.ones(len(last), bool)
    corners[1:-1] = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    rates = [np.append(0.0, hits[corners]) / hits[-1] for hits in (false, true)]
    return *rates, np.append(0.0, true / true[-1]), np.append(1.0, true / (true + false))


def _thinned(*columns: np.ndarray) -> list[np.ndarray]:
    """At most `POINTS` points, the first and the last among them."""
    n = len(columns[0])
    kept = np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int))
    return [column[kept] for column in columns]


def risk_coverage(confidence: np.ndarray, correct: np.ndarray, groups: Groups = None) -> RiskCoverage:
    """The risk-coverage curve: error rate as images are answered in order of falling confidence.

    The order of images of equal confidence is arbitrary: each counts as the mean of these.

    Args:
        confidence: float (n,), 0..1; n at least 1.
        correct: bool (n,).
        groups: int (n,), or None.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, n = confidence[order], len(order)
    _, equals = np.unique(-ranked, return_inverse=True)
    errors = (np.bincount(equals, weights=~correct[order]) / np.bincount(equals))[equals]
    answered = np.arange(1, n + 1)
    risk = errors.cumsum() / answered
    area = float(risk.mean())
    influences = np.empty(n)
    # More weight on an image changes the risk wherever it is answered.
    influences[order] = (risk - area + errors * _from_here(1 / answered) - _from_here(risk / answered)) / n
    few = int((~correct).sum()) < FEWEST_ERRORS
    interval = None if few else on_logit_scale(area, spread(influences, groups), reach=quantile(groups))
    coverage, thinned, thresholds = _thinned(answered / n, risk, ranked)
    return RiskCoverage(coverage, thinned, thresholds, metric(area, n, interval, groups))
