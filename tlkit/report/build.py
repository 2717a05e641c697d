"""Render a page as one HTML file and one Markdown file: self-contained, and safe with any class or file name."""

import base64
import hashlib
import importlib.resources
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from markupsafe import Markup

from tlkit.base.files import write_text
from tlkit.base.story import counted
from tlkit.data.dataset import SPLITS
from tlkit.evaluation.choice import NOT_GAINED
from tlkit.evaluation.results import CLIP, IMAGE, ClassResult, Metric, RiskCoverage, SplitResult
from tlkit.report import charts, glossary
from tlkit.report.gallery import BYTES, Album, Galleries, evidence, galleries
from tlkit.report.glossary import entry
from tlkit.report.headline import WHERE, Headline, Quantity, Several, in_clips, main_split, opening, said_of
from tlkit.report.page import Data, EpochRow, ModelSection, NearestImage, Page, PlanRow
from tlkit.report.tasks import words_of
from tlkit.report.verdict import Remark, chance_gap, remarks

__all__ = ["Data", "EpochRow", "ModelSection", "NearestImage", "Page", "PlanRow", "render", "write_report"]

LARGEST_MATRIX = 40  # classes; beyond that a matrix is unreadable, and the most confused pairs say more
PAIRS = 15
SET_ASIDE = 200
ROWS = 1000  # of any table
POINTS = 1000  # of a scatter plot
OPTIONS = 20_000  # characters of the options that are shown
TONES = {"bad": "Problem", "warn": "Caution", "good": "No problem found"}
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)  # in the table beside the curve

Facts = dict[str, Any]


class Section(NamedTuple):
    """One part of the page: its id, which is also that of its template, the text of links, and whether it has content."""

    id: str
    link: str
    present: Callable[[Facts], object]


SECTIONS = (
    Section("numbers", "Numbers", lambda facts: facts["metrics"]),
    Section("data", "Data", lambda facts: facts["data"]),
    Section("audit", "Audit", lambda facts: facts["page"].audit),
    Section("mislabelled", "Labels", lambda facts: any(found.doubtful and found.cases for found in facts["evidence"])),
    Section("plan", "Plan", lambda facts: facts["page"].plan),
    Section("choice", "Choice", lambda facts: facts["page"].choice),
    Section("synthesis", "Drawn features", lambda facts: facts["portraits"]),
    Section("learning", "Learning", lambda facts: facts["learned"]),
    Section("confusion", "Confusion", lambda facts: facts["matrix"] or facts["pairs"]),
    Section("quantities", "Predictions", lambda facts: facts["quantities"]),
    Section("classes", "Classes", lambda facts: facts["main"] and facts["main"].classes),
    Section("reliability", "Reliability", lambda facts: facts["charts"]["reliability"]),
    Section("abstention", "Abstention", lambda facts: facts["charts"]["risk"]),
    Section("curves", "Curves", lambda facts: facts["charts"]["roc"]),
    Section("slices", "Slices", lambda facts: facts["main"] and facts["main"].slices),
    Section("errors", "Errors", lambda facts: facts["galleries"].worst),
    Section("unsure", "Least confident", lambda facts: facts["galleries"].least_sure),
    Section("abstained", "Abstentions", lambda facts: facts["galleries"].abstained),
    Section("unfamiliar", "Unfamiliar", lambda facts: facts["galleries"].unfamiliar),
    Section("set-aside", "Set aside", lambda facts: facts["page"].data and facts["page"].data.set_aside),
    Section("card", "Model card", lambda facts: facts["card"]),
    Section("environment", "Reproduce", lambda facts: facts["environment"]),
    Section("glossary", "Glossary", lambda facts: facts["metrics"]),
)


def write_report(path: Path, page: Page) -> None:
    """Write the page to `path`, and the same as Markdown beside it with the suffix .md, each whole or not at all."""
    found = facts(page)
    write_text(path, _render(found))
    write_text(path.with_suffix(".md"), render_markdown(found))


def render(page: Page) -> str:
    """The page as HTML; the same page gives the same text."""
    return _render(facts(page))


def _render(found: Facts) -> str:
    sections = [section for section in SECTIONS if section.present(found)]
    return render_page(
        "page.html",
        sections=sections,
        ids={section.id for section in sections},
        titles={section.id: section.link.lower() for section in sections},
        **found,
    )


def facts(page: Page) -> Facts:
    """The values that the templates of the sections read, by name."""
    result, album = main_split(page.evaluation), Album(page.thumbnail)
    sample, kept = (result.sample, [row.name for row in result.classes]) if result else (IMAGE, [])
    page = _reworded(page, sample, kept)
    proof = evidence(page.audit, album)
    words = words_of(result)
    shown = galleries(page, result, album, words.dealer)
    first = opening(result)
    said, splits = remarks(page, result), _in_order(page, result)
    return {
        "sample": sample,
        "page": page,
        "main": result,
        "headline": first if isinstance(first, Headline) else None,
        "several": first if isinstance(first, Several) else None,
        "quantity": first if isinstance(first, Quantity) else None,
        "quantities": _quantities(page, result) if isinstance(first, Quantity) else [],
        "words": words,
        "remarks": said,
        "tones": TONES,
        "tiles": _tiles(result),
        "metrics": _metric_rows(splits),
        "measured": splits,
        "matrix": _matrix(result, shown),
        "pairs": _pairs(result, shown),
        "galleries": shown,
        "portraits": _portraits(page, album),
        "evidence": proof,
        "classes": _class_rows(result),
        "data": _data_rows(page.data),
        "charts": {name: said_of(sample, chart, kept) for name, chart in _charts(page, result).items()},
        "unseen": any(name.endswith("unseen") for name in (page.evaluation.splits if page.evaluation else ())),
        "learned": any(row.loss is not None or row.val_loss is not None for row in page.history),
        "chance": chance_gap(result.reliability)[0] if result and result.reliability else None,
        "coverage": _coverage(result.risk_coverage if result else None),
        "extended": bool(result and any(row.roc_auc is not None for row in result.classes)),
        "intervals": bool(result and any(row.recall_interval for row in result.classes)),
        "card": said_of(sample, model_card(page, result, said), kept),
        "environment": any((page.command, page.versions, page.hardware, page.seeds, page.fingerprints, page.config)),
        "refused": album.refused,
        "limits": {
            "matrix": LARGEST_MATRIX,
            "set_aside": SET_ASIDE,
            "rows": ROWS,
            "options": OPTIONS,
            "lines": charts.LINES,
            "bytes": BYTES // 1_000_000,
        },
    }


def _reworded(page: Page, sample: str, kept: list[str]) -> Page:
    """The page with its sentences reworded for `sample`; paths, options and names are unchanged."""
    data = page.data and replace(
        page.data, **{name: said_of(sample, getattr(page.data, name), kept) for name in ("rule", "notes")}
    )
    spoken = {name: said_of(sample, getattr(page, name), kept) for name in ("choice", "decisions", "plan")}
    found = page.evaluation and replace(page.evaluation, notes=said_of(sample, page.evaluation.notes, kept))
    return replace(page, data=data, evaluation=found, **spoken)


# -- what the sections show ------------------------------------------------------------------------


def _tiles(result: SplitResult | None) -> list[tuple[str, Metric]]:
    """The few metrics shown beside the headline."""
    found = result.metrics if result else {}
    return [(name, found[name]) for name in words_of(result).tiles if name in found and found[name].value is not None]


def _in_order(page: Page, main: SplitResult | None) -> dict[str, SplitResult]:
    """The splits, the main one first, so that a narrow screen shows it without scrolling."""
    splits = page.evaluation.splits if page.evaluation else {}
    first = [name for name, result in splits.items() if main is not None and result.split == main.split]
    return {name: splits[name] for name in (*first, *(name for name in splits if name not in first))}


def _metric_rows(splits: dict[str, SplitResult]) -> list[tuple[str, list[Metric | None]]]:
    """Each metric with its value in every split."""
    names = dict.fromkeys(name for result in splits.values() for name in result.metrics)
    return [(name, [result.metrics.get(name) for result in splits.values()]) for name in names]


def _matrix(result: SplitResult | None, shown: Galleries) -> list[list[dict[str, Any]]] | None:
    """Rows of cells: count, share of the row (0..1), whether on the diagonal, whether its images are shown below."""
    if result is None or not words_of(result).matrix or not 2 <= len(result.classes) <= LARGEST_MATRIX:
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


def _class_rows(result: SplitResult | None) -> Sequence[ClassResult]:
    """The rows of the table of classes; where there are more than `ROWS`, those of the lowest F1, undefined ones last."""
    found = result.classes if result else ()
    if len(found) <= ROWS:
        return found
    return sorted(found, key=lambda row: 2.0 if row.f1 is None else row.f1)[:ROWS]


def _data_rows(data: Data | None) -> dict[str, Any] | None:
    """Counts of each class by split and their sum, of the `ROWS` largest classes at most; and the totals."""
    if data is None:
        return None
    splits = [name for name, counts in data.counts.items() if sum(counts)]
    rows = [
        {"name": name, "counts": counts, "total": sum(counts)}
        for name, *counts in zip(data.classes, *(data.counts[split] for split in splits), strict=True)
    ]
    totals = [int(data.images[split] if data.images else sum(data.counts[split])) for split in splits]
    largest = max((row["total"] for row in rows), default=0)
    shown = rows if len(rows) <= ROWS else sorted(rows, key=lambda row: -row["total"])[:ROWS]
    found = {"splits": splits, "rows": shown, "totals": totals, "images": sum(totals), "largest": largest}
    return found | {"classes": len(rows)}


def _quantities(page: Page, result: SplitResult | None) -> list[dict[str, Any]]:
    """What is shown of each number: its name, charts of predicted against true, its interval and the coverage of that."""
    if result is None or page.predictions is None:
        return []
    found = page.predictions
    code = SPLITS.index(result.split) if result.split in SPLITS else -1
    rows = found.select(np.flatnonzero((found.splits == code) & found.labelled & np.isfinite(found.logits).all(axis=1)))
    if not len(rows):
        return []
    some = np.unique(np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).astype(int))
    shown = []
    for place, name in enumerate(rows.classes):
        truth, said = rows.truth[:, place], rows.logits[:, place].astype(np.float64)
        margin = None if rows.margins is None else rows.margins[place]
        key = "interval_coverage" if len(rows.classes) == 1 else f"interval_coverage:{name}"
        shown.append(
            {
                "name": name,
                "images": len(rows),
                "shown": len(some),
                "margin": margin,
                "coverage": result.metrics.get(key),
                "scatter": charts.scatter(truth[some], said[some], margin, "Predicted against true numbers."),
                "residuals": charts.residuals(said - truth, "Histogram of predicted minus true numbers."),
            }
        )
    return shown


def _coverage(found: RiskCoverage | None) -> list[tuple[float, float, float]]:
    """A few points of the curve: coverage, error rate, lowest confidence answered."""
    if found is None or not len(found.coverage):
        return []
    places = sorted({int(abs(found.coverage - wanted).argmin()) for wanted in COVERAGES})
    return [(float(found.coverage[i]), float(found.risk[i]), float(found.confidence[i])) for i in places]


def _charts(page: Page, result: SplitResult | None) -> dict[str, Markup | None]:
    """The figures; None where there is nothing to plot."""
    bins, risk, lines = (result.reliability, result.risk_coverage, result.curves) if result else (None, None, ())
    below, beside = "the numbers are in the table below.", "the numbers are in the table beside it."
    return {
        "loss": charts.curves(page.history, "loss", f"Loss by epoch; {below}"),
        "accuracy": charts.curves(page.history, "accuracy", f"Accuracy by epoch; {below}"),
        "reliability": charts.reliability_diagram(bins, f"Accuracy by confidence; {beside}", result.uncalibrated)
        if bins and result
        else None,
        "risk": charts.risk_coverage(risk, f"Error rate by coverage; {beside}", result.abstention)
        if risk and result
        else None,
        "roc": charts.roc(lines, f"ROC curves; {below}") if lines else None,
        "precision_recall": charts.precision_recall(lines, f"Precision by recall; {below}") if lines else None,
    }


def _portraits(page: Page, album: Album) -> list[dict[str, Any]]:
    """Each class that features were drawn for: its numbers, its plot, the real images nearest to the drawn features."""
    if page.synthesis is None or page.data is None:
        return []
    return [
        {
            "class": page.data.classes[one.label],
            "found": one,
            "plot": charts.portrait(
                one, page.synthesis.others, "Drawn features among real ones; the numbers are beside it."
            ),
            "images": [(path, album.uri(path)) for path in dict.fromkeys(one.nearest)],
        }
        for one in page.synthesis.classes
    ]


# -- The report as Markdown: the same content in text, for machines, terminals and diffs -------

# Characters with a meaning in Markdown are escaped; `<` and `&` become entities, which every renderer shows as text.
_SHOWN = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]|~$#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "{": "&#123;", "}": "&#125;"}
)


def render_markdown(facts: dict[str, Any]) -> str:
    """The page as Markdown.

    Args:
        facts: as `build.facts` gives them.
    """
    text = _of_markdown(facts["sample"]).get_template("report.md").render(**facts)
    return as_text(re.sub(r"\n{3,}", "\n\n", text))


@cache
def _of_markdown(sample: str) -> jinja2.Environment:
    """`environment` with names and code written as Markdown; cached, because it holds the compiled templates."""
    found = environment(sample).overlay()
    found.filters = found.filters | {"name": _name, "code": _code}
    return found


def _name(text: object) -> Markup:
    """A name, or a sentence that holds one, on one line and with Markdown escaped."""
    return Markup(glossary.plain(text).translate(_SHOWN))


def _code(text: object, indent: int = 4) -> Markup:
    """An indented code block, with control characters made visible."""
    lines = (glossary.plain(line) for line in str(text).split("\n"))
    return Markup("\n".join(" " * indent + line for line in lines))


# -- The templates of this package, and the style and script that every page carries -----------


class OfClips(Extension):
    """Reword the text and the string literals of templates as they are compiled, never the values inserted into them."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The tokens of a template, reworded."""
        for token in stream:
            if token.type in ("data", "string"):
                token = Token(token.lineno, token.type, in_clips(token.value))
            yield token


@cache
def environment(sample: str = IMAGE) -> jinja2.Environment:
    """The templates of this package, autoescaped and worded for `sample`; an undefined name is an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("tlkit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[OfClips] if sample == CLIP else [],
    )
    names = ("name", "plain", "percent", "number", "duration", "split_name")
    found.filters |= {name: getattr(glossary, name) for name in names}
    where = {split: said_of(sample, words) for split, words in WHERE.items()}
    told = lambda metric: said_of(sample, entry(metric))  # noqa: E731
    found.globals |= {"entry": told, "shown": glossary.shown, "where": where, "not_gained": NOT_GAINED[sample]}
    return found


def as_text(rendered: str) -> str:
    r"""Rendered text that can be encoded: undecodable bytes of file names (lone surrogates) are written as \udcff."""
    return rendered.encode("utf-8", "backslashreplace").decode("utf-8")


def render_page(template: str, script: str = "page.js", sample: str = IMAGE, **values: Any) -> str:
    """A page that extends shell.html, with a script of this package, as HTML; the same values give the same text."""
    shared: dict[str, Any] = {"refused": 0, "sample": sample, **_resources(script)}
    return as_text(environment(sample).get_template(template).render(shared | values))


def _resources(name: str) -> dict[str, Any]:
    """Style and script, and the hash that permits the browser to run this script and no other."""
    folder = importlib.resources.files("tlkit.report")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    script = folder.joinpath(name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_hash": digest}


# -- The model card: the classifier, its intended use and its limitations (Mitchell et al. 2019) ---


class CardPart(NamedTuple):
    """One part of the card: a heading and plain sentences; class names in them are verbatim."""

    heading: str
    sentences: tuple[str, ...]


def model_card(page: Page, result: SplitResult | None, found: tuple[Remark, ...]) -> tuple[CardPart, ...]:
    """The parts that are not empty; none without a model."""
    if page.model is None:
        return ()
    words, classes = words_of(result), page.data.classes if page.data else ()
    parts = (
        CardPart("Model", _what(page.model, *words.outputs(page.model, words.activation))),
        CardPart("Intended use", words.purpose(page.model, classes) if classes else ()),
        CardPart("Training data", _learned(page)),
        CardPart("Performance", words.measured(result) if result else ()),
        CardPart("Limitations", _limits(page, found)),
        CardPart("Licences", _licences(page.model)),
    )
    return tuple(part for part in parts if part.sentences)


def _what(model: ModelSection, gives: str, more: str) -> tuple[str, ...]:
    size = f" of {model.parameters:,} parameters" if model.parameters else ""
    height, width = model.image_size
    return (
        f"An image classifier{size}: backbone {model.backbone}, pretrained weights {model.weights}, with {model.head}.",
        f"It takes RGB images, 0 to 255, resized to {height}×{width} pixels ({model.fit}), and gives {gives}; "
        "the preprocessing is part of the model file.",
        more,
    )


def _learned(page: Page) -> tuple[str, ...]:
    if page.data is None:
        return ()
    counts = {split: sum(numbers) for split, numbers in page.data.counts.items()}
    by_split = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    spread = _spread(page.data.counts.get("train") or ())
    return tuple(filter(None, (f"Images by split: {page.data.rule or by_split}.".replace("..", "."), spread)))


def _spread(train: Sequence[int]) -> str:
    """How many training images the classes have, "" of one class alone."""
    if len(train) < 2:
        return ""
    least, most = min(train), max(train)
    if least == most:
        return f"Each class has {counted(most, 'training image')}."
    return f"A class has {least:,} to {most:,} training images."


def _limits(page: Page, found: tuple[Remark, ...]) -> tuple[str, ...]:
    remarks = tuple(remark.text for remark in found if remark.tone != "good")
    return (
        *remarks,
        "Its performance on images from another camera, place, time or collection method is unknown.",
    )


def _licences(model: ModelSection) -> tuple[str, ...]:
    if not model.licence:
        return ("The licence of the pretrained weights is not known to tlkit.",)
    sentences = [f"Pretrained weights: {model.licence}."]
    if "imagenet" in model.weights.lower():
        sentences.append(
            "They were trained on ImageNet, whose terms of access name non-commercial research and education."
        )
    return (*sentences, "The licence of the images it was trained on is not known to tlkit.")
