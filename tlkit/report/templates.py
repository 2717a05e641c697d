"""The templates of this package, and the style and script that every page carries."""

import base64
import hashlib
import importlib.resources
from typing import Any

import jinja2
from markupsafe import Markup

from tlkit.report import written
from tlkit.report.glossary import entry
from tlkit.report.headline import WHERE


def environment() -> jinja2.Environment:
    """Templates of this package, autoescaped, a misspelt name being an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("tlkit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("name", "plain", "percent", "number", "duration", "split_name")
    found.filters |= {name: getattr(written, name) for name in names}
    found.globals |= {"entry": entry, "shown": written.shown, "where": WHERE}
    return found


def as_text(rendered: str) -> str:
    r"""What a template gave, fit to be written: bytes in file names that are no text (lone surrogates) as \udcff."""
    return rendered.encode("utf-8", "backslashreplace").decode("utf-8")


def render_page(template: str, **values: Any) -> str:
    """A page that extends shell.html, as HTML; the same values give the same text."""
    shared: dict[str, Any] = {"refused": 0, **_resources()}
    return as_text(environment().get_template(template).render(shared | values))


def _resources() -> dict[str, Any]:
    """Style and script, and the hash under which the browser may run that script and no other."""
    folder = importlib.resources.files("tlkit.report")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    script = folder.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_hash": digest}
