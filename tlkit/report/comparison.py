"""Comparisons of runs as one small offline page."""

from collections.abc import Sequence

import jinja2

from tlkit.evaluation.results import Comparison
from tlkit.report.build import as_text

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>tlkit compare</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
.sentence { font-size: 1.15rem; } li, code { overflow-wrap: anywhere; } footer { margin-top: 3rem; opacity: .75; }
</style>
</head>
<body>
<h1>Is the difference real?</h1>
{% for found in comparisons %}
<section>
<h2><bdi>{{ found.second }}</bdi> against <bdi>{{ found.first }}</bdi></h2>
<p class="sentence">{{ found.sentence }}</p>
<table>
<tr><th>{{ found.measure }}</th><th>value</th><th>95 % interval</th></tr>
{% for name, row in [(found.first, found.accuracy[0]), (found.second, found.accuracy[1])] %}
<tr><td><bdi>{{ name }}</bdi></td>{% set shown = percent if found.measure == "accuracy" else plain %}<td>{{ shown(row.value) }}</td><td>{{ shown(row.low) }} to {{ shown(row.high) }}</td></tr>
{% endfor %}
</table>
<table>
<tr><th>difference</th><th>value</th><th>95 % interval</th></tr>
{% for name, row in found.differences.items() %}
<tr><td>{{ name.replace("_", " ") }}</td><td>{{ signed(row.value) }}</td><td>{{ signed(row.low) }} to {{ signed(row.high) }}</td></tr>
{% endfor %}
</table>
{% for name, paths in [(found.first, found.only_first), (found.second, found.only_second)] if found.measure == "accuracy" %}
<details><summary>{{ paths|length }} images that <bdi>{{ name }}</bdi> alone gets right</summary>
<ul>{% for path in paths %}<li><bdi>{{ path }}</bdi></li>{% endfor %}</ul></details>
{% endfor %}
</section>
{% endfor %}
<footer><p>Images of {{ split }}, matched by content. Written {{ created }} by <code>{{ command }}</code></p></footer>
</body>
</html>
"""


def render(comparisons: Sequence[Comparison], split: str, command: str, created: str) -> str:
    """The page as HTML, with names escaped.

    Args:
        comparisons: at least one.
        split: which images.
        command: that made it.
        created: when.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals |= {"percent": _percent, "signed": _signed, "plain": _plain}
    text = environment.from_string(_PAGE).render(comparisons=comparisons, split=split, command=command, created=created)
    return as_text(text)


def _percent(share: float | None) -> str:
    return "\N{EN DASH}" if share is None else f"{100 * share:.1f}\N{NARROW NO-BREAK SPACE}%"


def _plain(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")
