"""An audit as one HTML file: findings with their images, offline, in the style of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlkit.auditing.findings import AuditResult
from tlkit.base.files import write_text
from tlkit.report.build import OPTIONS, render_page
from tlkit.report.gallery import BYTES, Album, evidence
from tlkit.report.page import Provenance, Thumbnail

TIMES = 3  # times as many cases of a finding as the report of a run shows


@dataclass(frozen=True, kw_only=True)
class AuditPage(Provenance):
    """What the page shows.

    Args:
        result: what was found.
        rule: one sentence saying how the split came about.
        counts: split -> images of each class, in class order.
        thumbnail: path as in the findings -> JPEG bytes of at most 160 pixels a side, or None.
    """

    result: AuditResult
    rule: str = ""
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    thumbnail: Thumbnail | None = None


def write_audit_page(path: Path, page: AuditPage) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render_audit(page))


def render_audit(page: AuditPage) -> str:
    """The page as HTML; the same page gives the same text."""
    album = Album(page.thumbnail)
    found = evidence(page.result, album, TIMES)
    return render_page(
        "audit.html",
        page=page,
        evidence=found,
        verdict=verdict(page.result),
        splits=[name for name, counts in page.counts.items() if sum(counts)],
        refused=album.refused,
        limits={"bytes": BYTES // 1_000_000, "options": OPTIONS},
    )


def verdict(result: AuditResult) -> str:
    """The findings summed up in a sentence."""
    counts = result.counts
    if counts["serious"]:
        return "Resolve the serious findings before training: until then no result on these images can be trusted."
    if counts["warning"]:
        return "No serious finding. Review the warnings before training."
    return "These checks found no problem."
