"""The figures, drawn by matplotlib: each function takes the data and returns a figure as wide as its columns."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tlkit.base.errors import UnreadableImage
from tlkit.data.decode import thumbnail
from tlkit.evaluation.results import ClassCurves, Curve
from tlkit.report.plates.depicted import (
    ACROSS,
    BLUE,
    ERRORS,
    GREY,
    LINES,
    NAMED,
    NUMBERED,
    ORANGE,
    VERMILION,
    WIDTHS,
    Depicted,
    JournalFigure,
    area_of,
    lowest,
    printed,
    worst,
)


def draw_confusion(depicted: Depicted, share: bool = False) -> JournalFigure:
    """Images of each true and predicted class; with `share` divided by the sum of the row."""
    counts = depicted.result.confusion
    values = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if share else counts
    width = min(WIDTHS[depicted.columns], 130.0) if depicted.columns == 2 else WIDTHS[1]
    figure = depicted.figure(width * 0.86)
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1 if share else max(1, counts.max()))
    classes = [row.name for row in depicted.result.classes]
    step = -(-len(classes) // NAMED)
    ticks = range(0, len(classes), step)
    names = [printed(classes[i]) for i in ticks]
    if max(map(len, names)) * len(names) <= ACROSS:
        axes.set_xticks(ticks, names)
    else:
        axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(classes) <= NUMBERED:
        size = 6 if len(classes) <= 12 else 5
        dark = values > (values.max() or 1) / 2
        for (row, column), value in np.ndenumerate(values):
            if counts[row, column]:
                text = f"{value:.2f}".lstrip("0") if share and value < 1 else f"{value:g}"
                axes.text(
                    column, row, text, ha="center", va="center", size=size, color="w" if dark[row, column] else "k"
                )
    bar = figure.colorbar(
        image, ax=axes, shrink=0.85, label="Share of the true class" if share else depicted.said("Images")
    )
    bar.outline.set_visible(False)
    if not share:
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def draw_normalised(depicted: Depicted) -> JournalFigure:
    """The confusion matrix with rows divided by their sum."""
    return draw_confusion(depicted, share=True)


def draw_learning_curves(depicted: Depicted) -> JournalFigure:
    """Loss and accuracy of every epoch, stage after stage."""
    wide = depicted.columns == 2
    figure = depicted.figure(60 if wide else 95)
    panels = figure.subplots(*((1, 2) if wide else (2, 1)), sharex=True)
    rows = depicted.history
    steps = np.arange(len(rows))
    for axes, measure, label in zip(panels, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        for key, name, colour, line, marker in (
            (measure, "training", BLUE, "-", "o"),
            (f"val_{measure}", "validation", VERMILION, "--", "s"),
        ):
            values = np.array([np.nan if row[key] is None else row[key] for row in rows], float)
            name = "" if np.isnan(values).all() else name
            for stage in dict.fromkeys(row["stage"] for row in rows):
                own = np.array([row["stage"] == stage for row in rows]) & ~np.isnan(values)
                axes.plot(steps[own], values[own], line, color=colour, marker=marker, label=name)
        axes.set_ylabel(label)
        _mark_stages(axes, rows)
    (panels if wide else panels[1:])[-1].set_xlabel("Epoch of the stage")
    if wide:
        panels[0].set_xlabel("Epoch of the stage")
    handles, labels = panels[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside upper right", ncols=2)
    return figure


def _mark_stages(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Each stage with its name above and its own epochs below."""
    places = epoch_ticks([(row["stage"], row["epoch"]) for row in rows])
    axes.set_xticks(places, [str(rows[i]["epoch"]) for i in places])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [i for i, row in enumerate(rows) if row["stage"] == stage]
        if own[0]:
            axes.axvline(own[0] - 0.5, color=GREY, linewidth=0.6, linestyle=":")
        axes.annotate(
            stage, ((own[0] + own[-1]) / 2, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", size=6
        )


def epoch_ticks(epochs: list[tuple[str, int]], most: int = 12) -> list[int]:
    """The rows of a history of (stage, epoch) that get a tick label: every first, second, fifth, ... epoch of a stage.

    A stage with none of these gets one at its first.
    """
    step = next(
        step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power) if len(epochs) <= most * step
    )
    written = [i for i, (_, epoch) in enumerate(epochs) if epoch % step == 0]
    named = {epochs[i][0] for i in written}
    return sorted(
        {
            *written,
            *(i for i, (stage, _) in enumerate(epochs) if stage not in named and (not i or epochs[i - 1][0] != stage)),
        }
    )


def draw_reliability(depicted: Depicted) -> JournalFigure:
    """Accuracy against confidence, the range expected by chance, and the number of images in each bin."""
    figure = depicted.figure(96 if depicted.columns == 1 else 100)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), color=GREY, linewidth=0.8, linestyle=":", label="perfect calibration")
    for found, name, colour, marker, line in (
        (depicted.result.uncalibrated, "before temperature scaling", ORANGE, "s", "--"),
        (depicted.result.reliability, "as shipped", BLUE, "o", "-"),
    ):
        if found is not None:
            filled = found.count > 0
            x, y, n = found.confidence[filled], found.accuracy[filled], found.count[filled]
            above.plot(x, y, line, marker=marker, color=colour, label=name, clip_on=False)
    spread = 1.96 * np.sqrt(np.clip(x * (1 - x), 1e-9, None) / n)
    above.fill_between(
        x,
        np.clip(x - spread, 0, 1),
        np.clip(x + spread, 0, 1),
        color=GREY,
        alpha=0.25,
        linewidth=0,
        label="95 % by chance",
    )
    above.set(ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1.02))
    figure.legend(loc="outside upper right", ncols=2)
    reliability = depicted.result.reliability
    edges, count = reliability.edges, reliability.count  # type: ignore[union-attr]
    below.bar(edges[:-1], count, np.diff(edges), align="edge", color=BLUE, edgecolor="w", linewidth=0.4)
    below.set(xlabel="Confidence of the predicted class", ylabel="Images")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def draw_roc(depicted: Depicted) -> JournalFigure:
    """True against false positive rates, each class against the rest."""
    return _curves(depicted, "roc", "False positive rate", "True positive rate", "AUC")


def draw_precision_recall(depicted: Depicted) -> JournalFigure:
    """Precision against recall, each class against the rest."""
    return _curves(depicted, "precision_recall", "Recall", "Precision", "AP")


def _curves(depicted: Depicted, kind: str, x: str, y: str, area: str) -> JournalFigure:
    """Every class in grey, the worst of them by colour and line, with their areas."""
    figure = depicted.figure(92 if depicted.columns == 1 else 110)
    axes = figure.add_subplot()
    marked = worst(depicted, kind)
    rest = [row for row in depicted.result.curves if row not in marked]
    for number, row in enumerate(rest):
        label = f"{len(rest)} other {'class' if len(rest) == 1 else 'classes'}" if not number else None
        axes.plot(*_xy(row, kind), color=GREY, linewidth=0.6, alpha=0.7, label=label)
    for row, (colour, line) in reversed(list(zip(marked, LINES, strict=False))):
        axes.plot(
            *_xy(row, kind), line, color=colour, label=f"{printed(row.name)}, {area} {area_of(row, kind).value:.3f}"
        )
    if kind == "roc":
        axes.plot((0, 1), (0, 1), color="k", linewidth=0.5, linestyle=":", label="chance")
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(0, 1.02), aspect="equal")
    handles, labels = axes.get_legend_handles_labels()
    beside = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)} if depicted.columns == 2 else {}
    axes.legend(handles[::-1], labels[::-1], **{"loc": "lower right" if kind == "roc" else "lower left"} | beside)
    return figure


def _xy(row: ClassCurves, kind: str) -> tuple[np.ndarray, np.ndarray]:
    curve: Curve = getattr(row, kind)
    return curve.x, curve.y


def draw_risk_coverage(depicted: Depicted) -> JournalFigure:
    """Error rate among the images answered, against coverage."""
    figure, found = depicted.figure(62 if depicted.columns == 1 else 75), depicted.result.risk_coverage
    axes = figure.add_subplot()
    axes.plot(found.coverage, found.risk, color=BLUE, drawstyle="steps-post", label="by confidence")  # type: ignore[union-attr]
    overall = found.risk[-1]  # type: ignore[union-attr]
    axes.axhline(overall, color=GREY, linewidth=0.8, linestyle=":", label="answering at random")
    axes.set(
        xlabel=depicted.said("Coverage (share of images answered)"),
        ylabel="Risk (share of wrong answers)",
        xlim=(0, 1.01),
    )
    axes.set_ylim(bottom=0)
    if depicted.result.abstention:
        held = depicted.result.abstention
        axes.plot(
            held.coverage.value or 0, 1 - (held.precision.value or 1), "D", color=VERMILION, label="the threshold"
        )
    axes.legend(loc="best")
    return figure


def draw_per_class(depicted: Depicted) -> JournalFigure:
    """Recall and precision of each class with 95 % intervals."""
    rows = lowest(depicted)
    figure = depicted.figure(22 + 6.5 * len(rows))
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    for offset, measure, colour, hatch in ((-0.2, "recall", BLUE, ""), (0.2, "precision", ORANGE, "////")):
        values = np.array([getattr(row, measure) or 0.0 for row in rows])
        ends = [getattr(row, f"{measure}_interval") or (value, value) for row, value in zip(rows, values, strict=True)]
        spans = np.abs(np.array(ends, float).reshape(-1, 2).T - values)
        axes.barh(places + offset, values, 0.38, color=colour, hatch=hatch, edgecolor="w", linewidth=0, label=measure)
        axes.errorbar(values, places + offset, xerr=spans, fmt="none", ecolor="k", elinewidth=0.6, capsize=1.5)
    axes.set_yticks(places, [f"{printed(row.name)} ({row.support})" for row in rows])
    axes.set(xlabel="Recall and precision, 95 % interval", ylabel=depicted.said("Class (images)"), xlim=(0, 1.02))
    axes.invert_yaxis()
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def draw_errors(depicted: Depicted) -> JournalFigure:
    """The wrong answers of highest confidence."""
    across = 4 if depicted.columns == 1 else 6
    shown = depicted.errors[:ERRORS]
    down = -(-len(shown) // across)
    side = WIDTHS[depicted.columns] / across
    figure = depicted.figure(down * (side + 5) + 2)
    panels = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axes in panels:
        axes.set_axis_off()
        axes.set_anchor("N")
    limit = 14 if depicted.columns == 1 else 20
    for axes, (path, truth, predicted, confidence) in zip(panels, shown, strict=False):
        try:
            axes.imshow(thumbnail(path, 320), aspect="equal")
        except UnreadableImage:
            axes.text(0.5, 0.5, "cannot be read", ha="center", va="center", size=5)
        said = f"{printed(truth, limit)}\n→ {printed(predicted, limit)}, {confidence:.2f}"
        axes.set_title(said, size=5.5, loc="left", pad=2)
    return figure
