"""The two self-contained pages: one to try the classifier, one that describes the API."""

import base64
import hashlib
import importlib.resources
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from tlkit.base.machine import __version__
from tlkit.serving.problems import KINDS

_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src {script}; img-src data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class HtmlPage(NamedTuple):
    """HTML and its content security policy: no external resources, no script but its own."""

    content: str
    policy: str


def try_page() -> HtmlPage:
    """The page on which users drop, paste or photograph an image."""
    return _page("page.html", _text("page.js"))


def docs_page(openapi: dict[str, Any]) -> HtmlPage:
    """The page that describes the API, from its OpenAPI description."""
    return _page("docs.html", "", paths=openapi["paths"], kinds=KINDS)


def _page(template: str, script: str, **values: Any) -> HtmlPage:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tlkit.serving", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _text("page.css")
    own = {"style": Markup(style), "script": Markup(script), "version": __version__}
    content = environment.get_template(template).render(own | values)
    return HtmlPage(content, _POLICY.format(style=_hash(style), script=f"'{_hash(script)}'" if script else "'none'"))


def _text(name: str) -> str:
    return importlib.resources.files("tlkit.serving").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
