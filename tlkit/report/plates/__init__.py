"""Figures for a paper, drawn by matplotlib from evaluation.json, predictions.csv and history.csv, each with its caption.

Widths are those of one and two columns of a journal. Fonts are embedded, nothing is distinguished by colour alone, and the
colours are those of Okabe and Ito (2008) and a sequential map, which colour-blind readers can distinguish.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.files import replacing
from tlkit.evaluation.results import CLIP
from tlkit.evaluation.stored import read_evaluation
from tlkit.report.headline import main_split
from tlkit.report.plates import captions, drawings
from tlkit.report.plates.depicted import STYLE, WIDTHS, Depicted, JournalFigure


@dataclass(frozen=True)
class Plate:
    """A figure with its name and its caption."""

    name: str
    figure: JournalFigure
    caption: str

    def write(self, folder: Path, formats: Sequence[str]) -> list[Path]:
        """NAME.pdf, .svg, .png as asked, and NAME.txt with the caption; each whole or not at all."""
        written = []
        with self.figure.laid_out():
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
    """The figures drawn, and the reason for each that was not."""

    plates: list[Plate]
    left_out: dict[str, str]


def draw(folder: Path, names: Sequence[str] = (), *, columns: int = 1) -> Drawn:
    """Draw the figures of a run or evaluation; arguments and errors as for `tlkit.report.figures`."""
    if columns not in WIDTHS:
        raise TlkitError(f"columns is {columns!r}, expected 1 (89 mm) or 2 (183 mm).", "choose one of the two.")
    for name in names:
        if name not in FIGURES:
            raise unknown_name("a figure", name, FIGURES)
    result = main_split(read_evaluation(folder / "evaluation.json"))
    if result is None:
        raise TlkitError(f"{str(folder)!r} holds no evaluated images.", "evaluate on labelled images first.")
    depicted, plates, left_out = Depicted(folder, result, columns), [], {}
    for name in names or FIGURES:
        row = FIGURES[name]
        if reason := row.lacks(depicted):
            left_out[name] = depicted.said(reason)
            continue
        with matplotlib.rc_context(STYLE):
            plates.append(Plate(name, row.draw(depicted), depicted.said(row.caption(depicted))))
    if names and left_out:
        name, reason = next(iter(left_out.items()))
        raise TlkitError(f"{name} cannot be drawn from {str(folder)!r}: {reason}.", "leave it out.")
    return Drawn(plates, left_out)


class FigureRow(NamedTuple):
    """A kind of figure: why it cannot be drawn ("" where it can), its drawing and its caption."""

    lacks: Callable[[Depicted], str]
    draw: Callable[[Depicted], JournalFigure]
    caption: Callable[[Depicted], str]


def _no_matrix(depicted: Depicted) -> str:
    if depicted.result.confusion.ndim == 3:
        return "images have several labels, which a single matrix cannot show"
    if not isinstance(depicted.result.confusion, np.ndarray):
        return f"{len(depicted.result.classes)} classes are too many for one; report.html lists the most confused pairs"
    return "" if depicted.result.confusion.size else "numbers have no classes to confuse"


def _no_errors(depicted: Depicted) -> str:
    if depicted.result.sample == CLIP:
        return "report.html shows wrong answers as strips of frames"
    return "" if depicted.errors else "there are no wrong answers whose images are available"


def _no_curves(depicted: Depicted) -> str:
    if not depicted.history:
        return "there is no history.csv"
    return "" if len(depicted.history) > 1 else "the head was solved, which leaves no curve"


def _lacking(attribute: str, reason: str) -> Callable[[Depicted], str]:
    return lambda depicted: "" if getattr(depicted.result, attribute) else reason


FIGURES = {
    "confusion": FigureRow(_no_matrix, drawings.draw_confusion, captions.of_confusion),
    "confusion-normalised": FigureRow(_no_matrix, drawings.draw_normalised, captions.of_normalised),
    "learning-curves": FigureRow(
        _no_curves,
        drawings.draw_learning_curves,
        captions.of_learning,
    ),
    "reliability": FigureRow(
        _lacking("reliability", "it was not measured"), drawings.draw_reliability, captions.of_reliability
    ),
    "roc": FigureRow(
        _lacking("curves", "no class has both positive and negative images"), drawings.draw_roc, captions.of_roc
    ),
    "precision-recall": FigureRow(
        _lacking("curves", "no class has both positive and negative images"),
        drawings.draw_precision_recall,
        captions.of_precision_recall,
    ),
    "risk-coverage": FigureRow(
        _lacking("risk_coverage", "it was not measured"), drawings.draw_risk_coverage, captions.of_risk
    ),
    "per-class": FigureRow(_lacking("classes", "there are no classes"), drawings.draw_per_class, captions.of_per_class),
    "errors": FigureRow(
        lambda depicted: _no_errors(depicted),
        drawings.draw_errors,
        captions.of_errors,
    ),
}
