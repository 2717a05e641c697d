"""What was found about each image, as tables: one row an image."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlkit.auditing.bursts import bursts, together
from tlkit.auditing.evidence import Evidence, unlearnable
from tlkit.auditing.mislabelled import label_quality
from tlkit.auditing.unfamiliar import unfamiliarity
from tlkit.core.atomic import replacing

COLUMNS = (
    *("path", "label", "split", "picture", "label_quality", "suggested", "unfamiliarity"),
    *("format", "width", "height", "brightness", "contrast", "sharpness"),
)


def write_images(file: Path, evidence: Evidence) -> None:
    """Write images.csv: equal `picture` numbers show the same picture; low `label_quality` is doubtful; atomic."""
    quality, suggested = np.full(len(evidence), np.nan), [""] * len(evidence)
    if not unlearnable(evidence):
        quality[evidence.labelled] = label_quality(evidence)
        for row, label in zip(evidence.labelled, evidence.probe.predicted, strict=True):
            suggested[row] = evidence.manifest.classes[label]
    looks = evidence.looks
    shown = evidence.group(range(len(evidence)))
    columns = (
        *(shown.paths, shown.labels, shown.splits, evidence.pictures.tolist(), _written(quality, 4), suggested),
        *(_written(unfamiliarity(evidence), 5), looks.format.tolist(), looks.width.tolist(), looks.height.tolist()),
        *(_written(looks.brightness, 1), _written(looks.contrast, 1), _written(looks.sharpness, 2)),
    )
    with (
        replacing(file) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*columns, strict=True))


def write_grouped(file: Path, evidence: Evidence) -> None:
    """Write the images as a table whose column `group` keeps copies, bursts and groups that were named together."""
    manifest = evidence.manifest
    absolute = [str((manifest.root / path).resolve()) for path in manifest.paths]
    named = [f"picture-{number}" for number in together(evidence.units, bursts(evidence.looks)).tolist()]
    replace(manifest, paths=absolute, groups=named).write_csv(file)


def _written(values: np.ndarray, digits: int) -> list[str]:
    """Numbers with fixed decimals, "" where there is none."""
    return ["" if np.isnan(value) else f"{value:.{digits}f}" for value in values.tolist()]
