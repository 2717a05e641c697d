"""The audit: every check of the table, timed, its findings together."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tlkit.auditing import bursts, classes, copies, files, flips, mislabelled, outliers, shortcuts, unfamiliar
from tlkit.auditing.evidence import Evidence, unlearnable
from tlkit.auditing.findings import AuditResult, Finding, by_severity
from tlkit.base.story import Silence, Story


class Check(NamedTuple):
    """One row of the table.

    Args:
        name: in findings and in audit.json.
        what: what it looks for, a few words.
        run: its findings.
        lacks: why it cannot be run on this evidence, "" where it can.
    """

    name: str
    what: str
    run: Callable[[Evidence], Iterable[Finding]]
    lacks: Callable[[Evidence], str]


def _nothing(evidence: Evidence) -> str:
    return ""


def _labels(evidence: Evidence) -> str:
    return "" if evidence.dataset.labelled.any() else "needs labels"


def _mirror(evidence: Evidence) -> str:
    if evidence.mirrored is None and evidence.dataset.task.can("audit"):
        return "mirror images were not computed"
    return unlearnable(evidence)


CHECKS = (
    Check("files", "unreadable, turned, animated and misnamed files", files.check, _nothing),
    Check("copies", "the same picture across splits, across classes, or twice", copies.check, _nothing),
    Check("groups", "clips, bursts and subjects that belong on one side of a split", bursts.check, _nothing),
    Check("shortcuts", "classes that can be predicted without looking at the object", shortcuts.check, unlearnable),
    Check("labels", "labels that are likely wrong", mislabelled.check, unlearnable),
    Check("flips", "classes that become others when mirrored", flips.check, _mirror),
    Check("classes", "tiny, unequal and missing classes", classes.check, _labels),
    Check("unfamiliar", "images unlike the others", unfamiliar.check, _nothing),
    Check("outliers", "odd size, shape, brightness and blur", outliers.check, _nothing),
)


def audit(evidence: Evidence, *, checks: Sequence[Check] | None = None, story: Story | None = None) -> AuditResult:
    """Run the checks, those of the table unless given, on the evidence; a check that cannot be run gives the reason."""
    story = story or Silence()
    findings: list[Finding] = []
    reasons, seconds = {}, {}
    for check in CHECKS if checks is None else checks:
        started = time.monotonic()
        reasons[check.name] = check.lacks(evidence)
        if not reasons[check.name]:
            findings += check.run(evidence)
        seconds[check.name] = round(time.monotonic() - started, 3)
        story.detail(f"  {check.name}: {reasons[check.name] or f'{seconds[check.name]:.1f} s'}")
    return AuditResult(
        images=len(evidence),
        classes=evidence.dataset.classes,
        findings=by_severity(findings),
        checks=reasons,
        seconds=seconds,
    )
