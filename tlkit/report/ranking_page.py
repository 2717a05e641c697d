"""A ranking as one HTML file: which backbone suits these images, and what more images would bring."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from tlkit.base.files import CellWriter, write_text
from tlkit.evaluation.results import Metric
from tlkit.ranking.predicted import FITTED
from tlkit.ranking.ranking import LearningCurve, RankedBackbone, Ranking, Skipped
from tlkit.report.build import OPTIONS, render_page
from tlkit.report.charts import ChartAxis, Plot, percent, picture, steps
from tlkit.report.page import Provenance


@dataclass(frozen=True, kw_only=True)
class RankingPage(Provenance):
    """What the page shows.

    Args:
        ranking: what was found.
    """

    ranking: Ranking


def write_ranking_page(path: Path, page: RankingPage) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render_ranking(page))


def render_ranking(page: RankingPage) -> str:
    """The page as HTML; the same page gives the same text."""
    ranking = page.ranking
    return render_page(
        "ranking.html",
        page=page,
        ranking=ranking,
        best=ranking.candidates[0],
        chosen=next(one for one in ranking.candidates if one.name == ranking.recommended),
        frontier=frontier(ranking.candidates, ranking.measure),
        fit=FITTED,
        curve=ranking.curve and learning_curve(ranking.curve, ranking.measure),
        limits={"options": OPTIONS},
    )


def frontier(candidates: Sequence[RankedBackbone], measure: str) -> Markup:
    """The measure against milliseconds on a logarithmic axis; candidates by their numbers, the frontier as a line."""
    times = np.log10([max(one.milliseconds, 1e-4) for one in candidates])
    low, high = float(times.min()) - 0.15, float(times.max()) + 0.15
    tens = range(math.floor(low), math.ceil(high) + 1)
    ticks = [at for power in tens for at in (power, power + math.log10(2), power + math.log10(5)) if low <= at <= high]
    ends = [_ends(one.accuracy) for one in candidates]
    plot = Plot(ChartAxis(low, high, ticks, "milliseconds per image, here", _power), _shares(ends, measure), height=330)
    for at, (least, most) in zip(times, ends, strict=True):
        plot.line((at, at), (least, most), "muted")
    best = sorted((at, one.accuracy.value or 0.0) for at, one in zip(times, candidates, strict=True) if one.frontier)
    plot.line([at for at, _ in best], [value for _, value in best], "first")
    for number, (at, one) in enumerate(zip(times, candidates, strict=True), start=1):
        value = one.accuracy.value or 0.0
        plot.points([at], [value], "first" if one.frontier else "second hollow", radius=4.5)
        plot.words(plot.across(at) + 7, plot.up(value) - 6, str(number), "start")
    return picture(f"{measure.capitalize()} of each candidate against its time per image, with intervals", plot)


def learning_curve(found: LearningCurve, measure: str) -> Markup:
    """The measure against the number of training images, with intervals, and its extrapolation."""
    measured = [(images, one) for images, one in found.points]
    expected = [(one.images, one.accuracy) for one in found.forecasts]
    places = np.log10([max(images, 1) for images, _ in measured + expected])
    low, high = float(places.min()) - 0.08, float(places.max()) + 0.08
    ends = [_ends(one) for _, one in measured + expected]
    ticks = sorted({round(float(place), 6) for place in places})
    apart = [place for i, place in enumerate(ticks) if i == 0 or place - ticks[i - 1] > 0.12 * (high - low)]
    plot = Plot(ChartAxis(low, high, apart, "training images", _power), _shares(ends, measure), height=330)
    for at, (least, most) in zip(places, ends, strict=True):
        plot.line((at, at), (least, most), "muted")
    if found.rate is not None and found.reducible is not None and found.floor is not None:
        x = np.linspace(places.min(), places.max(), 60)
        error = found.floor + found.reducible * (10**x / found.points[-1][0]) ** -found.rate
        plot.line(x, np.clip(1 - error, plot.y.low, plot.y.high), "second dashed")
    for kind, points in (("first", measured), ("second hollow", expected)):
        at = [math.log10(max(images, 1)) for images, _ in points]
        plot.points(at, [one.value or 0.0 for _, one in points], kind, radius=4)
    return picture(f"{measure.capitalize()} against the number of training images, measured and expected", plot)


def _ends(metric: Metric) -> tuple[float, float]:
    """The ends of the interval; both are the value itself where there is none."""
    value = metric.value or 0.0
    return (value if metric.low is None else metric.low), (value if metric.high is None else metric.high)


def _shares(ends: Sequence[tuple[float, float]], measure: str) -> ChartAxis:
    """An axis of shares that spans all these intervals."""
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    air = max(0.02, 0.06 * (high - low))
    low, high = max(0.0, low - air), min(1.0, high + air)
    return ChartAxis(low, high, steps(low, high, 5), measure, percent)


def _power(exponent: float) -> str:
    """The label of a tick on a logarithmic axis."""
    return f"{10**exponent:,.0f}" if exponent >= 2 else f"{10**exponent:.2g}"


# -- A ranking in words for a terminal, and as a table -----------------------------------------


def ranking_text(ranking: Ranking, unopened: Sequence[Skipped] = ()) -> str:
    """The ranking as text for a terminal.

    Args:
        ranking: what was found.
        unopened: the skipped candidates that are on this machine but could not be opened.
    """
    width = max(len(name) for name in [one.name for one in ranking.candidates] + [one.name for one in unopened])
    measure = "accuracy" if ranking.measure == "accuracy" else "F1"
    lines = [
        f"{'':2}{'candidate':<{width}}  {measure:>8}  95 % interval    LogME  fine-tuned  ms/image   MB  on the frontier"
    ]
    for one in ranking.candidates:
        found = one.accuracy
        mark = "* " if one.name == ranking.recommended else "  "
        lines.append(
            f"{mark}{one.name:<{width}}  {found.value or 0:8.4f}  [{found.low or 0:.3f}, {found.high or 0:.3f}]  "
            f"{one.logme:7.4f}  {_tuned(one):>10}  {one.milliseconds:8.2f}  {one.megabytes:4.0f}  {'yes' if one.frontier else ''}"
        )
    lines += [f"  {one.name:<{width}}  skipped: {one.reason}" for one in unopened]
    lines += ["", f"recommended: {ranking.recommended}. {ranking.reason}", f"  $ {ranking.command}"]
    return "\n".join(lines + (["", *_curve_text(ranking.curve)] if ranking.curve else []))


def _tuned(one: RankedBackbone) -> str:
    return "" if one.predicted is None else f"{one.predicted.value or 0:.3f}"


def _curve_text(found: LearningCurve) -> list[str]:
    """The learning curve as lines of text."""
    measured = ", ".join(f"{images}: {metric.value or 0:.3f}" for images, metric in found.points)
    lines = [f"a linear head on {found.candidate}, by number of training images: {measured}"]
    if found.trouble:
        lines.append(f"no forecast: {found.trouble}")
    for one in found.forecasts:
        metric = one.accuracy
        lines.append(
            f"  {one.times:g} x the images ({one.images}): {metric.value or 0:.3f} expected "
            f"[{metric.low or 0:.3f}, {metric.high or 0:.3f}]"
        )
    return [*lines, found.advice]


def as_csv(ranking: Ranking) -> str:
    """A row for each candidate, the best first."""
    text = io.StringIO()
    writer = CellWriter(text, lineterminator="\n")
    measured = ("accuracy", "accuracy_low", "accuracy_high", "logme", "milliseconds")
    cost = ("parameters", "megabytes", "features")
    tuned = ("predicted", "predicted_low", "predicted_high")
    writer.writerow(
        ("candidate", "height", "width", *measured, *tuned, *cost, "within_noise", "frontier", "recommended")
    )
    for one in ranking.candidates:
        found, after = one.accuracy, one.predicted or Metric(None, one.accuracy.n)
        row = (one.name, *one.image_size, found.value, found.low, found.high, one.logme, one.milliseconds)
        flags = (int(one.within_noise), int(one.frontier), int(one.name == ranking.recommended))
        writer.writerow((*row, after.value, after.low, after.high, one.parameters, one.megabytes, one.features, *flags))
    return text.getvalue()
