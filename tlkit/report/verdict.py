"""Remarks on the results, as a careful reviewer would make them; the most serious first."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tlkit.base.story import counted
from tlkit.evaluation.results import ClassResult, EvaluationResult, Metric, Reliability, SplitResult
from tlkit.report.headline import WHERE, said_of
from tlkit.report.page import Page
from tlkit.report.tasks import words_of

TONES = ("bad", "warn", "good")
"""bad: the number cannot be trusted; warn: read it with care; good: checked, without a problem."""

FEW = 10  # images of a class below which its row is uncertain
NARROW, WIDE = (
    0.03,
    0.06,
)  # half an interval of accuracy: up to the first the accuracy is precise, from the second on it is not
WANTED = 0.02  # half the interval that is suggested as a target
CHANCE = 2.0  # standard deviations that a gap may reach by chance alone
TELLING = 0.1  # where chance alone may give a larger gap between confidence and accuracy, calibration cannot be judged
SERIOUS = 3  # serious findings listed one by one


class Remark(NamedTuple):
    """One sentence or two.

    Args:
        tone: one of `TONES`.
        text: plain; names of classes and files in it are verbatim.
        section: id of the section that shows it, "" for none.
    """

    tone: str
    text: str
    section: str = ""


def remarks(page: Page, result: SplitResult | None) -> tuple[Remark, ...]:
    """Everything worth saying about the main split and the images behind it, worst first."""
    kept = [row.name for row in result.classes] if result else ()
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
    found = said_of(result.sample, found, kept) if result else found
    return tuple(sorted(found, key=lambda remark: TONES.index(remark.tone)))


def _audited(page: Page) -> Iterator[Remark]:
    """Serious findings as the audit puts them; the number of the others."""
    if page.audit is None:
        return
    serious, warnings = page.audit.of("serious"), page.audit.of("warning")
    for finding in serious[:SERIOUS]:
        yield Remark("bad", finding.sentence, "audit")
    if len(serious) > SERIOUS:
        yield Remark("bad", f"The audit has {counted(len(serious) - SERIOUS, 'further serious finding')}.", "audit")
    if warnings:
        yield Remark("warn", f"The audit of the images has {counted(len(warnings), 'warning')}.", "audit")
    if not serious and not warnings:
        yield Remark("good", "The audit of the images found no problem.", "audit")


def _leaked(evaluation: EvaluationResult, result: SplitResult) -> Iterator[Remark]:
    """Whether images of the split were trained on."""
    leak, where = result.leak, WHERE.get(result.split, "images")
    if leak is None:
        return
    if not leak.exact + leak.near:
        yield Remark("good", f"None of the {where} was trained on, and none looks like a training image.")
        return
    known = f"{counted(leak.exact + leak.near, 'image')} of these {leak.n} {_are(leak.exact + leak.near)} in the training set"
    known += f" or {_are(leak.near)} close to an image of it" if leak.near else ""
    unseen = evaluation.splits.get("unseen" if result.split == "images" else f"{result.split}_unseen")
    name, exactly = result.task.exact, words_of(result).exact
    accuracy = unseen.metrics.get(name) if unseen else None
    if unseen is None or accuracy is None or accuracy.value is None:
        yield Remark("bad", f"{known}: the results are too optimistic.", "numbers")
        return
    whole = result.metrics[name].value or 0.0
    tone = "bad" if whole - accuracy.value >= 0.01 else "warn"
    yield Remark(tone, f"{known}. On the other {unseen.n}, {exactly} {_shown(accuracy)}.", "numbers")


def _size(result: SplitResult) -> Iterator[Remark]:
    """How precisely the images determine the accuracy."""
    accuracy = result.metrics.get("accuracy")
    if accuracy is None or accuracy.value is None or accuracy.low is None or accuracy.high is None:
        return
    half, where = (accuracy.high - accuracy.low) / 2, WHERE.get(result.split, "images")
    on = f"{accuracy.n:,} {where}" + (f" from {counted(accuracy.groups, 'group')}" if accuracy.groups else "")
    if half <= NARROW:
        yield Remark("good", f"{on} determine the accuracy to about ±{100 * half:.1f} points.", "numbers")
        return
    share = min(max(accuracy.value, 0.05), 0.95)
    needed = _rounded(share * (1 - share) * (1.96 / WANTED) ** 2)
    text = f"{on} determine the accuracy only to about ±{100 * half:.0f} points"
    text += (
        ", so smaller differences from another classifier cannot be distinguished from chance." if half > WIDE else "."
    )
    if needed > accuracy.n and not accuracy.groups:
        text += f" An interval of ±{100 * WANTED:.0f} points takes about {needed:,} images."
    yield Remark("warn", text, "numbers")


def _calibrated(result: SplitResult) -> Iterator[Remark]:
    """Whether confidence is calibrated, against the gap that a calibrated classifier shows by chance."""
    bins = result.reliability
    if bins is None or not bins.count.sum():
        return
    gap, (expected, deviation) = bins.expected_calibration_error, chance_gap(bins)
    filled = bins.count > 0
    lean = float(((bins.confidence - bins.accuracy)[filled] * bins.count[filled]).sum() / bins.count.sum())
    most = expected + CHANCE * deviation
    if gap <= most and most > TELLING:
        text = f"{bins.count.sum()} images are too few to judge its confidence: it differs from accuracy by {100 * gap:.1f} points on average, and up to {100 * most:.1f} could be chance."
        yield Remark("warn", text + _fitted_here(result), "reliability")
        return
    if gap <= most:
        on = words_of(result).answers(int(bins.count.sum()), result.n)
        text = f"Its confidence is calibrated as far as {on} show: confidence and accuracy differ by {100 * gap:.1f} points on average, and about {100 * expected:.1f} are expected by chance."
        yield Remark("good", text + _fitted_here(result), "reliability")
        return
    way = "overconfident" if lean > 0 else "underconfident"
    text = f"Confidence and accuracy differ by {100 * gap:.1f} points on average, where {100 * expected:.1f} are expected by chance: on the whole it is {way}."
    yield Remark("warn", text + _fitted_here(result), "reliability")


def _fitted_here(result: SplitResult) -> str:
    """A caveat where the temperature was fitted on the images it is judged by."""
    return " The temperature was fitted on these same images." if result.split == "val" and result.uncalibrated else ""


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
    """The class of lowest recall, where it is significantly below the rest, and classes of low support."""
    overall = result.metrics["accuracy"].value if "accuracy" in result.metrics else None
    large = [row for row in result.classes if row.support >= FEW and row.recall is not None]
    weakest = min(large, key=lambda row: row.recall or 0.0, default=None)
    if weakest and overall is not None and _surely_below(weakest, result.classes, overall):
        found = round((weakest.recall or 0.0) * weakest.support)
        yield Remark(
            "warn", f"Lowest recall: of {weakest.support} images of {weakest.name}, {found} were recognised.", "classes"
        )
    small = [row for row in result.classes if 0 < row.support < FEW]
    if small:
        names = ", ".join(f"{row.name} ({row.support})" for row in sorted(small, key=lambda row: row.support)[:3])
        rest = f" and {len(small) - 3} more" if len(small) > 3 else ""
        yield Remark("warn", f"Support below {FEW} images: {names}{rest}. Their rows are uncertain.", "classes")


def _surely_below(row: ClassResult, rows: Sequence[ClassResult], overall: float) -> bool:
    """Whether its recall is lower than that of the others by more than chance.

    Its interval ends below the accuracy and, as it is the lowest of many, Fisher's exact test agrees after Bonferroni.
    """
    if row.recall_interval is None or row.recall_interval[1] >= overall:
        return False
    others = [other for other in rows if other is not row and other.recall is not None]
    if not others:
        return True
    from scipy.stats import fisher_exact

    support = np.array([row.support, sum(other.support for other in others)])
    found = np.round(
        [(row.recall or 0.0) * row.support, sum((other.recall or 0.0) * other.support for other in others)]
    )
    chance = fisher_exact(np.stack([found, support - found]), alternative="less").pvalue
    return float(chance) * (len(others) + 1) < 0.05


def _slices(result: SplitResult) -> Iterator[Remark]:
    """Slices of significantly lower accuracy."""
    for found in [row for row in result.slices if row.worse and row.column != "class"][:2]:
        rest = "" if found.rest.value is None else f", against {100 * found.rest.value:.1f} % elsewhere"
        text = f"Accuracy is lower where {found.column} is {found.value}: {_shown(found.accuracy)}{rest}."
        yield Remark("warn", text, "slices")


def _abstains(result: SplitResult) -> Iterator[Remark]:
    """Coverage and precision at the threshold."""
    found = result.abstention
    if found is None or found.coverage.value is None:
        return
    if found.precision.value is None:
        text = f"At a threshold of {found.threshold:.2f} it answers none of these images."
        yield Remark("warn", text, "abstention")
        return
    text = f"Answering only at a confidence of {100 * found.threshold:.0f} % or more, it answers {100 * found.coverage.value:.1f} % of the images and {_shown(found.precision)} of these answers are correct; the target was {100 * found.target_precision:.4g} %."
    text += " The threshold was chosen on these same images." if result.split == "val" else ""
    low, high = found.precision.low, found.precision.high
    missed = high is not None and high < found.target_precision
    conclusive = low is not None and high is not None and (low >= found.target_precision or (high - low) / 2 <= NARROW)
    if not missed and not conclusive:
        text += " So few answers cannot show whether it is reached."
    yield Remark("good" if conclusive and not missed else "warn", text, "abstention")


def _shown(metric: Metric) -> str:
    """91.0 % (85.1 to 95.2)."""
    value = f"{100 * (metric.value or 0):.1f} %"
    if metric.low is None or metric.high is None:
        return value
    return f"{value} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _rounded(number: float) -> int:
    """To two significant figures."""
    power = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(math.ceil(number / power) * power)
