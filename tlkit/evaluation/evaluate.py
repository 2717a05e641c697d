"""Predictions and the truth, to numbers with intervals."""

import numpy as np
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from tlkit.core.predictions import Predictions
from tlkit.core.results import ClassResult, ConfusedPair, EvaluationResult, Metric, SplitResult
from tlkit.core.splits import SPLITS, UNASSIGNED
from tlkit.evaluation.calibration import reliability
from tlkit.evaluation.intervals import (
    Interval,
    confusion_intervals,
    mean_interval,
    on_logit_scale,
    roc_auc,
    wilson,
)

WITHOUT_SPLIT = "images"
MOST_CONFUSED = 50
_SMALLEST = np.finfo(np.float64).eps  # where scikit-learn's log_loss clips too


def evaluate(predictions: Predictions, *, top_k: int = 5) -> EvaluationResult:
    """Measure every split that has labelled images, and under "images" those that are in no split.

    Metrics, each with n and a 95 % interval where there is a sound one:

    - accuracy, top_5_accuracy (the name follows k; with `top_k` classes or fewer k is 3 or 2, with two
      classes it is left out): share of images, Wilson interval.
    - balanced_accuracy, macro_precision, macro_recall, macro_f1: means over the classes that have an
      image; a class that is never predicted has precision 0. Their interval, and that of kappa: the spread of
      a bootstrap over images (Efron 1979), on the logit scale.
    - cohen_kappa: agreement beyond chance (Cohen 1960), -1..1.
    - log_loss: mean of -log p(truth), natural logarithm; interval normal on the logarithmic scale.
    - roc_auc: macro one-versus-rest over the classes that have an image, class 1 where there are two
      classes; interval of DeLong et al. (1988).
    - brier: mean squared error of the probabilities (Brier 1950), summed over classes (0..2), and halved
      where there are two classes (0..1), as scikit-learn has it; interval as of log_loss.
    - expected_calibration_error: 15 bins of equal width on the confidence of the predicted class. Without
      an interval: resampling adds noise to every bin, which moves the whole distribution upwards.

    A metric that is not defined (no image of a second class, logits that are not finite) has value None.
    """
    named = {name: predictions.splits == code for code, name in enumerate(SPLITS)}
    named[WITHOUT_SPLIT] = predictions.splits == UNASSIGNED
    splits, notes = {}, []
    for name, inside in named.items():
        labelled = np.flatnonzero(inside & (predictions.labels >= 0))
        if len(labelled):
            splits[name] = _measure(name, predictions.select(labelled), top_k)
            notes += _notes(splits[name], int(inside.sum()), predictions, labelled)
    return EvaluationResult(splits=splits, notes=tuple(notes))


def _measure(split: str, rows: Predictions, top_k: int) -> SplitResult:
    """Everything about the labelled images of one split."""
    labels, predicted, classes = rows.labels.astype(np.int64), rows.predicted, len(rows.classes)
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    per_class = _per_class(rows.classes, labels, predicted, confusion)
    probabilities = rows.probabilities if np.isfinite(rows.logits).all() else None
    bins = None if probabilities is None else reliability(probabilities.max(axis=1), predicted == labels)
    metrics = _counted(labels, rows.logits, predicted, top_k) | _from_confusion(labels, predicted, confusion, per_class)
    metrics |= _from_probabilities(labels, probabilities)
    metrics["expected_calibration_error"] = Metric(bins.expected_calibration_error if bins else None, len(rows))
    return SplitResult(
        split=split,
        n=len(rows),
        metrics=metrics,
        confusion=confusion,
        classes=per_class,
        confused=_confused(rows.classes, confusion),
        reliability=bins,
    )


def _counted(labels: np.ndarray, logits: np.ndarray, predicted: np.ndarray, top_k: int) -> dict[str, Metric]:
    """Accuracy and top-k accuracy."""
    n, classes = logits.shape
    metrics = {"accuracy": _share(int((predicted == labels).sum()), n)}
    k = top_k if classes > top_k else min(3, classes - 1)
    if k >= 2:
        of_truth = logits[np.arange(n), labels][:, None]
        # On a tie the first class is ahead, as in `Predictions.predicted`.
        ahead = (logits > of_truth) | ((logits == of_truth) & (np.arange(classes) < labels[:, None]))
        metrics[f"top_{k}_accuracy"] = _share(int((ahead.sum(axis=1) < k).sum()), n)
    return metrics


def _from_confusion(
    labels: np.ndarray, predicted: np.ndarray, confusion: np.ndarray, per_class: tuple[ClassResult, ...]
) -> dict[str, Metric]:
    """Macro averages over the classes that have an image, and kappa."""
    n = len(labels)
    present = [row for row in per_class if row.support]
    recall = float(np.mean([row.recall for row in present]))
    values: dict[str, float | None] = {
        "balanced_accuracy": recall,
        "macro_precision": float(np.mean([row.precision or 0.0 for row in present])),
        "macro_recall": recall,
        "macro_f1": float(np.mean([row.f1 for row in present])),
        # Undefined where truth and prediction are one and the same single class.
        "cohen_kappa": float(cohen_kappa_score(labels, predicted)) if np.count_nonzero(confusion) > 1 else None,
    }
    if len(present) < 2:  # a mean over one class is that class's accuracy, not a macro average
        values = dict.fromkeys(values)
    intervals = confusion_intervals(confusion)
    return {name: _metric(value, n, intervals[name]) for name, value in values.items()}


def _from_probabilities(labels: np.ndarray, probabilities: np.ndarray | None) -> dict[str, Metric]:
    """Log loss, ROC-AUC and Brier score; undefined without probabilities (n, K)."""
    n = len(labels)
    if probabilities is None:
        return dict.fromkeys(("log_loss", "roc_auc", "brier"), Metric(None, n))
    of_truth = probabilities[np.arange(n), labels]
    loss = -np.log(np.maximum(of_truth, _SMALLEST))
    # Sum over classes of (p - truth)^2 without the (n, K) table of truths.
    squared = (probabilities**2).sum(axis=1) - of_truth**2 + (1 - of_truth) ** 2
    brier = squared / 2 if probabilities.shape[1] == 2 else squared
    return {
        "log_loss": _metric(float(loss.mean()), n, mean_interval(loss)),
        "roc_auc": _macro_roc_auc(labels, probabilities),
        "brier": _metric(float(brier.mean()), n, mean_interval(brier)),
    }


def _macro_roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> Metric:
    """One class against the rest, averaged over the classes that have an image; two classes: class 1."""
    n, classes = probabilities.shape
    present = np.unique(labels)
    if len(present) < 2:
        return Metric(None, n)
    areas, influences = [], np.zeros(n)
    for positive in [1] if classes == 2 else present:
        area, influence = roc_auc(labels == positive, probabilities[:, positive])
        areas.append(area)
        influences += influence  # the areas share their images, so influences add up before they are squared
    area = float(np.mean(areas))
    deviation = float(np.sqrt((influences**2).sum())) / len(areas)
    return _metric(area, n, on_logit_scale(area, deviation))


def _per_class(
    names: tuple[str, ...], labels: np.ndarray, predicted: np.ndarray, confusion: np.ndarray
) -> tuple[ClassResult, ...]:
    """Precision, recall and F1 of each class; None where nothing is below the line."""
    scores = precision_recall_fscore_support(labels, predicted, labels=np.arange(len(names)), zero_division=0)
    called = confusion.sum(axis=0)
    return tuple(
        ClassResult(
            name=name,
            support=int(support),
            predicted=int(calls),
            precision=float(precision) if calls else None,
            recall=float(recall) if support else None,
            f1=float(f1) if calls + support else None,
        )
        for name, precision, recall, f1, support, calls in zip(names, *scores, called, strict=True)
    )


def _confused(names: tuple[str, ...], confusion: np.ndarray) -> tuple[ConfusedPair, ...]:
    """The largest cells off the diagonal, at most `MOST_CONFUSED`; ties in class order."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    cells = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return tuple(ConfusedPair(names[i], names[j], int(wrong[i, j])) for i, j in cells if wrong[i, j])


def _notes(result: SplitResult, images: int, predictions: Predictions, labelled: np.ndarray) -> list[str]:
    """What a reader of the numbers must know about the split."""
    notes = []
    if images > result.n:
        notes.append(f"{result.split}: {images - result.n} of {images} images have no label and were not counted.")
    missing = [row.name for row in result.classes if not row.support]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        notes.append(f"{result.split}: no image of {shown}; macro averages leave out classes without an image.")
    broken = int((~np.isfinite(predictions.logits[labelled])).any(axis=1).sum())
    if broken:
        notes.append(f"{result.split}: {broken} images have outputs that are not finite; training may have diverged.")
    return notes


def _share(successes: int, n: int) -> Metric:
    return _metric(successes / n, n, wilson(successes, n))


def _metric(value: float | None, n: int, interval: Interval | None) -> Metric:
    """A Metric; an interval of something undefined is dropped."""
    low, high = (None, None) if value is None or interval is None else interval
    return Metric(value, n, low, high)
