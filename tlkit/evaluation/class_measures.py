"""The metrics for images of one class each, all with intervals; and accuracy by slice."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import stdtr

from tlkit.classifier.answers import MANY_CLASSES, Predictions, softmax
from tlkit.evaluation.calibration import abstention, calibration_error_interval, reliability
from tlkit.evaluation.curves import class_curves, metric, risk_coverage
from tlkit.evaluation.intervals import (
    Groups,
    confusion_intervals,
    confusion_scores,
    mean_interval,
    share_interval,
    spread,
)
from tlkit.evaluation.results import (
    ClassResult,
    ConfusedPair,
    Metric,
    Reliability,
    SliceResult,
    SplitRequest,
    SplitResult,
)
from tlkit.tasks.single import SoftmaxColumns
from tlkit.tasks.task import row_blocks

MOST_CONFUSED = 50
CALIBRATION = ("log_loss", "brier", "expected_calibration_error")
Column = Sequence[str] | np.ndarray  # what slices are made of
_SMALLEST = np.finfo(np.float64).eps  # where scikit-learn's log_loss clips too


class Share(NamedTuple):
    """A metric that is the share of images of which something is true, with Wilson's interval.

    Args:
        name: as displayed.
        meaning: one or two plain sentences, for the report.
        of: bool (n,) of the labelled images of a split.
    """

    name: str
    meaning: str
    of: Callable[[Predictions], np.ndarray]


SHARES = {
    "accuracy": Share(
        "Accuracy",
        "Share of images whose predicted class is the true one. Its interval is Wilson's (1927).",
        lambda rows: rows.correct,
    ),
}


def measure_single(rows: Predictions, wanted: SplitRequest, groups: Groups) -> SplitResult:
    """Measure the labelled images of one split; `evaluate.evaluate` documents the metrics.

    Args:
        rows: n images, all with labels.
        wanted: what to measure; slices by true class are always included.
        groups: int (n,), or None.
    """
    labels, predicted, classes = rows.labels.astype(np.int64), rows.predicted, len(rows.classes)
    correct = labels == predicted
    finite = bool(np.isfinite(rows.logits).all())
    chances = SoftmaxColumns(rows.logits, rows.temperature) if finite else None
    areas, curves, means = class_curves(rows.classes, labels, chances, groups)
    table = per_class(rows.classes, lambda code: labels == code, lambda code: predicted == code, areas, groups)
    metrics = {name: _share(share.of(rows), groups) for name, share in SHARES.items()}
    metrics |= top_accuracy(labels, rows.logits, wanted.top_k, groups)
    confused = Confused.of(labels, predicted, classes)
    metrics |= from_confusion(confused, table, groups) | means
    after, bins = from_probabilities(labels, predicted, rows.logits, rows.temperature, groups)
    metrics |= after
    before = None
    if rows.temperature != 1:
        raw, before = from_probabilities(labels, predicted, rows.logits, 1.0, groups)
        metrics |= {f"{name}_uncalibrated": raw[name] for name in CALIBRATION}
    risks = risk_coverage(rows.confidence, correct, groups) if finite else None
    held = None
    if risks and rows.threshold is not None:
        held = abstention(rows.confidence, correct, rows.threshold, wanted.target_precision or 0.0, groups)
        metrics |= {"coverage": held.coverage, "selective_precision": held.precision}
    return SplitResult(
        split=wanted.split,
        n=len(rows),
        metrics=metrics | ({"area_under_risk_coverage": risks.area} if risks else {}),
        confusion=confused.matrix(classes),
        classes=table,
        confused=most_confused(rows.classes, confused),
        reliability=bins,
        uncalibrated=before,
        risk_coverage=risks,
        abstention=held,
        curves=curves,
        slices=() if wanted.split == "train" else slices(_with_class(wanted.columns, rows), correct, groups),
        leak=wanted.leak,
        task=rows.task,
    )


def _with_class(columns: Mapping[str, Column], rows: Predictions) -> dict[str, Column]:
    """The columns and the true class, as an array of objects so that classes named 0 to 99 are not taken for numbers."""
    names = np.array([*rows.classes, ""], dtype=object)
    return {"class": names[rows.labels], **columns}


def top_accuracy(labels: np.ndarray, logits: np.ndarray, top_k: int, groups: Groups) -> dict[str, Metric]:
    """Top-k accuracy, where there are enough classes."""
    classes = logits.shape[1]
    k = top_k if classes > top_k else min(3, classes - 1)
    if k < 2:
        return {}
    ahead = np.concatenate([_ahead(logits[rows], labels[rows, None]) for rows in row_blocks(logits)])
    return {f"top_{k}_accuracy": _share(ahead < k, groups)}


def _ahead(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes are ahead of the true one; in a tie the first class is, as in `Predictions.predicted`."""
    of_truth = np.take_along_axis(logits, labels, axis=1)
    ahead = (logits > of_truth) | ((logits == of_truth) & (np.arange(logits.shape[1]) < labels))
    return ahead.sum(axis=1)


class Confused(NamedTuple):
    """The occupied cells of a confusion matrix, row by row.

    Args:
        cells: int64 (M, 2), truth and prediction of each.
        counts: int64 (M,), images in each.
        of_image: int64 (n,), the place of each image among them.
    """

    cells: np.ndarray
    counts: np.ndarray
    of_image: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> "Confused":
        """The cells of n images, truth and prediction int64 (n,), of so many classes."""
        cells, place, counts = np.unique(labels * classes + predicted, return_inverse=True, return_counts=True)
        return cls(np.stack(np.divmod(cells, classes), axis=1), counts, place)

    def matrix(self, classes: int) -> np.ndarray | csr_array:
        """int64 (K, K), sparse for more than `MANY_CLASSES` classes."""
        sparse = csr_array((self.counts, tuple(self.cells.T)), shape=(classes, classes))
        return sparse if classes > MANY_CLASSES else sparse.toarray()


def from_confusion(confused: Confused, per_class: tuple[ClassResult, ...], groups: Groups) -> dict[str, Metric]:
    """Macro averages, and kappa, as scikit-learn computes them with zero_division=0.

    Precision, recall and F1 are means over the classes that have an image or are predicted: a class that is
    predicted and has no image counts as 0. Balanced accuracy is the mean recall of the classes that have one.
    """
    present = [row for row in per_class if row.support]
    met = [row for row in per_class if row.support or row.predicted]
    kappa = confusion_scores(confused.cells, confused.counts[None].astype(np.float64))["cohen_kappa"][0]
    values: dict[str, float | None] = {
        "balanced_accuracy": float(np.mean([row.recall for row in present])),
        "macro_precision": float(np.mean([row.precision or 0.0 for row in met])),
        "macro_recall": float(np.mean([row.recall or 0.0 for row in met])),
        "macro_f1": float(np.mean([row.f1 or 0.0 for row in met])),
        # Undefined where truth and prediction are the same single class.
        "cohen_kappa": float(kappa) if len(confused.cells) > 1 else None,
    }
    if len(present) < 2:  # a mean over one class is that class's accuracy, not a macro average
        values = dict.fromkeys(values)
    by_group = None if groups is None else _by_group(confused, groups)
    intervals = confusion_intervals(confused.cells, confused.counts, by_group=by_group)
    images = int(confused.counts.sum())
    return {name: metric(value, images, intervals[name], groups) for name, value in values.items()}


def _by_group(confused: Confused, groups: np.ndarray) -> csr_array:
    """Sparse (G, M): images of each group in each occupied cell of the confusion matrix."""
    _, group = np.unique(groups, return_inverse=True)
    return csr_array((np.ones(len(group)), (group, confused.of_image)))


def from_probabilities(
    labels: np.ndarray, predicted: np.ndarray, logits: np.ndarray, temperature: float, groups: Groups
) -> tuple[dict[str, Metric], Reliability | None]:
    """Log loss, Brier score, calibration error and its bins; undefined where a logit is not finite."""
    n = len(labels)
    names = ("log_loss", "brier", "expected_calibration_error")
    if not np.isfinite(logits).all():
        return dict.fromkeys(names, metric(None, n, None, groups)), None
    parts = [_said(softmax(logits[rows], temperature), labels[rows], predicted[rows]) for rows in row_blocks(logits)]
    of_truth, confidence, squares = np.concatenate(parts, axis=1)
    loss = -np.log(np.maximum(of_truth, _SMALLEST))
    # Sum over classes of (p - truth)^2 without the (n, K) table of truths.
    squared = squares - of_truth**2 + (1 - of_truth) ** 2
    brier, correct = squared / 2 if logits.shape[1] == 2 else squared, predicted == labels
    bins = reliability(confidence, correct)
    found = (
        (float(loss.mean()), mean_interval(loss, groups)),
        (float(brier.mean()), mean_interval(brier, groups)),
        (bins.expected_calibration_error, calibration_error_interval(confidence, correct, groups)),
    )
    return {
        name: metric(value, n, interval, groups) for name, (value, interval) in zip(names, found, strict=True)
    }, bins


def _said(probabilities: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """float64 (3, n): probability of the true class and of the predicted one, and the sum of the squares of all (n, K)."""
    everyone = np.arange(len(labels))
    return np.stack(
        [probabilities[everyone, labels], probabilities[everyone, predicted], (probabilities**2).sum(axis=1)]
    )


def per_class(
    names: tuple[str, ...],
    truth: Callable[[int], np.ndarray],
    predicted: Callable[[int], np.ndarray],
    areas: dict[int, tuple[Metric, Metric]],
    groups: Groups,
) -> tuple[ClassResult, ...]:
    """Precision, recall, F1 and areas of each class; None where the denominator is 0.

    Args:
        names: of the classes, by code.
        truth: code -> bool (n,), the images of that class.
        predicted: code -> bool (n,), the images predicted as it.
        areas: ROC AUC and average precision by code, where there are any.
        groups: int (n,), or None.
    """
    rows = []
    for code, name in enumerate(names):
        called, right = predicted(code), truth(code)
        calls, support, hits = int(called.sum()), int(right.sum()), int((called & right).sum())
        area = areas.get(code)
        rows.append(
            ClassResult(
                name=name,
                support=support,
                predicted=calls,
                precision=hits / calls if calls else None,
                recall=hits / support if support else None,
                f1=2 * hits / (calls + support) if calls + support else None,
                roc_auc=area[0].value if area else None,
                average_precision=area[1].value if area else None,
                precision_interval=interval_within(called, right, groups),
                recall_interval=interval_within(right, called, groups),
            )
        )
    return tuple(rows)


def interval_within(among: np.ndarray, hits: np.ndarray, groups: Groups) -> tuple[float, float] | None:
    """Interval of the share of hits, bool (n,), among some images, bool (n,)."""
    return share_interval(hits[among], None if groups is None else groups[among]) if among.any() else None


def most_confused(names: tuple[str, ...], confused: Confused) -> tuple[ConfusedPair, ...]:
    """The largest cells off the diagonal, at most `MOST_CONFUSED`; ties in class order."""
    wrong = np.flatnonzero(confused.cells[:, 0] != confused.cells[:, 1])
    order = wrong[np.argsort(-confused.counts[wrong], kind="stable")[:MOST_CONFUSED]]
    cells = zip(confused.cells[order].tolist(), confused.counts[order].tolist(), strict=True)
    return tuple(ConfusedPair(names[i], names[j], count) for (i, j), count in cells)


def _share(hits: np.ndarray, groups: Groups) -> Metric:
    return metric(float(hits.mean()), len(hits), share_interval(hits, groups), groups)


# -- Accuracy by slice: on images that share a property, against all the others ---

FEWEST = 10  # images a slice must have, and as many outside it
SIGNIFICANT = 0.05
MANY = 10  # distinct numbers; more are cut into thirds


def slices(columns: Mapping[str, Column], correct: np.ndarray, groups: Groups = None) -> tuple[SliceResult, ...]:
    """Test every slice of enough images for a lower accuracy than the rest.

    Fisher's exact test (1922), one-sided; with groups a t-test on the difference, by group. p-values are
    corrected over all slices tested (Holm 1979), so that with many columns chance alone finds nothing.

    Args:
        columns: name -> one value for each of n images. Text: each value is a slice, "" is none, and texts that
            are all numbers count as such, unless they come as an array. Numbers: each value, or thirds where there are more than `MANY`; NaN
            is none.
        correct: bool (n,).
        groups: int (n,), or None.

    Returns:
        The slices, lowest p-value first.
    """
    tested = []
    for column, values in columns.items():
        for value, inside in _parts(values):
            if FEWEST <= inside.sum() <= len(correct) - FEWEST:
                tested.append((column, value, inside, _p_value(correct, inside, groups)))
    adjusted = holm(np.array([p for *_, p in tested]))
    found = [
        SliceResult(
            column=column,
            value=value,
            accuracy=_accuracy(correct, inside, groups),
            rest=_accuracy(correct, ~inside, groups),
            p_value=float(p),
            worse=bool(p < SIGNIFICANT),
        )
        for (column, value, inside, _), p in zip(tested, adjusted, strict=True)
    ]
    return tuple(sorted(found, key=lambda row: row.p_value))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values (m,) corrected for multiple comparisons (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return np.minimum(corrected, 1.0)


def _parts(values: Column) -> Iterator[tuple[str, np.ndarray]]:
    """(the shared value, bool (n,)) of each slice of a column."""
    numbers = _numbers(values)
    if numbers is None:
        names = np.asarray(values, dtype=object)
        for name in sorted(set(names.tolist()) - {""}):
            yield name, names == name
        return
    known = numbers[~np.isnan(numbers)]
    different = np.unique(known)
    if len(different) <= MANY:
        for number in different:
            yield f"{number:g}", numbers == number
        return
    lower, upper = np.quantile(known, (1 / 3, 2 / 3))
    yield f"up to {lower:.4g}", numbers <= lower
    yield f"{lower:.4g} to {upper:.4g}", (numbers > lower) & (numbers <= upper)
    yield f"above {upper:.4g}", numbers > upper


def _numbers(values: Column) -> np.ndarray | None:
    """The values as float64 (n,), NaN where there is none; None where they are not numbers."""
    if isinstance(values, np.ndarray):
        return None if values.dtype == object else values.astype(np.float64)
    try:
        numbers = np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _accuracy(correct: np.ndarray, inside: np.ndarray, groups: Groups) -> Metric:
    own = None if groups is None else groups[inside]
    return metric(float(correct[inside].mean()), int(inside.sum()), share_interval(correct[inside], own), own)


def _p_value(correct: np.ndarray, inside: np.ndarray, groups: Groups) -> float:
    """One-sided p-value that images inside are no harder than the others."""
    if groups is None:
        from scipy.stats import fisher_exact  # takes 0.3 s to load, and most evaluations have no slices

        table = [[int((side & hit).sum()) for hit in (correct, ~correct)] for side in (inside, ~inside)]
        return float(fisher_exact(table, alternative="less").pvalue)
    shares = np.where(inside, correct[inside].mean(), correct[~inside].mean())
    sizes = np.where(inside, inside.sum(), -(~inside).sum())
    deviation = spread((correct - shares) / sizes, groups)
    difference = float(correct[inside].mean() - correct[~inside].mean())
    if deviation == 0:
        return 1.0
    return float(stdtr(max(1, len(np.unique(groups)) - 1), difference / deviation))
