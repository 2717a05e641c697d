"""From findings to fixes: what a file of fixes proposes."""

from collections.abc import Iterator

from tlkit.core.findings import AuditResult, Finding, ImageGroup
from tlkit.data.fixes import Fix


def proposed_fixes(result: AuditResult) -> list[Fix]:
    """One fix for each image at most, in the order of the findings: a drop goes before a new label."""
    fixes: dict[str, Fix] = {}
    for kind in ("splits", "classes", "repeats", "labels"):
        for finding in result.findings:
            if (finding.check == "labels" and kind == "labels") or finding.facts.get("kind") == kind:
                for fix in _of(finding, kind):
                    fixes.setdefault(fix.path, fix)
    return list(fixes.values())


def _of(finding: Finding, kind: str) -> Iterator[Fix]:
    for group in finding.groups:
        yield from _PROPOSALS[kind](group)


def _leaked(group: ImageGroup) -> Iterator[Fix]:
    """Copies leave train, so that val and test stay as they are; between val and test, test stays."""
    present = [split for split in ("test", "val", "train") if split in group.splits]
    kept = group.paths[group.splits.index(present[0])]
    for path, split in zip(group.paths, group.splits, strict=True):
        if split != present[0]:
            yield Fix(path, "drop", reason=f"same picture as {kept} in {present[0]} ({group.caption})")


def _conflicting(group: ImageGroup) -> Iterator[Fix]:
    """Which label of the same file is right is for a person to say; until then none teaches."""
    names = ", ".join(sorted(set(group.labels)))
    for path in group.paths if group.score == 1.0 else ():
        yield Fix(path, "drop", reason=f"same picture in several classes: {names} ({group.caption})")


def _repeated(group: ImageGroup) -> Iterator[Fix]:
    """All but the first of files that are the same byte for byte."""
    if group.score == 1.0:
        for path in group.paths[1:]:
            yield Fix(path, "drop", reason=f"same picture as {group.paths[0]} ({group.caption})")


def _doubted(group: ImageGroup) -> Iterator[Fix]:
    yield Fix(group.paths[0], "relabel", group.suggested, f"{group.caption}; was {group.labels[0]}")


_PROPOSALS = {"splits": _leaked, "classes": _conflicting, "repeats": _repeated, "labels": _doubted}
