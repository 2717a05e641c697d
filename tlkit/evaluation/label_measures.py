"""The metrics for images that may have several labels: K yes-or-no questions about each.

Every interval is by the infinitesimal jackknife (see `intervals.spread`) or Wilson's, over groups where there are any.
"""

from dataclasses import replace

import numpy as np

from tlkit.classifier.answers import Predictions, image_losses, image_scores, sigmoid
from tlkit.evaluation.calibration import calibration_error_interval, reliability
from tlkit.evaluation.class_measures import per_class, slices
from tlkit.evaluation.curves import area_metric, metric, one_versus_rest
from tlkit.evaluation.intervals import Groups, mean_interval, share_interval
from tlkit.evaluation.results import ClassResult, Metric, Reliability, SplitRequest, SplitResult
from tlkit.tasks.multi import MULTI

Areas = dict[int, tuple[Metric, Metric]]
_OF_PROBABILITIES = ("log_loss", "brier", "expected_calibration_error")


def measure_multi(rows: Predictions, wanted: SplitRequest, groups: Groups) -> SplitResult:
    """Measure the labelled images of one split; `evaluate.evaluate` documents the metrics.

    Args:
        rows: n images, all with targets.
        wanted: what to measure; slices by the number of labels are always included.
        groups: int (n,), or None.
    """
    truth, given = rows.truth == 1, MULTI.decide(rows.logits)
    finite = bool(np.isfinite(rows.logits).all())
    present = np.flatnonzero(truth.any(axis=0)).tolist()
    divided = [code for code in present if not truth[:, code].all()]  # others have no curve, for want of negatives
    areas, curves, means = one_versus_rest(
        rows.classes,
        lambda code: truth[:, code],
        divided,
        divided,
        rows.probabilities.T.__getitem__ if finite else None,
        groups,
        len(rows),
    )
    after, bins = _from_probabilities(truth, rows.logits, rows.temperature, groups, finite=finite)
    before = None
    if rows.temperature != 1:
        raw, before = _from_probabilities(truth, rows.logits, 1.0, groups, finite=finite)
        after |= {f"{name}_uncalibrated": found for name, found in raw.items()}
    by_count = {"labels of the image": truth.sum(axis=1).astype(np.float64)}
    return SplitResult(
        split=wanted.split,
        n=len(rows),
        metrics={**_in_order(means), **decided(truth, given, rows.logits, groups), **after},
        confusion=np.stack([_two_by_two(truth[:, code], given[:, code]) for code in range(len(rows.classes))]),
        classes=_with_intervals(
            per_class(rows.classes, truth.T.__getitem__, given.T.__getitem__, areas, groups), areas
        ),
        confused=(),
        reliability=bins,
        uncalibrated=before,
        curves=curves,
        slices=() if wanted.split == "train" else slices({**by_count, **wanted.columns}, rows.correct, groups),
        leak=wanted.leak,
        task=rows.task,
    )


def _in_order(means: dict[str, Metric]) -> dict[str, Metric]:
    """Mean average precision first, by which classifiers of several labels are usually compared."""
    return {name: means[name] for name in ("mean_average_precision", "roc_auc")}


def decided(truth: np.ndarray, given: np.ndarray, logits: np.ndarray, groups: Groups) -> dict[str, Metric]:
    """The measures of the predicted labels, without their probabilities.

    Args:
        truth: bool (n, K), labels the images have; n at least 1.
        given: bool (n, K), predicted labels.
        logits: float (n, K), of the labels.
        groups: int (n,), or None.
    """
    n, both = len(truth), truth & given
    wrong, exact = (truth != given).mean(axis=1), (truth == given).all(axis=1)
    met = (truth | given).any(axis=0)  # a class that is predicted and that no image has counts as 0
    f1 = image_scores(logits, truth.astype(np.int8))
    found = {
        "micro_f1": _ratio(2 * both.sum(axis=1), (truth.sum(axis=1) + given.sum(axis=1)), groups),
        "macro_f1": _mean_ratio(2 * both, truth.astype(int) + given, met, groups),
        "samples_f1": area_metric(float(f1.mean()), (f1 - f1.mean()) / n, groups),
        "subset_accuracy": metric(float(exact.mean()), n, share_interval(exact, groups), groups),
        "hamming_loss": metric(float(wrong.mean()), n, mean_interval(wrong, groups), groups),
    }
    for name, among in (("precision", given), ("recall", truth)):
        found[f"micro_{name}"] = _ratio(both.sum(axis=1), among.sum(axis=1), groups)
        found[f"macro_{name}"] = _mean_ratio(both, among, met, groups)
    return found


def _ratio(above: np.ndarray, below: np.ndarray, groups: Groups) -> Metric:
    """Ratio of the sums of the numerators and denominators of each image, (n,) both; None where the denominator is 0."""
    total = below.sum()
    if not total:
        return metric(None, len(above), None, groups)
    value = float(above.sum() / total)
    return area_metric(value, (above - value * below) / total, groups)


def _mean_ratio(above: np.ndarray, below: np.ndarray, met: np.ndarray, groups: Groups) -> Metric:
    """The mean of such ratios (n, K) over the classes `met` (K,); a denominator of 0 counts as 0."""
    if not met.any():
        return metric(None, len(above), None, groups)
    above, below = above[:, met], below[:, met]
    totals = np.maximum(below.sum(axis=0), 1)
    values = above.sum(axis=0) / totals
    influences = ((above - values * below) / totals).mean(axis=1)
    return area_metric(float(values.mean()), influences, groups)


def _from_probabilities(
    truth: np.ndarray, logits: np.ndarray, temperature: float, groups: Groups, *, finite: bool
) -> tuple[dict[str, Metric], Reliability | None]:
    """Log loss, Brier score, calibration error and its bins, over all n K questions; undefined unless `finite`."""
    n, classes = truth.shape
    if not finite:
        return dict.fromkeys(_OF_PROBABILITIES, metric(None, n, None, groups)), None
    chances = sigmoid(logits, temperature)
    loss = image_losses(logits, truth.astype(np.int8), temperature)
    brier = ((chances - truth) ** 2).mean(axis=1)
    bins = reliability(chances.ravel(), truth.ravel())
    of_image = np.repeat(
        np.arange(n) if groups is None else groups, classes
    )  # questions about one image are not independent
    found = (
        (float(loss.mean()), mean_interval(loss, groups)),
        (float(brier.mean()), mean_interval(brier, groups)),
        (bins.expected_calibration_error, calibration_error_interval(chances.ravel(), truth.ravel(), of_image)),
    )
    named = zip(_OF_PROBABILITIES, found, strict=True)
    return {name: metric(value, n, interval, groups) for name, (value, interval) in named}, bins


def _two_by_two(right: np.ndarray, called: np.ndarray) -> np.ndarray:
    """int64 (2, 2), rows truth, columns prediction, no before yes, of bool (n,) both."""
    return np.bincount(2 * right + called.astype(np.int64), minlength=4).reshape(2, 2)


def _with_intervals(rows: tuple[ClassResult, ...], areas: Areas) -> tuple[ClassResult, ...]:
    """The classes with the interval of their average precision, which leads where an image has several labels."""
    return tuple(
        replace(row, average_precision_interval=_ends(areas[code][1])) if code in areas else row
        for code, row in enumerate(rows)
    )


def _ends(found: Metric) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)
