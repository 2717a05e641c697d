"""A page for labelling images by keyboard: one offline file, which saves a table of images."""

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
        path: as it will appear in the table.
        guess: name of the predicted class; "" without one.
        probability: of that class, 0..1.
    """

    path: str
    guess: str = ""
    probability: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LabelPage(Provenance):
    """What the page shows.

    Args:
        candidates: the images, in the order they are shown.
        classes: names to choose from, in the order of their keys; more can be added on the page.
        known: path and label of images labelled before, which the saved table includes.
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
    """The data of the script, ready for JSON."""
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
