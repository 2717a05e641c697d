"""The charts of the report. No class or file name enters one: names stand in the page beside it."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from tlkit.evaluation.results import Abstention, ClassCurves, Curve, Reliability, RiskCoverage
from tlkit.report.page import EpochRow
from tlkit.report.svg import ChartAxis, Plot, percent, picture, shares, steps

LINES = 5  # classes with a colour of their own in one chart; the others are thin and grey
MANY_EPOCHS = 40  # beyond that, dots run into each other


def curves(history: Sequence[EpochRow], what: str, label: str) -> Markup | None:
    """`what` (loss or accuracy) on training and validation images over the epochs of all stages.

    None where fewer than two epochs have a number: a single one is no curve.
    """
    train = np.array([getattr(row, what) for row in history], dtype=float)
    val = np.array([getattr(row, f"val_{what}") for row in history], dtype=float)
    finite = np.isfinite(train) | np.isfinite(val)
    if finite.sum() < 2:
        return None
    values = np.concatenate([train, val])
    epochs = np.arange(1, len(history) + 1)
    x = ChartAxis(0.5, len(history) + 0.5, steps(1, len(history), 8, whole=True), "epoch")
    plot = Plot(x, _around(values[np.isfinite(values)], what), height=260)
    _stages(plot, [row.stage for row in history])
    for line, kind in ((train, "second dashed"), (val, "first")):
        plot.line(epochs, line, kind)
        if len(history) <= MANY_EPOCHS:
            plot.points(epochs, line, kind)
    return picture(label, plot)


def _around(values: np.ndarray, what: str) -> ChartAxis:
    """An axis that holds the values with a little air; shares stay within 0 and 1."""
    low, high = float(values.min()), float(values.max())
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - air, high + air
    if what == "accuracy":
        low, high = max(0.0, low), min(1.0, high)
        return ChartAxis(low, high, steps(low, high, 4), written=percent)
    return ChartAxis(low, high, steps(low, high, 4))


def _stages(plot: Plot, stages: list[str]) -> None:
    """A line and a name where each stage starts; none for a single stage."""
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    for i in starts if len(starts) > 1 else ():
        plot.upright(i + 0.5, stages[i])


def reliability_diagram(bins: Reliability, label: str, before: Reliability | None = None) -> Markup:
    """Accuracy in each bin of confidence against the diagonal, and below it how many images each bin holds.

    `before`: the same before the temperature, as hollow dots.
    """
    above = Plot(ChartAxis(0, 1, ()), shares("share correct"), height=252)
    filled = bins.count > 0
    above.bars(bins.edges[:-1][filled], bins.edges[1:][filled], bins.accuracy[filled])
    above.line((0, 1), (0, 1), "muted dashed")
    if before is not None:
        above.points(before.confidence, before.accuracy, "second hollow", radius=4)
    above.points(bins.confidence, bins.accuracy, radius=4)
    most = int(bins.count.max())
    below = Plot(shares("confidence"), ChartAxis(0, most, (0, most), "images"), height=120, top=262, margin=above.left)
    below.bars(bins.edges[:-1], bins.edges[1:], bins.count, "muted")
    return picture(label, above, below)


def risk_coverage(found: RiskCoverage, label: str, abstention: Abstention | None = None) -> Markup:
    """The risk-coverage curve: error rate against the share of images answered, with the chosen threshold."""
    high = min(1.0, 1.15 * float(found.risk.max()) or 0.05)
    plot = Plot(shares("share answered"), shares("wrong among them", high=high), height=290)
    plot.line(found.coverage, found.risk)
    if abstention is not None and abstention.coverage.value is not None:
        plot.upright(abstention.coverage.value, f"threshold {abstention.threshold:.2f}", "second")
        precision = abstention.precision.value
        if precision is not None:
            plot.points([abstention.coverage.value], [1 - precision], "second", radius=4.5)
    return picture(label, plot)


def roc(found: Sequence[ClassCurves], label: str) -> Markup:
    """True against false positive rate of each class against the rest; the worst classes last, on top."""
    plot = Plot(shares("false positive rate"), shares("true positive rate"), height=330)
    plot.line((0, 1), (0, 1), "muted dashed")
    _classes(plot, [one.roc for one in found])
    return picture(label, plot)


def precision_recall(found: Sequence[ClassCurves], label: str) -> Markup:
    """Precision against recall of each class against the rest."""
    plot = Plot(shares("recall"), shares("precision"), height=330)
    _classes(plot, [one.precision_recall for one in found])
    return picture(label, plot)


def _classes(plot: Plot, lines: list[Curve]) -> None:
    """The first `LINES` in their own colour and dashes, drawn last; the rest thin."""
    for i, line in reversed(list(enumerate(lines))):
        plot.line(line.x, line.y, f"class-{i + 1}" if i < LINES else "muted thin")
