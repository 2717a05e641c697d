"""The figures of a paper: drawn by matplotlib from evaluation.json, predictions.csv and history.csv, each with its caption.

Widths are those of one and two columns of a journal. Letters are embedded, no colour alone tells two things apart, and the
colours are those of Okabe and Ito (2008) and a sequential map, which readers who see fewer colours tell apart too.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tlkit.base.errors import TlkitError, UnreadableImage, unknown_name
from tlkit.base.files import read_json, replacing
from tlkit.classifier.answers import Predictions
from tlkit.data.decode import thumbnail
from tlkit.evaluation.results import ClassCurves, Curve, Metric, SplitResult
from tlkit.evaluation.stored import read_evaluation
from tlkit.report.headline import WHERE, main_split
from tlkit.runs.history import read_history

WIDTHS = {1: 89.0, 2: 183.0}  # mm
MM = 1 / 25.4
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#999999"
LINES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."))  # of the classes that are named
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "pdf.fonttype": 42,  # TrueType, embedded: text stays text
    "svg.fonttype": "path",  # shapes of letters: the same in every program
    "svg.hashsalt": "tlkit",
    "savefig.dpi": 300,
}
NUMBERED, NAMED = 20, 30  # classes up to which cells have numbers, and every row its name
ACROSS = 36  # letters that stand side by side below a matrix
BARS = 30  # classes of lowest recall that are shown
ERRORS = 12


class JournalFigure(Figure):
    """A figure that is saved as it was drawn, and shows itself in a notebook."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As `Figure.savefig`, with letters embedded."""
        with matplotlib.rc_context(STYLE):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        from io import BytesIO

        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()


@dataclass(frozen=True)
class Subject:
    """What is drawn.

    Args:
        folder: of the run or evaluation.
        result: of its main split.
        columns: of the page.
    """

    folder: Path
    result: SplitResult
    columns: int

    @property
    def where(self) -> str:
        """`648 test images`."""
        return f"{self.result.n} {WHERE.get(self.result.split, f'images of {self.result.split}')}"

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Rows of epochs; none where nothing was trained here."""
        return read_history(self.folder / "history.csv")

    @cached_property
    def errors(self) -> list[tuple[Path, str, str, float]]:
        """File, truth, prediction and confidence of wrong answers, the surest first; files that are gone are left out."""
        root, file = self._root(), self.folder / "predictions.csv"
        if root is None or not file.is_file() or self.result.confusion.ndim != 2:
            return []
        found = Predictions.read_csv(file)
        if any(found.splits >= 0):
            found = found.of_split(self.result.split.partition("_")[0])
        wrong = np.flatnonzero(found.labelled & ~found.correct)
        surest = wrong[np.argsort(-found.confidence[wrong], kind="stable")]
        rows = [(root / found.paths[i], found.label_name(i), found.predicted_name(i), i) for i in surest.tolist()]
        return [(path, *names, float(found.confidence[i])) for path, *names, i in rows if path.is_file()]

    def _root(self) -> Path | None:
        record = self.folder / "run.json"
        return Path(read_json(record)["root"]) if record.is_file() else None

    def figure(self, height: float, columns: int | None = None) -> JournalFigure:
        """An empty figure, `height` mm high."""
        return JournalFigure(figsize=(WIDTHS[columns or self.columns] * MM, height * MM), layout="constrained")


@dataclass(frozen=True)
class Plate:
    """A figure with its name and its caption."""

    name: str
    figure: Figure
    caption: str

    def write(self, folder: Path, formats: Sequence[str]) -> list[Path]:
        """NAME.pdf, .svg, .png as asked, and NAME.txt with the caption; each whole or not at all."""
        written = []
        for suffix in formats:
            path = folder / f"{self.name}.{suffix}"
            undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)
            with replacing(path) as temporary:
                self.figure.savefig(temporary, format=suffix, metadata=undated)
            written.append(path)
        path = folder / f"{self.name}.txt"
        with replacing(path) as temporary:
            temporary.write_text(textwrap.fill(self.caption, 100) + "\n", encoding="utf-8", errors="replace")
        return [*written, path]


class Drawn(NamedTuple):
    """Figures, and why others are lacking."""

    plates: list[Plate]
    left_out: dict[str, str]


def draw(folder: Path, names: Sequence[str] = (), *, columns: int = 1) -> Drawn:
    """Draw the figures of a run or evaluation; arguments and errors as of `tlkit.report.figures`."""
    if columns not in WIDTHS:
        raise TlkitError(f"columns is {columns!r}, expected 1 (89 mm) or 2 (183 mm).", "choose one of the two.")
    for name in names:
        if name not in FIGURES:
            raise unknown_name("a figure", name, FIGURES)
    result = main_split(read_evaluation(folder / "evaluation.json"))
    if result is None:
        raise TlkitError(f"{str(folder)!r} holds no measured images.", "evaluate on labelled images first.")
    subject, plates, left_out = Subject(folder, result, columns), [], {}
    for name in names or FIGURES:
        row = FIGURES[name]
        if reason := row.lacks(subject):
            left_out[name] = reason
            continue
        with matplotlib.rc_context(STYLE):
            plates.append(Plate(name, row.draw(subject), row.caption(subject)))
    if names and left_out:
        name, reason = next(iter(left_out.items()))
        raise TlkitError(f"{name} cannot be drawn of {str(folder)!r}: {reason}.", "leave it out.")
    return Drawn(plates, left_out)


# -- The figures -----------------------------------------------------------------------------------


def _confusion(subject: Subject, share: bool = False) -> Figure:
    counts = subject.result.confusion
    values = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if share else counts
    width = min(WIDTHS[subject.columns], 130.0) if subject.columns == 2 else WIDTHS[1]
    figure = subject.figure(width * 0.86)
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1 if share else max(1, counts.max()))
    classes = [row.name for row in subject.result.classes]
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
    bar = figure.colorbar(image, ax=axes, shrink=0.85, label="Share of the true class" if share else "Images")
    bar.outline.set_visible(False)
    if not share:
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _normalised(subject: Subject) -> Figure:
    return _confusion(subject, share=True)


def _learning_curves(subject: Subject) -> Figure:
    wide = subject.columns == 2
    figure = subject.figure(60 if wide else 95)
    panels = figure.subplots(*((1, 2) if wide else (2, 1)), sharex=True)
    rows = subject.history
    steps = np.arange(len(rows))
    for axes, measure, label in zip(panels, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        for key, name, colour, line, marker in (
            (measure, "training", BLUE, "-", "o"),
            (f"val_{measure}", "validation", VERMILION, "--", "s"),
        ):
            values = np.array([np.nan if row[key] is None else row[key] for row in rows], float)
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
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 12)).round().astype(int))
    axes.set_xticks(places, [str(rows[i]["epoch"]) for i in places])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [i for i, row in enumerate(rows) if row["stage"] == stage]
        if own[0]:
            axes.axvline(own[0] - 0.5, color=GREY, linewidth=0.6, linestyle=":")
        axes.annotate(
            stage, ((own[0] + own[-1]) / 2, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", size=6
        )


def _reliability(subject: Subject) -> Figure:
    figure = subject.figure(96 if subject.columns == 1 else 100)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), color=GREY, linewidth=0.8, linestyle=":", label="perfect calibration")
    for found, name, colour, marker, line in (
        (subject.result.uncalibrated, "before temperature scaling", ORANGE, "s", "--"),
        (subject.result.reliability, "as shipped", BLUE, "o", "-"),
    ):
        if found is not None:
            filled = found.count > 0
            x, y, n = found.confidence[filled], found.accuracy[filled], found.count[filled]
            above.plot(x, y, line, marker=marker, color=colour, label=name)
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
    above.legend(loc="upper left")
    reliability = subject.result.reliability
    edges, count = reliability.edges, reliability.count  # type: ignore[union-attr]
    below.bar(edges[:-1], count, np.diff(edges), align="edge", color=BLUE, edgecolor="w", linewidth=0.4)
    below.set(xlabel="Confidence of the predicted class", ylabel="Images")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def _roc(subject: Subject) -> Figure:
    return _curves(subject, "roc", "False positive rate", "True positive rate", "AUC")


def _precision_recall(subject: Subject) -> Figure:
    return _curves(subject, "precision_recall", "Recall", "Precision", "AP")


def _curves(subject: Subject, kind: str, x: str, y: str, area: str) -> Figure:
    """Every class in grey, the worst of them by colour and line, with their areas."""
    figure = subject.figure(92 if subject.columns == 1 else 110)
    axes = figure.add_subplot()
    worst = _worst(subject, kind)
    rest = [row for row in subject.result.curves if row not in worst]
    for number, row in enumerate(rest):
        label = f"{len(rest)} other {'class' if len(rest) == 1 else 'classes'}" if not number else None
        axes.plot(*_xy(row, kind), color=GREY, linewidth=0.6, alpha=0.7, label=label)
    for row, (colour, line) in reversed(list(zip(worst, LINES, strict=False))):
        axes.plot(
            *_xy(row, kind), line, color=colour, label=f"{printed(row.name)}, {area} {_area(row, kind).value:.3f}"
        )
    if kind == "roc":
        axes.plot((0, 1), (0, 1), color="k", linewidth=0.5, linestyle=":", label="chance")
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(0, 1.02), aspect="equal")
    handles, labels = axes.get_legend_handles_labels()
    beside = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)} if subject.columns == 2 else {}
    axes.legend(handles[::-1], labels[::-1], **{"loc": "lower right" if kind == "roc" else "lower left"} | beside)
    return figure


def _worst(subject: Subject, kind: str) -> list[ClassCurves]:
    defined = [row for row in subject.result.curves if _area(row, kind).value is not None]
    return sorted(defined, key=lambda row: _area(row, kind).value or 0.0)[: len(LINES)]


def _area(row: ClassCurves, kind: str) -> Metric:
    return row.roc_auc if kind == "roc" else row.average_precision


def _xy(row: ClassCurves, kind: str) -> tuple[np.ndarray, np.ndarray]:
    curve: Curve = getattr(row, kind)
    return curve.x, curve.y


def _risk_coverage(subject: Subject) -> Figure:
    figure, found = subject.figure(62 if subject.columns == 1 else 75), subject.result.risk_coverage
    axes = figure.add_subplot()
    axes.plot(found.coverage, found.risk, color=BLUE, drawstyle="steps-post", label="by confidence")  # type: ignore[union-attr]
    overall = found.risk[-1]  # type: ignore[union-attr]
    axes.axhline(overall, color=GREY, linewidth=0.8, linestyle=":", label="answering at random")
    axes.set(xlabel="Coverage (share of images answered)", ylabel="Risk (share of wrong answers)", xlim=(0, 1.01))
    axes.set_ylim(bottom=0)
    if subject.result.abstention:
        held = subject.result.abstention
        axes.plot(
            held.coverage.value or 0, 1 - (held.precision.value or 1), "D", color=VERMILION, label="the threshold"
        )
    axes.legend(loc="best")
    return figure


def _per_class(subject: Subject) -> Figure:
    rows = _lowest(subject)
    figure = subject.figure(22 + 6.5 * len(rows))
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    for offset, measure, colour, hatch in ((-0.2, "recall", BLUE, ""), (0.2, "precision", ORANGE, "////")):
        values = np.array([getattr(row, measure) or 0.0 for row in rows])
        ends = [getattr(row, f"{measure}_interval") or (value, value) for row, value in zip(rows, values, strict=True)]
        spans = np.abs(np.array(ends, float).reshape(-1, 2).T - values)
        axes.barh(places + offset, values, 0.38, color=colour, hatch=hatch, edgecolor="w", linewidth=0, label=measure)
        axes.errorbar(values, places + offset, xerr=spans, fmt="none", ecolor="k", elinewidth=0.6, capsize=1.5)
    axes.set_yticks(places, [f"{printed(row.name)} ({row.support})" for row in rows])
    axes.set(xlabel="Recall and precision, 95 % interval", ylabel="Class (images)", xlim=(0, 1.02))
    axes.invert_yaxis()
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def _lowest(subject: Subject) -> list[Any]:
    known = [row for row in subject.result.classes if row.support]
    return sorted(known, key=lambda row: row.recall or 0.0)[:BARS]


def _errors(subject: Subject) -> Figure:
    across = 4 if subject.columns == 1 else 6
    shown = subject.errors[:ERRORS]
    down = -(-len(shown) // across)
    side = WIDTHS[subject.columns] / across
    figure = subject.figure(down * (side + 9) + 2)
    panels = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axes in panels:
        axes.set_axis_off()
        axes.set_anchor("N")
    limit = 14 if subject.columns == 1 else 20
    for axes, (path, truth, predicted, confidence) in zip(panels, shown, strict=False):
        try:
            axes.imshow(thumbnail(path, 320), aspect="equal")
        except UnreadableImage:
            axes.text(0.5, 0.5, "cannot be read", ha="center", va="center", size=5)
        said = f"{printed(truth, limit)}\n→ {printed(predicted, limit)} {confidence:.2f}"
        axes.set_title(said, size=5.5, loc="left", pad=2)
    return figure


def printed(name: str, most: int = 22) -> str:
    """A name as matplotlib prints it: no mathematics, nothing invisible, and not too long."""
    safe = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return (safe if len(safe) <= most else safe[: most - 1] + "…").replace("$", r"\$")


# -- What stands below them ------------------------------------------------------------------------


def _interval(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "not defined"
    ends = "" if metric.low is None else f" (95 % interval {metric.low:.3f} to {metric.high:.3f})"
    return f"{metric.value:.3f}{ends}"


def _of_confusion(subject: Subject) -> str:
    every = -(-len(subject.result.classes) // NAMED)
    named = "" if every == 1 else f" Every {every}th class is named."
    return (
        f"Confusion matrix of {subject.where}: rows are true classes, columns predicted ones. Accuracy "
        f"{_interval(subject.result.metrics.get('accuracy'))}.{named}"
    )


def _of_normalised(subject: Subject) -> str:
    return _of_confusion(subject) + " Each row is divided by its sum, so that the diagonal shows recall."


def _of_learning(subject: Subject) -> str:
    stages = ", then ".join(dict.fromkeys(row["stage"] for row in subject.history))
    return (
        f"Loss and accuracy on training images (solid, circles) and validation images (dashed, squares) in the stages {stages}, "
        "whose names stand above. Epoch 0 is the start of a stage; a head that is solved exactly has one point."
    )


def _of_reliability(subject: Subject) -> str:
    error = subject.result.reliability.expected_calibration_error  # type: ignore[union-attr]
    return (
        f"Reliability diagram of {subject.where}: accuracy against mean confidence in bins of equal width; below, the images of "
        f"each bin. The grey band holds 95 % of the points of a perfectly calibrated classifier. Expected calibration error {error:.3f}."
    )


def _of_curves(subject: Subject, kind: str, name: str, area: str) -> str:
    worst = ", ".join(f"{row.name} {_interval(_area(row, kind))}" for row in _worst(subject, kind))
    return (
        f"{name} of each class against the rest on {subject.where}, by its probability; {len(subject.result.curves)} of "
        f"{len(subject.result.classes)} classes are drawn, those of the lowest average precision. {area} of the lowest: {worst}."
    )


def _of_roc(subject: Subject) -> str:
    return _of_curves(subject, "roc", "Receiver operating characteristic", "Area under the curve")


def _of_precision_recall(subject: Subject) -> str:
    return _of_curves(subject, "precision_recall", "Precision-recall curves", "Average precision")


def _of_risk(subject: Subject) -> str:
    area = subject.result.risk_coverage.area  # type: ignore[union-attr]
    return (
        f"Risk-coverage curve of {subject.where}: share of wrong answers where only the images of highest confidence are "
        f"answered. Area under the curve {_interval(area)}; 0 is perfect."
    )


def _of_per_class(subject: Subject) -> str:
    shown, known = len(_lowest(subject)), sum(row.support > 0 for row in subject.result.classes)
    which = "all classes" if shown == known else f"the {shown} of {known} classes of lowest recall"
    return f"Recall and precision of {which} on {subject.where}, lowest recall first; whiskers are 95 % intervals."


def _of_errors(subject: Subject) -> str:
    shown = min(ERRORS, len(subject.errors))
    return (
        f"The {shown} of {len(subject.errors)} wrong answers of highest confidence among {subject.where}: true class, "
        "predicted class, probability of the latter."
    )


# -- The table -------------------------------------------------------------------------------------


class FigureRow(NamedTuple):
    """A kind of figure: why it cannot be drawn ("" where it can), how, and what stands below."""

    lacks: Callable[[Subject], str]
    draw: Callable[[Subject], Figure]
    caption: Callable[[Subject], str]


def _no_matrix(subject: Subject) -> str:
    return "" if subject.result.confusion.ndim == 2 else "images have several labels, which no one matrix shows"


def _lacking(attribute: str, reason: str) -> Callable[[Subject], str]:
    return lambda subject: "" if getattr(subject.result, attribute) else reason


FIGURES = {
    "confusion": FigureRow(_no_matrix, _confusion, _of_confusion),
    "confusion-normalised": FigureRow(_no_matrix, _normalised, _of_normalised),
    "learning-curves": FigureRow(
        lambda subject: "" if subject.history else "there is no history.csv", _learning_curves, _of_learning
    ),
    "reliability": FigureRow(_lacking("reliability", "it was not measured"), _reliability, _of_reliability),
    "roc": FigureRow(_lacking("curves", "no class has images of it and of others"), _roc, _of_roc),
    "precision-recall": FigureRow(
        _lacking("curves", "no class has images of it and of others"), _precision_recall, _of_precision_recall
    ),
    "risk-coverage": FigureRow(_lacking("risk_coverage", "it was not measured"), _risk_coverage, _of_risk),
    "per-class": FigureRow(_lacking("classes", "there are no classes"), _per_class, _of_per_class),
    "errors": FigureRow(
        lambda subject: "" if subject.errors else "there are no wrong answers whose images are at hand",
        _errors,
        _of_errors,
    ),
}
