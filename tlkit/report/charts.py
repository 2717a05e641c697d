"""Charts as inline SVG: drawn by matplotlib, coloured and lettered by the page around them.

Lines and letters are drawn in placeholder colours that become CSS variables, so that one drawing serves
light and dark, and text stays text in the reader's own font. No class or file name enters a chart.
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tlkit.core.results import Reliability
from tlkit.report.page import EpochRow

INK, MUTED, RULE, FIRST, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", FIRST: "--first", SECOND: "--second"}
_STYLE = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 10.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def _style(label: str) -> AbstractContextManager[None]:
    """Our style for a while. The salt makes ids the same in every run, and different in every drawing."""
    return mpl.rc_context(_STYLE | {"svg.hashsalt": label})


def curves(history: Sequence[EpochRow], what: str, label: str) -> Markup | None:
    """`what` (loss or accuracy) on training and validation images over the epochs of all stages.

    None where no epoch has a number.
    """
    train = np.array([getattr(row, what) for row in history], dtype=float)
    val = np.array([getattr(row, f"val_{what}") for row in history], dtype=float)
    if not np.isfinite(np.concatenate([train, val])).any():
        return None
    with _style(label):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        epochs = np.arange(1, len(history) + 1)
        mark = "o" if len(history) <= 40 else ""  # a stage of one epoch is a point, not a line
        for values, colour, dashes in ((train, SECOND, (4, 2)), (val, FIRST, (None, None))):
            axes.plot(epochs, values, color=colour, dashes=dashes, marker=mark, markersize=3)
        _stages(axes, [row.stage for row in history])
        axes.grid(axis="x", visible=False)
        axes.set_xlim(0.5, len(history) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("epoch")
        if what == "accuracy":
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
        return _svg(figure, label)


def _stages(axes: Axes, stages: list[str]) -> None:
    """A line and a name where each stage starts; none for a single stage."""
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    for i in starts if len(starts) > 1 else ():
        if i:
            axes.axvline(i + 0.5, color=MUTED, linewidth=0.7, dashes=(1, 3))
        axes.annotate(
            stages[i],
            (i + 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, 3),
            textcoords="offset points",
            color=MUTED,
            fontsize=9.5,
            parse_math=False,
        )


def reliability_diagram(bins: Reliability, label: str) -> Markup:
    """Accuracy in each bin of confidence against the diagonal, and below it how many images each bin holds."""
    with _style(label):
        figure = Figure(figsize=(4.6, 4.3), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        left, width = bins.edges[:-1], np.diff(bins.edges)
        filled = bins.count > 0
        above.bar(left[filled], bins.accuracy[filled], width[filled] * 0.92, align="edge", color=FIRST, alpha=0.28)
        above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, dashes=(4, 3))
        above.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=FIRST, markersize=4.5)
        above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share correct")
        below.bar(left, bins.count, width * 0.92, align="edge", color=MUTED, alpha=0.45)
        below.set(xlabel="confidence", ylabel="images")
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        for axis in (above.yaxis, below.xaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        return _svg(figure, label)


def _svg(figure: Figure, label: str) -> Markup:
    """The drawing as an `<svg>` element that takes its colours and letters from the page."""
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', r'<svg role="img" viewBox="\1">', text, count=1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    # Ids that nothing refers to are the same in every drawing, and ids must be unique in a page.
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"\n\s*", "\n", text)
    return Markup(text.replace("<svg ", Markup('<svg aria-label="{}" ').format(label), 1))
