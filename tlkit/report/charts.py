"""The charts of the report. They contain no class or file names: names are in the page beside them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from tlkit.evaluation.portrait import ClassPortrait
from tlkit.evaluation.results import Abstention, ClassCurves, Curve, Reliability, RiskCoverage
from tlkit.report.page import EpochRow

# -- Small plots as SVG text: axes, lines, bars, points. The style sheet of the page sets colours and fonts ---
#
# Nothing here names a colour: marks carry the classes `first`, `second`, `muted`, which page.css colours
# for light, dark and print. Text stays text, and every label is escaped.

WIDTH = 400  # units of the view box; a plot is shown at 340 to 460 pixels, so a unit is about a pixel
LETTER, CHARACTER = 12.0, 7.7  # height of a letter and the width to reserve for it, in units
TOP, RIGHT, GAP = 26.0, 20.0, 8.0


@dataclass(frozen=True)
class ChartAxis:
    """One side of a plot.

    Args:
        low, high: the values at its ends, low < high.
        ticks: the values at which grid lines and numbers are drawn.
        label: what is measured, "" for none.
        written: formats the number of a tick.
    """

    low: float
    high: float
    ticks: Sequence[float]
    label: str = ""
    written: Callable[[float], str] = "{:g}".format


def percent(share: float) -> str:
    """0.25 as 25 %."""
    return f"{100 * share:.4g} %"


def shares(label: str, *, high: float = 1.0) -> ChartAxis:
    """An axis from 0 to `high` (0..1] of shares, written as percentages."""
    return ChartAxis(0.0, high, steps(0.0, high, 5), label, percent)


def steps(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Round numbers between low and high, about `count` of them; whole ones where `whole`."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    exponent = math.floor(math.log10(rough))
    power = 10.0**exponent
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    step = max(1.0, float(round(step))) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, max(12, 3 - exponent)) for i in range(first, last + 1)]


@dataclass
class Plot:
    """A plot under construction: marks are drawn in the order they are added, over the grid.

    Args:
        x, y: its axes.
        height: of the whole plot, in units.
        top: its upper edge, in units; several plots may share one picture.
        margin: room for the numbers of the vertical axis, in units; by default as much as they need.
    """

    x: ChartAxis
    y: ChartAxis
    height: float = 250.0
    top: float = 0.0
    margin: float = 0.0
    marks: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Room for the numbers of the vertical axis."""
        widest = max((len(self.y.written(tick)) for tick in self.y.ticks), default=0)
        return self.margin or max(28.0, widest * CHARACTER + GAP)

    @property
    def bottom(self) -> float:
        """The lower end of the vertical axis."""
        return self.top + self.height - (LETTER + GAP + (LETTER + 6 if self.x.label else 0)) * bool(self.x.ticks)

    def across(self, value: float) -> float:
        """Horizontal position of a value of x, in units."""
        return self.left + (WIDTH - RIGHT - self.left) * (value - self.x.low) / (self.x.high - self.x.low)

    def up(self, value: float) -> float:
        """Vertical position of a value of y, in units."""
        return self.bottom - (self.bottom - self.top - TOP) * (value - self.y.low) / (self.y.high - self.y.low)

    def line(self, x: Iterable[float], y: Iterable[float], kind: str = "first") -> None:
        """A line, broken where a value is not finite."""
        text, pen = "", "M"
        for a, b in zip(x, y, strict=True):
            known = math.isfinite(a) and math.isfinite(b)
            text += f"{pen}{self.across(a):.1f} {self.up(b):.1f}" if known else ""
            pen = "L" if known else "M"
        self.marks.append(f'<path class="line {kind}" d="{text}"/>')

    def points(self, x: Iterable[float], y: Iterable[float], kind: str = "first", radius: float = 2.6) -> None:
        """A dot at each finite value."""
        self.marks += [
            f'<circle class="dot {kind}" cx="{self.across(a):.1f}" cy="{self.up(b):.1f}" r="{radius}"/>'
            for a, b in zip(x, y, strict=True)
            if math.isfinite(a) and math.isfinite(b)
        ]

    def bars(self, left: np.ndarray, right: np.ndarray, height: np.ndarray, kind: str = "first") -> None:
        """Vertical bars from 0."""
        for a, b, c in zip(left, right, height, strict=True):
            if c > 0:
                x, y = self.across(a) + 1, self.up(c)
                size = f'width="{self.across(b) - 1 - x:.1f}" height="{self.bottom - y:.1f}"'
                self.marks.append(f'<rect class="block {kind}" x="{x:.1f}" y="{y:.1f}" {size}/>')

    def upright(self, x: float, text: str = "", kind: str = "muted") -> None:
        """A thin vertical line with a word beside its upper end, on the side that has room."""
        at = self.across(x)
        self.marks.append(f'<path class="line thin {kind}" d="M{at:.1f} {self.top + TOP - 10}V{self.bottom:.1f}"/>')
        room = at + 4 + len(text) * CHARACTER < WIDTH
        self.words(at + 4 if room else at - 4, self.top + TOP - 12, text, "start" if room else "end")

    def uprights(self, places: Sequence[float], texts: Sequence[str]) -> None:
        """Several such lines; a word that would overlap the one before is placed a line lower."""
        end, row = -1.0, 0
        for x, text in zip(places, texts, strict=True):
            at = self.across(x)
            row = row + 1 if at < end else 0
            end = at + 8 + len(text) * CHARACTER
            self.marks.append(f'<path class="line thin muted" d="M{at:.1f} {self.top + TOP - 10}V{self.bottom:.1f}"/>')
            self.words(at + 4, self.top + TOP - 12 + row * (LETTER + 3), text, "start")

    def words(self, x: float, y: float, text: str, anchor: str) -> None:
        """Text at a position in units."""
        if text:
            self.marks.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def drawn(self) -> str:
        """Grid, numbers and marks as SVG elements."""
        marks, self.marks = self.marks, []
        for tick in self.y.ticks:
            at = self.up(tick)
            self.marks.append(f'<path class="grid" d="M{self.left:.1f} {at:.1f}H{WIDTH - RIGHT}"/>')
            self.words(self.left - GAP, at + 4, self.y.written(tick), "end")
        for tick in self.x.ticks:
            self.words(self.across(tick), self.bottom + LETTER + 5, self.x.written(tick), "middle")
        middle = (self.left + WIDTH - RIGHT) / 2
        if self.x.ticks:
            self.words(middle, self.bottom + 2 * LETTER + GAP + 3, self.x.label, "middle")
        self.words(0, self.top + 9, self.y.label, "start")
        return "".join(self.marks + marks)


def picture(label: str, *plots: Plot) -> Markup:
    """Plots, one below the other, as one `<svg>` with `label` as its text alternative."""
    height = max(plot.top + plot.height for plot in plots)
    drawn = Markup("").join(Markup(plot.drawn()) for plot in plots)
    return Markup('<svg class="plot" role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>').format(
        label, WIDTH, f"{height:g}", drawn
    )


LINES = 5  # classes with a colour of their own in one chart; the others are thin and grey
MANY_EPOCHS = 40  # beyond that, dots run into each other


def curves(history: Sequence[EpochRow], what: str, label: str) -> Markup | None:
    """`what` (loss or accuracy) on training and validation images over the epochs, a line for each stage.

    A stage that was solved has one row and no curve, and is left out. The axis starts with training, at 0 where the network
    was measured before its first epoch. None where no stage has two values.
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
    """An axis that spans the values with a small margin; shares stay within 0 and 1."""
    low, high = float(values.min()), float(values.max())
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - air, high + air
    if what == "accuracy":
        low, high = max(0.0, low) if values.min() >= 0 else low, min(1.0, high)
        return ChartAxis(low, high, steps(low, high, 4), written=percent)
    return ChartAxis(low, high, steps(low, high, 4))


def scatter(truth: np.ndarray, said: np.ndarray, margin: float | None, label: str) -> Markup:
    """Predicted against true numbers, with the diagonal and, on both sides of it, the ends of the intervals.

    Args:
        truth: float (n,).
        said: float (n,), predicted.
        margin: half the width of an interval, None where there is none.
        label: text alternative.
    """
    ends = np.concatenate([truth, said])
    low, high = float(ends.min()), float(ends.max())
    air = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - air, high + air
    ticks = steps(low, high, 5)
    plot = Plot(ChartAxis(low, high, ticks, "true"), ChartAxis(low, high, ticks, "predicted"), height=330)
    plot.points(truth, said)
    plot.line((low, high), (low, high), "muted dashed")
    if margin is not None and 2 * margin < high - low:
        plot.line((low, high - margin), (low + margin, high), "muted thin")
        plot.line((low + margin, high), (low, high - margin), "muted thin")
    return picture(label, plot)


def portrait(one: ClassPortrait, others: Sequence[Sequence[float]], label: str) -> Markup:
    """Drawn features of a class among real ones, on the first two principal components, over images of all classes.

    Args:
        one: the class.
        others: points (n, 2) of images of all classes.
        label: text alternative.
    """
    layers = (("muted", 1.6, others), ("hollow", 2.6, one.of_drawn), ("first", 2.6, one.of_real))
    every = np.array([point for _, _, points in layers for point in points])
    low, high = every.min(axis=0), every.max(axis=0)
    air = 0.04 * np.maximum(high - low, 1e-6)
    x, y = (
        ChartAxis(float(a), float(b), steps(float(a), float(b), 4), f"component {number}")
        for number, (a, b) in enumerate(zip(low - air, high + air, strict=True), start=1)
    )
    plot = Plot(x, y, height=330)
    for kind, radius, points in layers:
        plot.points([point[0] for point in points], [point[1] for point in points], kind, radius)
    return picture(label, plot)


def residuals(errors: np.ndarray, label: str) -> Markup:
    """A histogram of predicted minus true, float (n,), with bins of a round width."""
    reach = float(np.abs(errors).max()) or 1.0
    step = np.diff(steps(-reach, reach, 16)[:2])[0]
    half = math.ceil(reach / step)
    edges = step * np.arange(-half, half + 1)
    count, _ = np.histogram(errors, edges)
    most = int(count.max())
    x = ChartAxis(
        float(edges[0]), float(edges[-1]), steps(float(edges[0]), float(edges[-1]), 4), "predicted minus true"
    )
    plot = Plot(x, ChartAxis(0, most, steps(0, most, 4, whole=True), "images"), height=330)
    plot.bars(edges[:-1], edges[1:], count)
    plot.upright(0.0)
    return picture(label, plot)


def reliability_diagram(bins: Reliability, label: str, before: Reliability | None = None) -> Markup:
    """Accuracy in each bin of confidence against the diagonal, and below it how many images each bin holds.

    `before`: the same before temperature scaling, as hollow dots.
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
    plot = Plot(shares("coverage"), shares("error rate", high=high), height=290)
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
