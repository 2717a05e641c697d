"""What an audit found about a set of images: findings, each with its images and its remedy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SEVERITIES = ("serious", "warning", "note")
"""serious: results cannot be trusted until it is dealt with; warning: look at it; note: worth knowing."""

AUDIT_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """Images that belong side by side: copies of each other, one odd image, one doubtful label.

    Args:
        paths: as in the manifest, one or more.
        labels: class name of each, "" where it has none.
        splits: split of each, "" where it has none.
        caption: what to see in them, a few words.
        suggested: the class that they (or the last of them) more likely show, "" where there is none.
        score: how strong the case is; within one finding groups are sorted by it, strongest first.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] = ()
    caption: str = ""
    suggested: str = ""
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Args:
        check: which check found it, the name of a row of the table of checks (`near_duplicates`).
        severity: one of `SEVERITIES`.
        sentence: what it is, with its numbers; one sentence.
        remedy: what to do about it; one sentence.
        command: a command line that does it, "" where none does.
        groups: the images involved, all of them, strongest case first.
        facts: the numbers behind the sentence, ready for JSON.
    """

    check: str
    severity: str
    sentence: str
    remedy: str
    command: str = ""
    groups: tuple[ImageGroup, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """Everything that an audit found.

    Args:
        images: how many were looked at.
        classes: class names, in index order.
        findings: serious ones first.
        checks: check -> "" where it was run, else why it was not.
        seconds: check -> wall time.
    """

    images: int
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    checks: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def of(self, severity: str) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def counts(self) -> dict[str, int]:
        """Severity -> number of findings, serious first."""
        return {severity: len(self.of(severity)) for severity in SEVERITIES}

    def as_json(self) -> dict[str, Any]:
        """The content of audit.json."""
        return {"format": AUDIT_FORMAT, "counts": self.counts, **_plain(asdict(self))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "AuditResult":
        """Restore the value of `as_json`."""
        return cls(
            images=value["images"],
            classes=tuple(value["classes"]),
            findings=tuple(_finding(found) for found in value["findings"]),
            checks=value["checks"],
            seconds=value["seconds"],
        )


def by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Serious ones first; the order within a severity stays."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def _finding(value: Mapping[str, Any]) -> Finding:
    return Finding(**{**value, "groups": tuple(_group(group) for group in value["groups"])})


def _group(value: Mapping[str, Any]) -> ImageGroup:
    columns: dict[str, Any] = {name: tuple(value[name]) for name in ("paths", "labels", "splits")}
    return ImageGroup(**{**value, **columns})


def _plain(value: Any) -> Any:
    """A value ready for JSON: tuples as lists, NumPy numbers as Python's, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
