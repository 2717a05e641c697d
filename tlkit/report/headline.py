"""The headline of the report: one number, its interval, and its baseline."""

from dataclasses import dataclass

import numpy as np

from tlkit.evaluation.results import EvaluationResult, Metric, SplitResult

PREFERRED = ("test", "images", "val", "train")  # the report is about the first one present
WHERE = {
    "test": "test images",
    "val": "validation images",
    "train": "training images",
    "images": "images",
}
CAVEATS = {
    "val": "There is no test split. These images also chose what ships, so that new images may give slightly lower results.",
    "train": "The classifier was trained on these images. The number says nothing about new ones.",
}


@dataclass(frozen=True)
class Headline:
    """Accuracy on the main split, against that of always predicting its most common class.

    Args:
        split: name of the main split.
        where: "test images".
        accuracy: with its interval.
        correct: images that were classified correctly.
        baseline: accuracy of always predicting `majority`, 0..1.
        majority: the most common class of the split.
        verdict: `better`, `unclear` or `worse` than the baseline.
        caveat: a sentence, or "".
    """

    split: str
    where: str
    accuracy: Metric
    correct: int
    baseline: float
    majority: str
    verdict: str
    caveat: str


@dataclass(frozen=True)
class Several:
    """The headline of several labels an image.

    Args:
        split: name of the main split.
        where: "test images".
        precision: mean average precision, with its interval.
        baseline: what guessing gives: the mean share of images that have a label, 0..1.
        exact: share of images with every label right.
        right: how many these are.
        verdict: `better`, `unclear` or `worse` than the baseline.
        caveat: a sentence, or "".
    """

    split: str
    where: str
    precision: Metric
    baseline: float
    exact: Metric
    right: int
    verdict: str
    caveat: str


def several(result: SplitResult) -> Several | None:
    """The headline of a split of several labels; None where it is not defined."""
    precision = result.metrics.get("mean_average_precision")
    if precision is None or precision.value is None:
        return None
    baseline = result.task.baseline(_support(result), result.n)
    exact = result.metrics["subset_accuracy"]
    return Several(
        split=result.split,
        where=WHERE.get(result.split, f"images of {result.split}"),
        precision=precision,
        baseline=baseline,
        exact=exact,
        right=round((exact.value or 0.0) * result.n),
        verdict=_against(precision, baseline),
        caveat=CAVEATS.get(result.split, ""),
    )


def _support(result: SplitResult) -> np.ndarray:
    return np.array([row.support for row in result.classes])


def _against(metric: Metric, baseline: float) -> str:
    """`better`, `worse` or `unclear`."""
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    if low is None or high is None:
        return "unclear"
    return "better" if low > baseline else "worse" if high < baseline else "unclear"


def main_split(evaluation: EvaluationResult | None) -> SplitResult | None:
    """The split that the report is about, or None where nothing was measured."""
    found = evaluation.splits if evaluation else {}
    return next((found[name] for name in PREFERRED if name in found), next(iter(found.values()), None))


def headline(result: SplitResult) -> Headline | None:
    """The headline of a split; None where its accuracy is not defined."""
    accuracy = result.metrics.get("accuracy")
    if accuracy is None or accuracy.value is None or not result.n:
        return None
    largest = max(result.classes, key=lambda row: row.support)
    baseline = result.task.baseline(_support(result), result.n)
    return Headline(
        split=result.split,
        where=WHERE.get(result.split, f"images of {result.split}"),
        accuracy=accuracy,
        correct=round(accuracy.value * result.n),
        baseline=baseline,
        majority=largest.name,
        verdict=_against(accuracy, baseline),
        caveat=CAVEATS.get(result.split, ""),
    )
