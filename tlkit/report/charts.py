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
    """`what` (loss or accuracy) on training and validation images over the epochs, a line for each stage.

    A stage that was solved has one row and no curve, and so no place on the axis, which starts where training does: at 0
    where the beginning was measured. None where no stage has two numbers.
    """
    stages = _trained(history)
    if not stages:
        return None
    rows = [row for _, _, part in stages for row in part]
    values = np.array([[getattr(row, what), getattr(row, f"val_{what}")] for row in rows], dtype=float)
    if np.isfinite(values).any(axis=1).sum() < 2:
        return None
    first, last = stages[0][1] + stages[0][2][0].epoch, stages[-1][1] + stages[-1][2][-1].epoch
    x = ChartAxis(first, max(last, first + 1), steps(first, last, 8, whole=True), "epoch")
    plot = Plot(x, _around(values[np.isfinite(values)], what), height=260)
    if len(stages) > 1:
        plot.uprights([offset for _, offset, _ in stages], [name for name, _, _ in stages])
    for _, offset, part in stages:
        epochs = [offset + row.epoch for row in part]
        for name, kind in ((what, "second dashed"), (f"val_{what}", "first")):
            line = np.array([getattr(row, name) for row in part], dtype=float)
            plot.line(epochs, line, kind)
            if len(rows) <= MANY_EPOCHS:
                plot.points(epochs, line, kind)
    return picture(label, plot)


def _trained(history: Sequence[EpochRow]) -> list[tuple[str, int, list[EpochRow]]]:
    """The stages that have a curve: name, epochs before it, rows."""
    parts: dict[str, list[EpochRow]] = {}
    for row in history:
        parts.setdefault(row.stage, []).append(row)
    found, before = [], 0
    for name, part in parts.items():
        if len(part) > 1:
            found.append((name, before, part))
            before += part[-1].epoch
    return found


def _around(values: np.ndarray, what: str) -> ChartAxis:
    """An axis that holds the values with a little air; shares stay within 0 and 1."""
    low, high = float(values.min()), float(values.max())
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - air, high + air
    if what == "accuracy":
        low, high = max(0.0, low), min(1.0, high)
        return ChartAxis(low, high, steps(low, high, 4), written=percent)
    return ChartAxis(low, high, steps(low, high, 4))


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
        plot.line(line.x, line.y, f"curve-{i + 1} " + (f"class-{i + 1}" if i < LINES else "muted thin"))
