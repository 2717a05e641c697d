"""The audit: every check of the table, timed, its findings together."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlkit.auditing import files, flips, labels, outliers, related, shortcuts
from tlkit.auditing.evidence import Evidence, Mirrored, unlearnable
from tlkit.auditing.findings import SEVERITIES, AuditResult, Finding, by_severity
from tlkit.auditing.flips import Mirror, sample
from tlkit.base.files import write_json
from tlkit.base.story import Silence, Story
from tlkit.data.dataset import UNASSIGNED, Dataset, Splits
from tlkit.data.look import looks_of
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.store import Rows
from tlkit.options.commands import AuditConfig, FinetuneConfig
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import row_of
from tlkit.tasks.single import SINGLE

SAID_BEFORE = ("dark",)  # findings that a run reports when it begins
OF_TRAINING = ("flips",)  # findings about an option of the run: their remedy is always printed


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


class Doubts(NamedTuple):
    """How wrong labels are found, for a task.

    Args:
        run: the findings.
        lacks: why it cannot be run, "" where it can.
    """

    run: Callable[[Evidence], Iterable[Finding]]
    lacks: Callable[[Evidence], str]


DOUBTS = {
    SINGLE.name: Doubts(labels.check_classes, unlearnable),
    MULTI.name: Doubts(labels.check_classes, unlearnable),
    ORDINAL.name: Doubts(labels.check_classes, unlearnable),
    NUMBER.name: Doubts(labels.check_numbers, labels.numbers_lack),
}
"""One row for each task."""


def _doubts(evidence: Evidence) -> Iterable[Finding]:
    return row_of(DOUBTS, evidence.dataset.task).run(evidence)


def _no_doubts(evidence: Evidence) -> str:
    return row_of(DOUBTS, evidence.dataset.task).lacks(evidence)


CHECKS = (
    Check("files", "unreadable, turned, animated and misnamed files", files.check, _nothing),
    Check("blank", "images that are one colour throughout", files.check_blank, _nothing),
    Check("dark", "scans of more than 8 bits that use a small part of their range", files.check_dark, _nothing),
    Check("copies", "the same picture across splits, across classes, or twice", related.check_copies, _nothing),
    Check("groups", "clips, bursts and subjects that belong on one side of a split", related.check_groups, _nothing),
    Check("shortcuts", "classes that can be predicted without looking at the object", shortcuts.check, unlearnable),
    Check("labels", "labels that are likely wrong", _doubts, _no_doubts),
    Check("flips", "classes that become others when mirrored", flips.check, _mirror),
    Check("classes", "tiny, unequal and missing classes", labels.check_sizes, _labels),
    Check("unfamiliar", "images unlike the others", outliers.check_distance, _nothing),
    Check("outliers", "odd size, shape, brightness and blur", outliers.check_looks, _nothing),
)


def audit(evidence: Evidence, *, checks: Sequence[Check] | None = None, story: Story | None = None) -> AuditResult:
    """Run the checks, by default those of the table, on the evidence; a check that cannot be run gives the reason."""
    story = story or Silence()
    findings: list[Finding] = []
    reasons, seconds = {}, {}
    checks = CHECKS if checks is None else checks
    for number, check in enumerate(checks, start=1):
        started = time.monotonic()
        evidence.story, evidence.heard = story, partial(_reached, story, number - 1, len(checks))
        reasons[check.name] = check.lacks(evidence)
        if not reasons[check.name]:
            findings += check.run(evidence)
        seconds[check.name] = round(time.monotonic() - started, 3)
        story.reach(number, len(checks))
        story.detail(f"  {check.name}: {reasons[check.name] or f'{seconds[check.name]:.1f} s'}")
    return AuditResult(
        images=len(evidence),
        classes=evidence.dataset.classes,
        findings=by_severity(findings),
        checks=reasons,
        seconds=seconds,
    )


def _reached(story: Story, done: int, checks: int, part: float) -> None:
    """Report progress: the number of checks done, and the part of the next one."""
    story.reach(done + part, checks)


def quick(
    config: FinetuneConfig,
    dataset: Dataset,
    splits: Splits,
    source: FeatureSource,
    rows: Rows | None,
    path: Path,
    story: Story,
) -> Evidence:
    """The audit at the start of a run: short lines, and audit.json at `path`.

    Args:
        config: of the run.
        dataset: its images.
        splits: of them.
        source: of features to compare the images by.
        rows: of the source, for every image; None where the run keeps none.
        path: of the file to write.
        story: reports the findings.

    Returns:
        The evidence: in `pictures` (N,), images of the same picture share a number.
    """
    started = time.monotonic()
    if rows is None:  # a run that recomputes every view keeps none
        rows = source.rows(dataset, story=story)
    evidence = gather(config, dataset, splits, rows.pooled(), source, story)
    result = audit(evidence, story=story)
    write_json(path, result.as_json())
    story.say(lines(result, full=False))
    story.say(f"audit: {summary(result)}, in {time.monotonic() - started:.1f} s; all of it: {path}")
    return evidence


def gather(
    config: AuditConfig | FinetuneConfig,
    dataset: Dataset,
    splits: Splits,
    features: np.ndarray,
    source: FeatureSource,
    story: Story,
) -> Evidence:
    """Gather what the checks read: facts of the files, and features of some mirror images."""
    flips = isinstance(config, AuditConfig) or (config.flip and config.augment != "none")
    rows = sample(dataset.labels, config.seed)
    mirrored = None
    if len(rows) and flips:
        mirrored = Mirrored(rows, source.rows(dataset.select(rows), 1, augmentation=Mirror()).pooled())
    return Evidence(
        dataset=dataset,
        codes=splits.codes,
        features=features,
        looks=looks_of(dataset, story),
        images=config.images or "",
        asked=config,
        given=not dataset.drawn and bool((dataset.given != UNASSIGNED).any()),
        mirrored=mirrored,
        seed=config.seed,
        levelled=source.contract.levels is not None,
    )


def lines(result: AuditResult, *, full: bool) -> str:
    """The findings as text, serious ones first; with remedies and commands for all of them if `full`, else for a few."""
    text = []
    for finding in result.findings:
        if not full and finding.check in SAID_BEFORE:
            continue
        text.append(f"  {finding.severity}: {finding.sentence}")
        if full or finding.severity == "serious" or finding.check in OF_TRAINING:
            text += [f"    {finding.remedy}"] + ([f"    $ {finding.command}"] if finding.command else [])
    left_out = [f"  not checked: {name} ({reason})" for name, reason in result.checks.items() if reason]
    return "\n".join([*text, *(left_out if full else [])]) or "  nothing found"


def summary(result: AuditResult) -> str:
    """`2 serious, 1 warning, 3 notes`."""
    counts = result.counts
    plural = {"serious": "serious", "warning": "warnings", "note": "notes"}
    return ", ".join(f"{counts[name]} {name if counts[name] == 1 else plural[name]}" for name in SEVERITIES)
