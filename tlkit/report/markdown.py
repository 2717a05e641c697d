"""The report as Markdown: the same content in text, for machines, terminals and diffs."""

import re
from typing import Any

from markupsafe import Markup

from tlkit.report import written
from tlkit.report.templates import as_text, environment

# What Markdown would take for more than itself; `<` and `&` become entities, which every renderer shows as text.
_SHOWN = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]|~$#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "{": "&#123;", "}": "&#125;"}
)


def render_markdown(facts: dict[str, Any]) -> str:
    """The page as Markdown.

    Args:
        facts: as `build.facts` gives them.
    """
    found = environment()
    found.filters |= {"name": _name, "code": _code}
    text = found.get_template("report.md").render(**facts)
    return as_text(re.sub(r"\n{3,}", "\n\n", text))


def _name(text: object) -> Markup:
    """A name, or a sentence that holds one, on one line and without marks of its own."""
    return Markup(written.plain(text).translate(_SHOWN))


def _code(text: object, indent: int = 4) -> Markup:
    """Indented lines, in which Markdown sees nothing; control characters made visible."""
    lines = (written.plain(line) for line in str(text).split("\n"))
    return Markup("\n".join(" " * indent + line for line in lines))
