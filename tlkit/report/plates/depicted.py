"""The data of a figure, read from the folder of a run or an evaluation, and the style of all figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tlkit.base.files import read_json
from tlkit.classifier.answers import Predictions
from tlkit.evaluation.results import ClassCurves, ClassResult, Metric, SplitResult
from tlkit.report.headline import said_of, where_of
from tlkit.runs.history import read_history

WIDTHS = {1: 89.0, 2: 183.0}  # mm
MM = 1 / 25.4
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#999999"
LINES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."))  # of the classes that are named
DPI = 300.0
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
    "svg.fonttype": "path",  # letters as paths: the same in every program
    "svg.hashsalt": "tlkit",
    "savefig.dpi": DPI,
}
NUMBERED, NAMED = 20, 30  # classes up to which cells have numbers, and every row its name
ACROSS = 36  # letters that fit side by side below a matrix
BARS = 30  # classes of lowest recall that are shown
ERRORS = 12


class JournalFigure(Figure):
    """A figure that is saved as it was drawn, and displays itself in a notebook."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As `Figure.savefig`, with fonts embedded."""
        with matplotlib.rc_context(STYLE):
            super().savefig(fname, **options)

    @contextmanager
    def laid_out(self) -> Iterator[None]:
        """Freeze the layout within the context: computing it takes as long as drawing, and would be repeated for each format."""
        engine, dpi = self.get_layout_engine(), self.dpi
        with matplotlib.rc_context(STYLE):
            self.dpi = DPI  # text is measured at the resolution of the finest format
            self.draw_without_rendering()
        self.dpi = dpi
        self.set_layout_engine("none")
        try:
            yield
        finally:
            self.set_layout_engine(engine)

    def _repr_png_(self) -> bytes:
        from io import BytesIO

        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()


@dataclass(frozen=True)
class Depicted:
    """The data that figures are drawn from.

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
        return f"{self.result.n} {where_of(self.result)}"

    def said(self, text: str) -> str:
        """A sentence about images, reworded for the samples."""
        return said_of(self.result.sample, text, [row.name for row in self.result.classes])

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Rows of epochs; none where nothing was trained here."""
        return read_history(self.folder / "history.csv")

    @cached_property
    def errors(self) -> list[tuple[Path, str, str, float]]:
        """File, truth, prediction and confidence of wrong answers, highest confidence first; missing files are left out."""
        root, file = self._root(), self.folder / "predictions.csv"
        if root is None or not file.is_file() or self.result.confusion.ndim != 2:
            return []
        found = Predictions.read_csv(file)
        if any(found.splits >= 0):
            found = found.of_split(self.result.split.partition("_")[0])
        wrong = np.flatnonzero(found.labelled & ~found.correct)
        confidence = found.confidence
        surest = wrong[np.argsort(-confidence[wrong], kind="stable")]
        rows = [(root / found.paths[i], found.label_name(i), found.predicted_name(i), i) for i in surest.tolist()]
        return [(path, *names, float(confidence[i])) for path, *names, i in rows if path.is_file()]

    def _root(self) -> Path | None:
        record = self.folder / "run.json"
        return Path(read_json(record)["root"]) if record.is_file() else None

    def figure(self, height: float, columns: int | None = None) -> JournalFigure:
        """An empty figure, `height` mm high."""
        return JournalFigure(figsize=(WIDTHS[columns or self.columns] * MM, height * MM), layout="constrained")


def worst(depicted: Depicted, kind: str) -> list[ClassCurves]:
    """The classes of the smallest areas, the smallest first; as many as line style and colour can distinguish."""
    defined = [row for row in depicted.result.curves if area_of(row, kind).value is not None]
    return sorted(defined, key=lambda row: area_of(row, kind).value or 0.0)[: len(LINES)]


def area_of(row: ClassCurves, kind: str) -> Metric:
    """The area under the curve `roc` or `precision_recall`."""
    return row.roc_auc if kind == "roc" else row.average_precision


def lowest(depicted: Depicted) -> list[ClassResult]:
    """The classes that have images, lowest recall first; `BARS` of them at most."""
    known = [row for row in depicted.result.classes if row.support]
    return sorted(known, key=lambda row: row.recall or 0.0)[:BARS]


def printed(name: str, most: int = 22) -> str:
    """A name as matplotlib is to print it: no math markup, nothing invisible, at most `most` letters."""
    safe = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return (safe if len(safe) <= most else safe[: most - 1] + "…").replace("$", r"\$")
