"""The headline of the report: one number, its interval, and its baseline."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from tlkit.base.story import percent
from tlkit.evaluation.results import CLIP, EvaluationResult, Metric, SplitResult
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import row_of
from tlkit.tasks.single import SINGLE

T = TypeVar("T")

PREFERRED = ("test", "images", "val", "train")  # the report is about the first one present
WHERE = {
    "test": "test images",
    "val": "validation images",
    "train": "training images",
    "images": "images",
}


def where_of(result: SplitResult) -> str:
    """`test images`, or `test clips`."""
    return said_of(result.sample, WHERE.get(result.split, f"images of {result.split}"))


CAVEATS = {
    "val": "There is no test split. These images were also used to choose what ships, so results on new images may be slightly lower.",
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

    @property
    def line(self) -> str:
        """The number in one line."""
        return f"accuracy {_shared(self.accuracy)} on {self.accuracy.n} {self.where}"

    @property
    def beside(self) -> str:
        """What to compare it with."""
        return f"always predicting {self.majority!r} gives {percent(self.baseline, 1)}. {self.caveat}".strip()


def _shared(metric: Metric) -> str:
    """A share with its interval: 91.0 % [85.1 %, 95.2 %]."""
    interval = (
        "" if metric.low is None or metric.high is None else f" [{percent(metric.low, 1)}, {percent(metric.high, 1)}]"
    )
    return f"{percent(metric.value or 0, 1)}{interval}"


@dataclass(frozen=True)
class Several:
    """The headline of several labels per image.

    Args:
        split: name of the main split.
        where: "test images".
        precision: mean average precision, with its interval.
        baseline: what guessing gives: the mean share of images that have a label, 0..1.
        exact: share of images with every label right.
        right: the number of these images.
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

    @property
    def line(self) -> str:
        """The number in one line."""
        return f"mAP {_shared(self.precision)} on {self.precision.n} {self.where}"

    @property
    def beside(self) -> str:
        """What to compare it with."""
        return f"guessing gives {percent(self.baseline, 1)}. {self.caveat}".strip()


def several(result: SplitResult) -> Several | None:
    """The headline of a split of several labels; None where it is not defined."""
    precision = result.metrics.get("mean_average_precision")
    if precision is None or precision.value is None:
        return None
    baseline = result.task.baseline(_support(result), result.n)
    exact = result.metrics["subset_accuracy"]
    return Several(
        split=result.split,
        where=where_of(result),
        precision=precision,
        baseline=baseline,
        exact=exact,
        right=round((exact.value or 0.0) * result.n),
        verdict=_against(precision, baseline),
        caveat=said_of(result.sample, CAVEATS.get(result.split, "")),
    )


@dataclass(frozen=True)
class Quantity:
    """The headline of predicted numbers.

    Args:
        split: name of the main split.
        where: "test images".
        name: of the number concerned, "" where there is only one.
        error: mean absolute error, with its interval.
        baseline: that of always answering the mean of these images.
        verdict: `better`, `unclear` or `worse` than the baseline.
        caveat: a sentence, or "".
    """

    split: str
    where: str
    name: str
    error: Metric
    baseline: float
    verdict: str
    caveat: str

    @property
    def line(self) -> str:
        """The number in one line."""
        error, of = self.error, f" of {self.name}" if self.name else ""
        interval = "" if error.low is None or error.high is None else f" [{error.low:.4g}, {error.high:.4g}]"
        return f"mean absolute error{of} {error.value or 0:.4g}{interval} on {error.n} {self.where}"

    @property
    def beside(self) -> str:
        """What to compare it with."""
        return f"always answering their mean gives {self.baseline:.4g}. {self.caveat}".strip()


def quantity(result: SplitResult) -> Quantity | None:
    """The headline of a split of numbers, for the first of them; None where it is not defined."""
    key = next((key for key in result.metrics if key.partition(":")[0] == "mean_absolute_error"), "")
    error = result.metrics.get(key)
    if error is None or error.value is None:
        return None
    name = key.partition(":")[2]
    baseline = result.metrics[f"mean_absolute_error_of_mean{':' * bool(name)}{name}"].value or 0.0
    against = _against(error, baseline)
    return Quantity(
        split=result.split,
        where=where_of(result),
        name=name,
        error=error,
        baseline=baseline,
        verdict={"better": "worse", "worse": "better"}.get(against, against),  # for errors, less is better
        caveat=said_of(result.sample, CAVEATS.get(result.split, "")),
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
        where=where_of(result),
        accuracy=accuracy,
        correct=round(accuracy.value * result.n),
        baseline=baseline,
        majority=largest.name,
        verdict=_against(accuracy, baseline),
        caveat=said_of(result.sample, CAVEATS.get(result.split, "")),
    )


OPENINGS: dict[str, Callable[[SplitResult], Headline | Several | Quantity | None]] = {
    SINGLE.name: headline,
    MULTI.name: several,
    ORDINAL.name: headline,
    NUMBER.name: quantity,
}
"""The headline of a split, one row for each task."""


def opening(result: SplitResult | None) -> Headline | Several | Quantity | None:
    """The headline that a report opens with; None where nothing was measured or it is not defined."""
    return row_of(OPENINGS, result.task)(result) if result else None


# -- The word for a sample: the sentences of this package say image, and are reworded for a result on clips ---

_NOUN = re.compile(r"(?<![\w.\-/#])((?:an |An )?)([iI])mage(s?)(?![\w\-/=]|\.\w)")


def in_clips(text: str, kept: Collection[str] = ()) -> str:
    """A sentence about images, reworded for clips.

    Args:
        text: the sentence.
        kept: names of classes or files, which are left unchanged.
    """
    names = "|".join(map(re.escape, sorted(filter(None, kept), key=len, reverse=True)))
    parts = re.split(f"(?<!\\w)({names})(?!\\w)", text) if names else [text]
    return "".join(part if place % 2 else _NOUN.sub(_clip, part) for place, part in enumerate(parts))


def _clip(found: re.Match[str]) -> str:
    article = found[1].replace("n ", " ")
    return f"{article}{'C' if found[2] == 'I' else 'c'}lip{found[3]}"


def said_of(sample: str, value: T, kept: Collection[str] = ()) -> T:
    """Reword a sentence, or every sentence in tuples, lists and dataclasses, for `sample`; other values are unchanged."""
    if sample != CLIP:
        return value
    found: Any = value
    if isinstance(value, str):
        found = type(value)(in_clips(value, kept))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        found = type(value)(*(said_of(sample, one, kept) for one in value))
    elif isinstance(value, (tuple, list)):
        found = type(value)(said_of(sample, one, kept) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        changed = {spec.name: said_of(sample, getattr(value, spec.name), kept) for spec in fields(value)}
        found = replace(value, **changed)
    return found
