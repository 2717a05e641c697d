"""How values are written in a report: names, shares, numbers, times."""

import math

from markupsafe import Markup, escape

from tlkit.core.results import Metric
from tlkit.report.glossary import entry

# Control characters as their pictures; overrides of direction as their numbers, since they make names lie.
_VISIBLE: dict[int, str] = {code: chr(0x2400 + code) for code in range(32)} | {127: "\u2421"}
_VISIBLE |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def plain(text: object) -> str:
    """Text with what is invisible or turns text around made visible; not yet escaped."""
    return str(text).translate(_VISIBLE)


def name(text: object) -> Markup:
    """A class or file name, or a sentence that holds one: made visible, direction kept to itself, escaped."""
    return Markup("<bdi>{}</bdi>").format(plain(text))


def percent(share: float | None, digits: int = 1) -> str:
    """0.9412 as 94.1 %; a dash where there is none."""
    return f"{100 * share:.{digits}f}\u202f%" if share is not None and math.isfinite(share) else number(share)


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals and a true minus; a dash where there is none, words where training diverged."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "not finite"


def duration(seconds: float | None) -> str:
    """75 as 1 min 15 s; a dash where there is none."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def shown(metric: str, found: Metric | None, interval: bool = False) -> Markup:
    """A metric in its own unit; with `interval` its two limits instead, "" where there are none."""
    shares = entry(metric).percent
    if interval:
        if found is None or found.low is None or found.high is None:
            return Markup("")
        low, high = (f"{100 * v:.1f}" if shares else number(v) for v in (found.low, found.high))
        return escape(f"{low} to {high}")
    value = found.value if found else None
    return escape(percent(value) if shares else number(value))


def split_name(split: str) -> str:
    """`test_unseen` as "test, unseen"."""
    first, mark, _ = split.partition("_unseen")
    return f"{first}, unseen" if mark else split
