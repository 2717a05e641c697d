"""What a careful colleague would say about the numbers, in sentences, the worrying ones first."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tlkit.evaluation.results import ClassResult, EvaluationResult, Metric, Reliability, SplitResult
from tlkit.report.headline import WHERE
from tlkit.report.page import Page

TONES = ("bad", "warn", "good")
"""bad: do not trust the number; warn: mind this; good: this was looked at and is well."""

FEW = 10  # images of a class below which its row says little
NARROW, WIDE = 0.03, 0.06  # half an interval of accuracy: up to the first it is well known, from the second on hardly
WANTED = 0.02  # half the interval that is offered as an aim
CHANCE = 2.0  # standard deviations that a gap may reach by chance alone
SERIOUS = 3  # serious findings told one by one


class Remark(NamedTuple):
    """One sentence or two.

    Args:
        tone: one of `TONES`.
        text: plain; names of classes and files stand in it as they are.
        section: id of the section that shows it, "" for none.
    """

    tone: str
    text: str
    section: str = ""


def remarks(page: Page, result: SplitResult | None) -> tuple[Remark, ...]:
    """Everything worth saying about the main split and the images behind it, worst first."""
    found = [*_audited(page), *([Remark("warn", page.data.fixes)] if page.data and page.data.fixes else [])]
    if result is not None and page.evaluation is not None:
        found += [
            *_leaked(page.evaluation, result),
            *_size(result),
            *_calibrated(result),
            *_classes(result),
            *_slices(result),
            *_abstains(result),
        ]
    return tuple(sorted(found, key=lambda remark: TONES.index(remark.tone)))


def _audited(page: Page) -> Iterator[Remark]:
    """Serious findings in their own words; how many others there are."""
    if page.audit is None:
        return
    serious, warnings = page.audit.of("serious"), page.audit.of("warning")
    for finding in serious[:SERIOUS]:
        yield Remark("bad", finding.sentence, "audit")
    if len(serious) > SERIOUS:
        yield Remark("bad", f"The audit has {_count(len(serious) - SERIOUS, 'more serious finding')}.", "audit")
    if warnings:
        yield Remark("warn", f"The audit of the images has {_count(len(warnings), 'warning')}.", "audit")
    if not serious and not warnings:
        yield Remark("good", "The audit of the images found nothing that stands in the way.", "audit")


def _leaked(evaluation: EvaluationResult, result: SplitResult) -> Iterator[Remark]:
    """Whether the split is flattered by images that were trained on."""
    leak, where = result.leak, WHERE.get(result.split, "images")
    if leak is None:
        return
    if not leak.exact + leak.near:
        yield Remark("good", f"None of the {where} was trained on, and none looks like a training image.")
        return
    known = f"{_count(leak.exact + leak.near, 'image')} of these {leak.n} {_are(leak.exact + leak.near)} in the training set"
    known += f" or {_are(leak.near)} close to an image of it" if leak.near else ""
    unseen = evaluation.splits.get("unseen" if result.split == "images" else f"{result.split}_unseen")
    name, told = ("subset_accuracy", "every label is right on") if result.multi else ("accuracy", "accuracy is")
    accuracy = unseen.metrics.get(name) if unseen else None
    if unseen is None or accuracy is None or accuracy.value is None:
        yield Remark("bad", f"{known}: the numbers are flattered.", "numbers")
        return
    whole = result.metrics[name].value or 0.0
    tone = "bad" if whole - accuracy.value >= 0.01 else "warn"
    yield Remark(tone, f"{known}. On the other {unseen.n}, {told} {_shown(accuracy)}.", "numbers")


def _size(result: SplitResult) -> Iterator[Remark]:
    """Whether there are enough images to know the accuracy."""
    accuracy = result.metrics.get("accuracy")
    if accuracy is None or accuracy.value is None or accuracy.low is None or accuracy.high is None:
        return
    half, where = (accuracy.high - accuracy.low) / 2, WHERE.get(result.split, "images")
    on = f"{accuracy.n} {where}" + (f" from {_count(accuracy.groups, 'group')}" if accuracy.groups else "")
    if half <= NARROW:
        yield Remark("good", f"{on} are enough to know the accuracy to about ±{100 * half:.1f} points.", "numbers")
        return
    share = min(max(accuracy.value, 0.05), 0.95)
    needed = _rounded(share * (1 - share) * (1.96 / WANTED) ** 2)
    text = f"{on} tell the accuracy only to about ±{100 * half:.0f} points"
    text += ", so smaller gains over another classifier cannot be told from chance." if half > WIDE else "."
    if needed > accuracy.n and not accuracy.groups:
        text += f" Knowing it to ±{100 * WANTED:.0f} takes about {needed:,}."
    yield Remark("warn", text, "numbers")


def _calibrated(result: SplitResult) -> Iterator[Remark]:
    """Whether confidence can be believed, against what chance alone would show in a calibrated classifier."""
    bins = result.reliability
    if bins is None or not bins.count.sum():
        return
    gap, (expected, deviation) = bins.expected_calibration_error, chance_gap(bins)
    filled = bins.count > 0
    lean = float(((bins.confidence - bins.accuracy)[filled] * bins.count[filled]).sum() / bins.count.sum())
    if gap <= expected + CHANCE * deviation:
        on = f"{bins.count.sum()} answers about {result.n} images" if result.multi else f"{bins.count.sum()} images"
        text = f"Its confidence can be believed as far as {on} tell: it is off by {100 * gap:.1f} points on average, and chance alone would show about {100 * expected:.1f}."
        yield Remark("good", text + _fitted_here(result), "reliability")
        return
    way = "too sure of itself" if lean > 0 else "too modest"
    text = f"Its confidence is off by {100 * gap:.1f} points on average where chance would show {100 * expected:.1f}: on the whole it is {way}."
    yield Remark("warn", text + _fitted_here(result), "reliability")


def _fitted_here(result: SplitResult) -> str:
    """What makes validation images look calibrated."""
    return " The temperature was fitted on these very images." if result.split == "val" and result.uncalibrated else ""


def chance_gap(bins: Reliability) -> tuple[float, float]:
    """Expected calibration error that a perfectly calibrated classifier would show on so many images, and its deviation.

    In a bin of n images of mean confidence c the share correct is about normal with variance c(1-c)/n,
    and the mean of the absolute value of a normal is sqrt(2/pi) of its deviation; 0..1 both.
    """
    filled = bins.count > 0
    count, confidence = bins.count[filled], bins.confidence[filled]
    spread = np.sqrt(confidence * (1 - confidence) / count) * count / count.sum()
    return float(math.sqrt(2 / math.pi) * spread.sum()), float(math.sqrt((1 - 2 / math.pi) * (spread**2).sum()))


def _classes(result: SplitResult) -> Iterator[Remark]:
    """The weakest class, where it is clearly below the rest, and classes too small to say."""
    overall = result.metrics["accuracy"].value if "accuracy" in result.metrics else None
    large = [row for row in result.classes if row.support >= FEW and row.recall is not None]
    weakest = min(large, key=lambda row: row.recall or 0.0, default=None)
    if weakest and overall is not None and _surely_below(weakest, overall):
        found = round((weakest.recall or 0.0) * weakest.support)
        yield Remark(
            "warn", f"Weakest class: of {weakest.support} images of {weakest.name}, {found} were found.", "classes"
        )
    small = [row for row in result.classes if 0 < row.support < FEW]
    if small:
        names = ", ".join(f"{row.name} ({row.support})" for row in sorted(small, key=lambda row: row.support)[:3])
        rest = f" and {len(small) - 3} more" if len(small) > 3 else ""
        yield Remark("warn", f"Fewer than {FEW} images to measure on: {names}{rest}. Their rows say little.", "classes")


def _surely_below(row: ClassResult, overall: float) -> bool:
    return row.recall_interval is not None and row.recall_interval[1] < overall


def _slices(result: SplitResult) -> Iterator[Remark]:
    """Where it fails more often than elsewhere."""
    for found in [row for row in result.slices if row.worse and row.column != "class"][:2]:
        rest = "" if found.rest.value is None else f", against {100 * found.rest.value:.1f} % elsewhere"
        text = f"It fails more often where {found.column} is {found.value}: {_shown(found.accuracy)}{rest}."
        yield Remark("warn", text, "slices")


def _abstains(result: SplitResult) -> Iterator[Remark]:
    """What the threshold gives."""
    found = result.abstention
    if found is None or found.coverage.value is None:
        return
    if found.precision.value is None:
        text = f"At a threshold of {found.threshold:.2f} it answers none of these images."
        yield Remark("warn", text, "abstention")
        return
    text = f"Answering only where it is at least {100 * found.threshold:.0f} % sure, it answers {100 * found.coverage.value:.1f} % of the images and is right on {_shown(found.precision)} of those; the aim was {100 * found.target_precision:.4g} %."
    text += " The threshold was chosen on these very images." if result.split == "val" else ""
    reached = found.precision.high is None or found.precision.high >= found.target_precision
    yield Remark("good" if reached else "warn", text, "abstention")


def _shown(metric: Metric) -> str:
    """91.0 % (85.1 to 95.2)."""
    value = f"{100 * (metric.value or 0):.1f} %"
    if metric.low is None or metric.high is None:
        return value
    return f"{value} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _rounded(number: float) -> int:
    """To two figures: nobody needs to know that 1,246 images are enough."""
    power = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(math.ceil(number / power) * power)
