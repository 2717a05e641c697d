"""A ranking in words for a terminal, and as a table."""

import csv
import io

from tlkit.core.ranking import LearningCurve, Ranking


def told_ranking(ranking: Ranking) -> str:
    """The ranking for a reader of a terminal."""
    width = max(len(one.name) for one in ranking.candidates)
    measure = "accuracy" if ranking.measure == "accuracy" else "F1"
    lines = [f"{'':2}{'candidate':<{width}}  {measure:>8}  95 % interval    LogME  ms/image   MB  on the frontier"]
    for one in ranking.candidates:
        found = one.accuracy
        mark = "* " if one.name == ranking.recommended else "  "
        lines.append(
            f"{mark}{one.name:<{width}}  {found.value or 0:8.4f}  [{found.low or 0:.3f}, {found.high or 0:.3f}]  "
            f"{one.logme:7.4f}  {one.milliseconds:8.2f}  {one.megabytes:4.0f}  {'yes' if one.frontier else ''}"
        )
    lines += ["", f"recommended: {ranking.recommended}. {ranking.reason}", f"  $ {ranking.command}"]
    return "\n".join(lines + (["", *_told_curve(ranking.curve)] if ranking.curve else []))


def _told_curve(found: LearningCurve) -> list[str]:
    """The learning curve in lines."""
    measured = ", ".join(f"{images}: {metric.value or 0:.3f}" for images, metric in found.points)
    lines = [f"a linear head on {found.candidate}, by images learned from: {measured}"]
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
    writer = csv.writer(text, lineterminator="\n")
    measured = ("accuracy", "accuracy_low", "accuracy_high", "logme", "milliseconds")
    cost = ("parameters", "megabytes", "features")
    writer.writerow(("candidate", "height", "width", *measured, *cost, "within_noise", "frontier", "recommended"))
    for one in ranking.candidates:
        found = one.accuracy
        row = (one.name, *one.image_size, found.value, found.low, found.high, one.logme, one.milliseconds)
        flags = (int(one.within_noise), int(one.frontier), int(one.name == ranking.recommended))
        writer.writerow((*row, one.parameters, one.megabytes, one.features, *flags))
    return text.getvalue()
