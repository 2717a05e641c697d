"""From logits to what is written: predictions, metrics, the report. Shared by finetune and evaluate."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.core.atomic import replacing, write_json
from tlkit.core.errors import UnreadableImage
from tlkit.core.manifest import Manifest
from tlkit.core.predictions import Predictions
from tlkit.core.results import EvaluationResult
from tlkit.core.splits import SPLITS, Splits
from tlkit.data.images import thumbnail
from tlkit.report.build import Data, Page, write_report

THUMBNAIL_SIDE = 160
THUMBNAIL_QUALITY = 80


def build_predictions(
    manifest: Manifest, splits: Splits, logits: np.ndarray, temperature: float, classes: tuple[str, ...]
) -> Predictions:
    """Key the logits (N, K) of a manifest's images by path."""
    return Predictions(
        paths=list(manifest.paths),
        sha256=[row.tobytes().hex() for row in manifest.sha256],
        labels=manifest.labels,
        splits=splits.codes,
        logits=logits,
        classes=classes,
        temperature=temperature,
    )


def data_section(manifest: Manifest, splits: Splits, notes: tuple[str, ...] = ()) -> Data:
    """The report's section on the images."""
    labels = manifest.labels
    counts = {
        name: np.bincount(labels[(splits.codes == code) & (labels >= 0)], minlength=len(manifest.classes)).tolist()
        for code, name in enumerate(SPLITS)
        if (splits.codes == code).any()
    }
    return Data(
        classes=manifest.classes,
        counts=counts or {"images": manifest.class_counts().tolist()},
        rule=splits.rule,
        set_aside=manifest.set_aside,
        ignored=manifest.ignored,
        notes=notes,
    )


def thumbnails(root: Path) -> Callable[[str], bytes | None]:
    """Small JPEGs for the report, by path as in the manifest; None for a file that is gone."""

    def make(path: str) -> bytes | None:
        try:
            image = thumbnail(root / path, THUMBNAIL_SIDE)
        except UnreadableImage:
            return None
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
        return buffer.getvalue()

    return make


def write_outcome(folder: Path, predictions: Predictions, evaluation: EvaluationResult, page: Page) -> dict[str, Any]:
    """Write predictions.csv, metrics.json, per_class.csv and report.html; each appears whole or not at all.

    Returns:
        The content of metrics.json.
    """
    predictions.write_csv(folder / "predictions.csv")
    metrics = evaluation.metrics_json()
    write_json(folder / "metrics.json", metrics)
    _write_per_class(folder / "per_class.csv", evaluation)
    write_report(folder / "report.html", page)
    return metrics


def _write_per_class(path: Path, evaluation: EvaluationResult) -> None:
    """Columns split, class, support, predicted, precision, recall, f1; empty where a ratio is not defined."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["split", "class", "support", "predicted", "precision", "recall", "f1"])
        for split, result in evaluation.splits.items():
            writer.writerows([split, *astuple(row)] for row in result.classes)


def told(metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    """Accuracy and macro F1 of each split, in lines."""
    lines = []
    for split, found in metrics.items():
        accuracy, f1 = found["accuracy"], found.get("macro_f1", {"value": None})
        interval = f" [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" if accuracy["low"] is not None else ""
        value = f"{accuracy['value']:.4f}" if accuracy["value"] is not None else "not defined"
        macro = f", macro F1 {f1['value']:.4f}" if f1["value"] is not None else ""
        lines.append(f"  {split:<6} accuracy {value}{interval}{macro}, n = {accuracy['n']}")
    return "\n".join(lines)
