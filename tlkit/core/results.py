"""What an evaluation found, ready for JSON and for the report."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metric:
    """One number with its 95 % interval and the count it rests on; None where it is not defined.

    Args:
        value: the metric, or None where it cannot be computed (no positive example, say).
        low: lower end of the interval, or None.
        high: upper end, or None.
        n: images it was computed from.
    """

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"value": v, "low": l, "high": h, "n": n}`."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class ClassResult:
    """Precision, recall and F1 of one class; None where a ratio has nothing below the line."""

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ConfusedPair:
    """`count` images of class `truth` were called `predicted`."""

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
class SplitResult:
    """Everything measured on one split.

    Args:
        split: its name.
        n: labelled images in it.
        metrics: name -> Metric.
        confusion: int64 (K, K), rows truth, columns prediction, in class order.
        classes: per class.
        confused: off-diagonal cells, most frequent first.
        reliability: confidence against accuracy, None where the outputs are no probabilities.
    """

    split: str
    n: int
    metrics: dict[str, Metric]
    confusion: np.ndarray
    classes: tuple[ClassResult, ...]
    confused: tuple[ConfusedPair, ...]
    reliability: Reliability | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """The results of every split, by name, in the order train, val, test; plus plain sentences to show."""

    splits: dict[str, SplitResult]
    notes: tuple[str, ...] = field(default=())

    def metrics_json(self) -> dict[str, Any]:
        """`{split: {metric: {"value", "low", "high", "n"}}}`, the content of metrics.json."""
        return {
            name: {metric: found.as_json() for metric, found in result.metrics.items()}
            for name, result in self.splits.items()
        }
