"""The findings of an audit as a page shows them: with their images side by side, a few of each."""

from dataclasses import dataclass

from tlkit.auditing.findings import SEVERITIES, AuditResult, Finding, ImageGroup
from tlkit.report.gallery import Album

GROUPS = {"serious": 6, "warning": 4, "note": 3}  # cases of a finding that are shown
SIDE_BY_SIDE = 4  # images of one case
MISLABELLED = 12  # images in the gallery of doubtful labels
SEVERITY_WORDS = {"serious": "Serious", "warning": "Warning", "note": "Note"}


@dataclass(frozen=True)
class ShownImage:
    """One image of a case; `image` is a data URI or None."""

    path: str
    label: str
    split: str
    image: str | None


@dataclass(frozen=True)
class Case:
    """Images that belong side by side, `more` of them not shown."""

    images: tuple[ShownImage, ...]
    caption: str
    suggested: str
    more: int

    @property
    def paired(self) -> bool:
        """Whether there is something to compare."""
        return len(self.images) > 1


@dataclass(frozen=True)
class ShownFinding:
    """A finding with the cases that are shown, `more` of them not; `doubtful` where it is about labels."""

    finding: Finding
    severity: str
    cases: tuple[Case, ...]
    more: int
    doubtful: bool


def evidence(audit: AuditResult | None, album: Album, times: int = 1) -> tuple[ShownFinding, ...]:
    """Every finding, serious ones first, with a few of its cases, or `times` as many."""
    findings = audit.findings if audit else ()
    return tuple(
        _evidence(found, album, times) for severity in SEVERITIES for found in findings if found.severity == severity
    )


def _evidence(finding: Finding, album: Album, times: int) -> ShownFinding:
    doubtful = any(group.suggested for group in finding.groups)
    shown = finding.groups[: times * (MISLABELLED if doubtful else GROUPS[finding.severity])]
    return ShownFinding(
        finding=finding,
        severity=SEVERITY_WORDS[finding.severity],
        cases=tuple(_case(group, album) for group in shown),
        more=len(finding.groups) - len(shown),
        doubtful=doubtful,
    )


def _case(group: ImageGroup, album: Album) -> Case:
    splits = group.splits or ("",) * len(group.paths)
    images = [
        ShownImage(path, label, split, album.uri(path))
        for path, label, split in list(zip(group.paths, group.labels, splits, strict=True))[:SIDE_BY_SIDE]
    ]
    return Case(tuple(images), group.caption, group.suggested, len(group.paths) - len(images))
