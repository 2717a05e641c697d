"""A page on which one labels images by keyboard: one file, offline; what it saves is a table of images."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkit.base.files import write_text
from tlkit.report.build import render_page
from tlkit.report.page import Provenance

SIDE, QUALITY = 320, 80  # of the pictures, in pixels, and of their JPEG


@dataclass(frozen=True)
class Unlabelled:
    """An image to label.

    Args:
        path: as it will stand in the table.
        guess: name of the class it may be; "" without a guess.
        probability: of that class, 0..1.
    """

    path: str
    guess: str = ""
    probability: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LabelPage(Provenance):
    """What the page shows.

    Args:
        candidates: the images, the first first.
        classes: their names may be, in the order of their keys; more can be added on the page.
        known: path and label of images that have one already, which the table that is saved lists too.
        way: how the images were chosen, in a sentence.
        picture: path -> JPEG bytes, or None for a file that is gone.
    """

    candidates: Sequence[Unlabelled]
    classes: Sequence[str]
    known: Sequence[tuple[str, str]]
    way: str
    picture: Callable[[str], bytes | None]


def write_label_page(path: Path, page: LabelPage) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render_label_page(page))


def render_label_page(page: LabelPage) -> str:
    """The page as HTML; the same page gives the same text."""
    return render_page("next.html", "label.js", page=page, work=_work(page))


def _work(page: LabelPage) -> dict[str, Any]:
    """What the script works on, JSON-able."""
    images = [
        {
            "path": one.path,
            "guess": one.guess,
            "probability": round(one.probability, 4),
            "picture": _uri(page.picture(one.path)),
        }
        for one in page.candidates
    ]
    return {
        "key": page.fingerprints.get("images", page.title),
        "classes": list(page.classes),
        "known": [list(row) for row in page.known],
        "images": images,
    }


def _uri(content: bytes | None) -> str:
    return "" if content is None else f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
