"""Duplicates: the same picture across splits, across classes, or more than once in one."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tlkit.auditing.evidence import Evidence, counted, share
from tlkit.auditing.findings import Finding, ImageGroup
from tlkit.data.dataset import SPLITS
from tlkit.options import advice

TRAIN = SPLITS.index("train")
MANY_CONFLICTS = 0.01  # of the images
FEW_LEAKS = 0.01  # of the images of val or test: below it the results hardly move


def check(evidence: Evidence) -> Iterator[Finding]:
    """One finding for copies across splits, one for copies across classes, one for the rest."""
    groups = _groups(evidence.pictures)
    across_splits = [rows for rows in groups if len(set(evidence.codes[rows].tolist()) - {-1}) > 1]
    across_classes = [rows for rows in groups if len({evidence.dataset.label_name(row) for row in rows} - {""}) > 1]
    reported = {int(rows[0]) for rows in (*across_splits, *across_classes)}
    yield from _leaks(evidence, across_splits)
    yield from _conflicts(evidence, across_classes)
    yield from _repeats(evidence, [rows for rows in groups if int(rows[0]) not in reported])


def _groups(pictures: np.ndarray) -> list[np.ndarray]:
    """Rows of every picture that occurs more than once."""
    order = np.argsort(pictures, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(pictures[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _leaks(evidence: Evidence, groups: list[np.ndarray]) -> Iterator[Finding]:
    if not groups:
        return
    codes = evidence.codes
    in_train = np.zeros(len(evidence), bool)
    for rows in groups:
        in_train[rows] = (codes[rows] == TRAIN).any()
    counts = {
        split: (int((in_train & (codes == code)).sum()), int((codes == code).sum()))
        for code, split in enumerate(SPLITS)
        if code != TRAIN and (codes == code).any()
    }
    leaked = ", ".join(
        f"{part:,} of {whole:,} {split} images ({share(part, whole)})"
        for split, (part, whole) in counts.items()
        if part
    )
    where = f"{leaked} are also in train" if leaked else "val and test share them"
    identical = sum(_identical(evidence, rows) for rows in groups)
    worst = max((part / whole for part, whole in counts.values()), default=0.0)
    yield Finding(
        check="copies",
        severity="serious" if worst > FEW_LEAKS else "warning",
        sentence=(
            f"{counted(len(groups), 'picture lies', 'pictures lie')} on both sides of the split "
            f"({identical:,} of them byte for byte): {where}, which flatters the results."
        ),
        remedy=(
            "Drop the copies from train; the file of fixes lists them."
            if evidence.given
            else "Keep copies on one side of the split: the table that the audit wrote names a group for each picture."
        ),
        command=_leak_command(evidence),
        groups=_shown(evidence, groups),
        facts={"kind": "splits", "pictures": len(groups), "identical": identical, "leaked": counts},
    )


def _leak_command(evidence: Evidence) -> str:
    """In a run the audit comes first, with the run's network: another finds other copies, and leads in a circle."""
    if evidence.given:
        fixes = advice.free("fixes.csv")
        return f"{evidence.audit_into_fixes()} && {evidence.finetune('--fixes', fixes)}"
    if evidence.grouped_file:
        return evidence.grouped_command
    grouped = f"{advice.free('audit')}/grouped.csv"
    return f"{advice.audit(evidence.asked, evidence.images)} && {advice.finetune(evidence.asked, grouped, own=False)}"


def _conflicts(evidence: Evidence, groups: list[np.ndarray]) -> Iterator[Finding]:
    if not groups:
        return
    identical = [rows for rows in groups if _contradicts_itself(evidence, rows)]
    near = [rows for rows in groups if not _contradicts_itself(evidence, rows)]
    where = evidence.dataset.task.conflict
    many = sum(map(len, identical)) > MANY_CONFLICTS * len(evidence)
    yield Finding(
        check="copies",
        severity="serious" if many else "warning",
        sentence=(
            f"{counted(len(groups), 'picture is', 'pictures are')} {where} ({len(identical):,} of them byte for "
            "byte): one of the labels is wrong, or the classes are hard to distinguish."
        ),
        remedy="Look at them and keep the right one; the file of fixes drops those that are byte for byte.",
        command=evidence.audit_into_fixes(),
        groups=(*_shown(evidence, identical), *(replace(group, score=None) for group in _shown(evidence, near))),
        facts={"kind": "classes", "pictures": len(groups), "identical": len(identical)},
    )


def _contradicts_itself(evidence: Evidence, rows: np.ndarray) -> bool:
    """Whether the same file has two labels."""
    named = {(int(evidence.first_copy[row]), evidence.dataset.label_name(row)) for row in rows}
    return len({first for first, _ in named}) < len(named)


def _repeats(evidence: Evidence, groups: list[np.ndarray]) -> Iterator[Finding]:
    if not groups:
        return
    identical = sum(_identical(evidence, rows) for rows in groups)
    yield Finding(
        check="copies",
        severity="note",
        sentence=(
            f"{counted(len(groups), 'picture occurs', 'pictures occur')} more than once in one class and split "
            f"({identical:,} of them byte for byte): they count more than others."
        ),
        remedy="Drop the copies if they are not intended; the file of fixes lists those that are byte for byte.",
        command=evidence.audit_into_fixes(),
        groups=_shown(evidence, groups),
        facts={"kind": "repeats", "pictures": len(groups), "identical": identical},
    )


def _identical(evidence: Evidence, rows: np.ndarray) -> bool:
    """Whether two of them are the same file."""
    return len(np.unique(evidence.first_copy[rows])) < len(rows)


def _shown(evidence: Evidence, groups: list[np.ndarray]) -> tuple[ImageGroup, ...]:
    left, _, agreement = evidence.pairs
    best = np.zeros(len(evidence))
    np.maximum.at(best, evidence.pictures[left], agreement)
    found = []
    for rows in groups:
        exact = _identical(evidence, rows)
        score = 1.0 if exact else float(best[evidence.pictures[rows[0]]])
        found.append(evidence.group(rows, "byte for byte" if exact else f"agreement {score:.2f}", score=score))
    return tuple(sorted(found, key=lambda group: -(group.score or 0)))
