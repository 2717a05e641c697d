"""A Page to one HTML file: offline, no script from elsewhere, hostile names shown and never run."""

import base64
import hashlib
import importlib.resources
import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from tlkit.core.atomic import write_text
from tlkit.core.results import Metric, SplitResult
from tlkit.report.charts import curves, reliability_diagram
from tlkit.report.gallery import Galleries, galleries
from tlkit.report.glossary import entry
from tlkit.report.headline import WHERE, headline, main_split
from tlkit.report.page import Data, EpochRow, Page, PlanRow

__all__ = ["Data", "EpochRow", "Page", "PlanRow", "render", "write_report"]

LARGEST_MATRIX = 40  # classes; beyond that a table of cells is wallpaper, and the most confused pairs say more
PAIRS = 15
SET_ASIDE = 200
# Control characters as their pictures; overrides of direction as their numbers, since they make names lie.
_VISIBLE: dict[int, str] = {code: chr(0x2400 + code) for code in range(32)} | {127: "\u2421"}
_VISIBLE |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
TILES = ("balanced_accuracy", "macro_f1", "roc_auc", "log_loss")


def write_report(path: Path, page: Page) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(page))


def render(page: Page) -> str:
    """The page as HTML; the same page gives the same text."""
    result = main_split(page.evaluation)
    shown = galleries(page.predictions, result, page.thumbnail)
    text = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            main=result,
            headline=headline(result) if result else None,
            tiles=_tiles(result),
            metrics=_metric_rows(page),
            matrix=_matrix(result, shown),
            pairs=_pairs(result, shown),
            galleries=shown,
            data=_data_rows(page.data),
            charts=_charts(page, result),
            limits={"matrix": LARGEST_MATRIX, "set_aside": SET_ASIDE},
            **_resources(),
        )
    )
    # File names may hold bytes that are no text (lone surrogates); shown as \udcff rather than refused.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _environment() -> jinja2.Environment:
    """Templates of this package, autoescaped, a misspelt name being an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tlkit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"name": _name, "percent": _percent, "number": _number, "duration": _duration}
    environment.globals |= {"entry": entry, "shown": _shown, "where": WHERE}
    return environment


def _resources() -> dict[str, Any]:
    """Style and script, and the hash under which the browser may run that script and no other."""
    folder = importlib.resources.files("tlkit.report")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    script = folder.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_hash": digest}


# -- what the sections show ------------------------------------------------------------------------


def _tiles(result: SplitResult | None) -> list[tuple[str, Metric]]:
    """A few metrics besides accuracy for the head of the page."""
    found = result.metrics if result else {}
    return [(name, found[name]) for name in TILES if name in found and found[name].value is not None]


def _metric_rows(page: Page) -> list[tuple[str, list[Metric | None]]]:
    """Each metric with its value in every split."""
    splits = page.evaluation.splits if page.evaluation else {}
    names = dict.fromkeys(name for result in splits.values() for name in result.metrics)
    return [(name, [result.metrics.get(name) for result in splits.values()]) for name in names]


def _matrix(result: SplitResult | None, shown: Galleries) -> list[list[dict[str, Any]]] | None:
    """Rows of cells: count, share of the row (0..1), whether on the diagonal, whether its images are below."""
    if result is None or not 2 <= len(result.classes) <= LARGEST_MATRIX:
        return None
    opened = {(cell.row, cell.column) for cell in shown.cells}
    support = result.confusion.sum(axis=1)
    return [
        [
            {
                "count": int(count),
                "share": float(count / support[i]) if support[i] else 0.0,
                "right": i == j,
                "opens": (i, j) in opened,
            }
            for j, count in enumerate(row)
        ]
        for i, row in enumerate(result.confusion)
    ]


def _pairs(result: SplitResult | None, shown: Galleries) -> list[dict[str, Any]]:
    """The most confused pairs, with their share of the true class and the cell that holds their images."""
    if result is None:
        return []
    support = {row.name: row.support for row in result.classes}
    opened = {(cell.truth, cell.predicted): f"cell-{cell.row}-{cell.column}" for cell in shown.cells}
    return [
        {"pair": pair, "of": support[pair.truth], "cell": opened.get((pair.truth, pair.predicted))}
        for pair in result.confused[:PAIRS]
    ]


def _data_rows(data: Data | None) -> dict[str, Any] | None:
    """Per class: counts by split and their sum; and the totals."""
    if data is None:
        return None
    splits = [name for name, counts in data.counts.items() if sum(counts)]
    rows = [
        {"name": name, "counts": counts, "total": sum(counts)}
        for name, *counts in zip(data.classes, *(data.counts[split] for split in splits), strict=True)
    ]
    totals = [int(sum(data.counts[split])) for split in splits]
    largest = max((row["total"] for row in rows), default=0)
    return {"splits": splits, "rows": rows, "totals": totals, "images": sum(totals), "largest": largest}


def _charts(page: Page, result: SplitResult | None) -> dict[str, Markup | None]:
    """The drawings, None where there is nothing to draw."""
    bins = result.reliability if result else None
    return {
        "loss": curves(page.history, "loss", "Loss by epoch; the numbers are in the table below."),
        "accuracy": curves(page.history, "accuracy", "Accuracy by epoch; the numbers are in the table below."),
        "reliability": reliability_diagram(bins, "Share correct by confidence; the numbers are in the table beside it.")
        if bins
        else None,
    }


# -- how values are written ------------------------------------------------------------------------


def _name(text: object) -> Markup:
    """A class or file name: what is invisible or turns text around made visible, direction kept to itself, escaped."""
    return Markup("<bdi>{}</bdi>").format(str(text).translate(_VISIBLE))


def _percent(share: float | None, digits: int = 1) -> str:
    """0.9412 as 94.1 %; a dash where there is none."""
    return f"{100 * share:.{digits}f}\u202f%" if share is not None and math.isfinite(share) else _number(share)


def _number(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals and a true minus; a dash where there is none, words where training diverged."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "not finite"


def _duration(seconds: float | None) -> str:
    """75 as 1 min 15 s; a dash where there is none."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _shown(metric: str, found: Metric | None, interval: bool = False) -> Markup:
    """A metric in its own unit; with `interval` its two limits instead, "" where there are none."""
    percent = entry(metric).percent
    if interval:
        if found is None or found.low is None or found.high is None:
            return Markup("")
        low, high = (f"{100 * v:.1f}" if percent else _number(v) for v in (found.low, found.high))
        return escape(f"{low} to {high}")
    value = found.value if found else None
    return escape(_percent(value) if percent else _number(value))
