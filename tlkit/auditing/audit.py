"""The audit: every check of the table, timed, its findings together."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tlkit.auditing import blank, bursts, classes, copies, files, flips, mislabelled, outliers, shortcuts, unfamiliar
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
    learnable = evidence.mirrored is not None or evidence.dataset.multi
    return unlearnable(evidence) if learnable else "mirror images were not computed"


CHECKS = (
    Check("files", "unreadable, turned, animated and misnamed files", files.check, _nothing),
    Check("blank", "images that are one colour throughout", blank.check, _nothing),
    Check("copies", "the same picture across splits, across classes, or twice", copies.check, _nothing),
    Check("groups", "clips, bursts and subjects that should stay together", bursts.check, _nothing),
    Check("shortcuts", "classes that can be guessed without looking at the object", shortcuts.check, unlearnable),
    Check("labels", "labels that are likely wrong", mislabelled.check, unlearnable),
    Check("flips", "classes that are others in the mirror", flips.check, _mirror),
    Check("classes", "tiny, unequal and missing classes", classes.check, _labels),
    Check("unfamiliar", "images unlike the others", unfamiliar.check, _nothing),
    Check("outliers", "odd size, shape, brightness and blur", outliers.check, _nothing),
)


def audit(evidence: Evidence, *, checks: Sequence[Check] = CHECKS, story: Story | None = None) -> AuditResult:
    """Run the checks on the evidence; one that cannot be run says why."""
    story = story or Silence()
    findings: list[Finding] = []
    reasons, seconds = {}, {}
    for check in checks:
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
