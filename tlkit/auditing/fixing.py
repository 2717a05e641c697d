"""The fixes that an audit proposes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.auditing.evidence import Evidence, unlearnable
from tlkit.auditing.findings import AuditResult, Finding, ImageGroup
from tlkit.auditing.labels import label_quality
from tlkit.auditing.outliers import unfamiliarity
from tlkit.auditing.related import bursts, together
from tlkit.base.files import BYTES_AS_TEXT, CellWriter, Texts, replacing
from tlkit.data.fixes import Fix
from tlkit.data.table import CLIP
from tlkit.tasks.task import UNLABELLED


def proposed_fixes(result: AuditResult) -> list[Fix]:
    """One fix for each image at most, in the order of the findings: a drop takes precedence over a new label."""
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
    """Copies with different labels are dropped until a person has decided which label is right."""
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


# -- What was found about each image, as tables with one row for each --------------------------

TOGETHER = 4096  # images whose rows are made at a time
COLUMNS = (
    *("path", "label", "split", "picture", "label_quality", "suggested", "unfamiliarity"),
    *("format", "width", "height", "brightness", "contrast", "sharpness"),
)


def write_images(file: Path, evidence: Evidence) -> None:
    """Write images.csv atomically: equal `picture` numbers show the same picture, a low `label_quality` is doubtful."""
    quality, suggested = np.full(len(evidence), np.nan), np.full(len(evidence), UNLABELLED)
    if not unlearnable(evidence):
        quality[evidence.labelled] = label_quality(evidence)
        suggested[evidence.labelled] = np.where(evidence.probe.judged, evidence.probe.predicted, UNLABELLED)
    strange = unfamiliarity(evidence)
    with (
        replacing(file) as temporary,
        temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as stream,
    ):
        writer = CellWriter(stream)
        writer.writerow(COLUMNS)
        for start in range(0, len(evidence), TOGETHER):
            rows = np.arange(start, min(start + TOGETHER, len(evidence)))
            writer.writerows(_rows(evidence, rows, quality[rows], suggested[rows], strange[rows]))


def _rows(
    evidence: Evidence, rows: np.ndarray, quality: np.ndarray, suggested: np.ndarray, strange: np.ndarray
) -> Iterator[tuple[Any, ...]]:
    """The cells of some images."""
    shown, looks, classes = evidence.group(rows), evidence.looks.select(rows), (*evidence.dataset.classes, "")
    columns = (
        *(shown.paths, shown.labels, shown.splits, evidence.pictures[rows].tolist(), _written(quality, 4)),
        *([classes[label] for label in suggested], _written(strange, 5), looks.format.tolist()),
        *(looks.width.tolist(), looks.height.tolist(), _written(looks.brightness, 1), _written(looks.contrast, 1)),
        _written(looks.sharpness, 2),
    )
    return zip(*columns, strict=True)


def write_grouped(file: Path, evidence: Evidence) -> None:
    """Write the images as a table whose column `group` keeps together copies, bursts and groups that were named."""
    dataset = evidence.dataset
    absolute = Texts.of(str((dataset.root / path).resolve()) for path in dataset.paths)
    named = Texts.of(f"picture-{number}" for number in together(evidence.units, bursts(evidence.looks)))
    columns = {name: column for name, column in dataset.extra.items() if name != CLIP}  # these are single images
    replace(dataset, paths=absolute, groups=named, extra=columns).write_csv(file)


def _written(values: np.ndarray, digits: int) -> list[str]:
    """Numbers with fixed decimals, "" where there is none."""
    return ["" if np.isnan(value) else f"{value:.{digits}f}" for value in values.tolist()]
