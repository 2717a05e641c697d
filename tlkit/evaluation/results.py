"""What an evaluation found, ready for JSON and for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    Matrix: TypeAlias = np.ndarray | csr_array
else:
    Matrix = np.ndarray  # answering does without SciPy


@dataclass(frozen=True)
class Metric:
    """One number with its 95 % interval and the count it rests on; None where it is not defined.

    Args:
        value: the metric, or None where it cannot be computed (no positive example, say).
        low: lower end of the interval, or None.
        high: upper end, or None.
        n: images it was computed from.
        groups: independent groups (patients, clips) that the interval rests on; None where images are independent.
    """

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    groups: int | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"value": v, "low": l, "high": h, "n": n}`, and "groups" where there are any."""
        found = {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
        return found if self.groups is None else found | {"groups": self.groups}


@dataclass(frozen=True)
class ClassResult:
    """The results of one class; None where the denominator of a ratio is 0.

    Args:
        name: of the class.
        support: images of it.
        predicted: images that were predicted as it.
        precision, recall, f1: 0..1.
        roc_auc: of its probability, against the rest; 0..1.
        average_precision: of its probability, against the rest; 0..1.
        precision_interval, recall_interval: 95 %, (low, high).
        average_precision_interval: the same; only where an image may have several labels.
    """

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None = None
    average_precision: float | None = None
    precision_interval: tuple[float, float] | None = None
    recall_interval: tuple[float, float] | None = None
    average_precision_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ConfusedPair:
    """`count` images of class `truth` were predicted as `predicted`."""

    truth: str
    predicted: str
    count: int


@dataclass(frozen=True)
class Reliability:
    """Top-label confidence against accuracy in bins of equal width.

    Args:
        edges: float64 (bins + 1,), from 0 to 1; a bin holds its upper edge, the first one both.
        count: int64 (bins,), images in each.
        confidence: float64 (bins,), mean confidence in each, NaN where empty.
        accuracy: float64 (bins,), share correct in each, NaN where empty.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by images (Naeini et al. 2015); 0..1."""
        filled = self.count > 0
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float((gaps * self.count[filled]).sum() / self.count.sum())


@dataclass(frozen=True)
class Curve:
    """Points of a curve, float64 (m,) each, at most a few hundred of them, in the order they are drawn."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class ClassCurves:
    """One class against the rest, by its probability.

    Args:
        name: of the class.
        roc: x false positive rate, y true positive rate, both from 0 to 1 (Fawcett 2006).
        precision_recall: x recall from 0 to 1, y precision.
        roc_auc, average_precision: the areas, with intervals.
    """

    name: str
    roc: Curve
    precision_recall: Curve
    roc_auc: Metric
    average_precision: Metric


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve: error rate of the images of highest confidence (El-Yaniv and Wiener 2010).

    Args:
        coverage: float64 (m,), share of images answered, rising to 1.
        risk: float64 (m,), share of wrong answers among them.
        confidence: float64 (m,), lowest confidence among them, falling.
        area: mean risk over all coverages (AURC, Geifman et al. 2019); 0 is perfect.
    """

    coverage: np.ndarray
    risk: np.ndarray
    confidence: np.ndarray
    area: Metric


@dataclass(frozen=True)
class Abstention:
    """Coverage and precision on this split where only confidences at or above the threshold are answered.

    Args:
        target_precision: the precision the threshold was chosen for, on validation images.
        threshold: confidence at or above which the classifier answers, 0..1.
        coverage: share of images answered.
        precision: share of right answers among them; its n is how many were answered.
    """

    target_precision: float
    threshold: float
    coverage: Metric
    precision: Metric


@dataclass(frozen=True)
class SliceResult:
    """Accuracy on the images that share a property, against all the others of the split.

    Args:
        column: the property: `class`, `image size`, `brightness` or a column of the manifest.
        value: what they share, ready to show.
        accuracy: on them.
        rest: on the others.
        p_value: that they are no harder than the others, one-sided, after Holm's correction over all slices.
        worse: whether that is below 0.05: here the classifier is weaker.
    """

    column: str
    value: str
    accuracy: Metric
    rest: Metric
    p_value: float
    worse: bool


@dataclass(frozen=True)
class Leak:
    """Images of this split that were trained on, and near-duplicates of training images.

    Args:
        exact: images that are byte for byte among the training images.
        near: further images that look like one of them.
        n: images of the split.
    """

    exact: int
    near: int
    n: int


@dataclass(frozen=True, kw_only=True)
class SplitRequest:
    """What is to be measured on one split, beside its predictions.

    Args:
        split: its name.
        columns: to slice by: name -> a value for each image, "" or NaN where there is none.
        top_k: of the top-k accuracy.
        target_precision: what the threshold of the predictions was chosen for, 0..1.
        leak: which of the images were trained on, for the result.
    """

    split: str
    columns: Mapping[str, Sequence[str] | np.ndarray] = field(default_factory=dict)
    top_k: int = 5
    target_precision: float | None = None
    leak: Leak | None = None


IMAGE, CLIP = "image", "clip"  # the word for a sample


@dataclass(frozen=True)
class SplitResult:
    """Everything measured on one split.

    Args:
        split: its name; `test_unseen` holds the images of test without those that `leak` counts.
        n: labelled images in it.
        metrics: name -> Metric. Names ending in `_uncalibrated` are from before the temperature.
        confusion: int64 (K, K), rows truth, columns prediction, in class order, sparse for more than `MANY_CLASSES` classes;
            where an image may have several labels int64 (K, 2, 2), of each class, no before yes.
        classes: per class.
        confused: off-diagonal cells, most frequent first.
        reliability: confidence against accuracy, None where the outputs are no probabilities.
        uncalibrated: the same before the temperature, None where it is 1.
        risk_coverage: None where the outputs are no probabilities.
        abstention: None where no threshold was asked for.
        curves: one-versus-rest, of the classes with the lowest average precision; at most 30 of them.
        slices: lowest p-value first; only slices with enough images to say anything.
        leak: None where it was not examined.
        task: what the answers mean.
        sample: what was answered, `IMAGE` or `CLIP`.
    """

    split: str
    n: int
    metrics: dict[str, Metric]
    confusion: Matrix
    classes: tuple[ClassResult, ...]
    confused: tuple[ConfusedPair, ...]
    reliability: Reliability | None = None
    uncalibrated: Reliability | None = None
    risk_coverage: RiskCoverage | None = None
    abstention: Abstention | None = None
    curves: tuple[ClassCurves, ...] = ()
    slices: tuple[SliceResult, ...] = ()
    leak: Leak | None = None
    task: Task = SINGLE
    sample: str = IMAGE


@dataclass(frozen=True)
class EvaluationResult:
    """The results of every split, by name, in the order train, val, test, then the rest; plain sentences to show."""

    splits: dict[str, SplitResult]
    notes: tuple[str, ...] = field(default=())

    def metrics_json(self) -> dict[str, Any]:
        """`{split: {metric: {"value", "low", "high", "n"}}}`, the content of metrics.json."""
        return {
            name: {metric: found.as_json() for metric, found in result.metrics.items()}
            for name, result in self.splits.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, the content of evaluation.json: field names as keys, arrays as lists, NaN as null."""
        return {"splits": plain(self.splits), "notes": list(self.notes)}


def plain(value: Any) -> Any:
    """Dataclasses, arrays and numbers of NumPy as JSON types; numbers that are not finite become None."""
    if isinstance(value, Metric):
        return value.as_json()
    if isinstance(value, Task):
        return value.name
    if is_dataclass(value):
        return {spec.name: plain(getattr(value, spec.name)) for spec in fields(value)}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tocoo"):  # a sparse matrix of SciPy
        cells = np.stack([*value.nonzero(), value.data], axis=1)
        return {"classes": value.shape[0], "cells": cells.tolist()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


# -- Two runs side by side on the same images, and whether the difference is real --------------


@dataclass(frozen=True)
class Comparison:
    """What `second` gains over `first` on images that both have predicted.

    Args:
        first, second: names of the runs.
        n: images, matched by content.
        accuracy: of each, first to second.
        differences: metric -> second minus first, with its interval; accuracy in 0..1.
        only_first, only_second: paths of the images that this run alone gets right, as that run names them.
        p_value: that the two are right equally often, two-sided; corrected where several pairs are compared.
        test: what the p-value comes from, in words.
        significant: whether the p-value is below 0.05 and the interval of the accuracy leaves out 0.
        sentence: all of that for a reader.
        measure: what `accuracy` holds and the p-value is of.
    """

    first: str
    second: str
    n: int
    accuracy: tuple[Metric, Metric]
    differences: dict[str, Metric]
    only_first: tuple[str, ...] = field(repr=False)
    only_second: tuple[str, ...] = field(repr=False)
    p_value: float
    test: str
    significant: bool
    sentence: str
    measure: str = "accuracy"
