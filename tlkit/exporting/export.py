"""One artifact: written, run in its own runtime, checked against Keras, described."""

from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import write_checked_json, write_text
from tlkit.base.machine import versions
from tlkit.base.story import percent
from tlkit.classifier.facts import ClipFacts
from tlkit.exporting import artifact
from tlkit.exporting.decoder import decoded_by_artifact, write_decoder
from tlkit.exporting.formats import version_of
from tlkit.exporting.golden import TOLERANCE, Golden, Inputs, agreement, difference, excess, refuse_different
from tlkit.exporting.in_litert import finds_ranges
from tlkit.exporting.measured import decisions, encoded_difference, quantised_cost, table
from tlkit.exporting.runtimes import Runtime
from tlkit.exporting.snippets import program, readme
from tlkit.exporting.writers import CheckImages, Subject, carries_features, has_encoded, write
from tlkit.extraction.onnx_engine import Outputs
from tlkit.options.catalog import Format
from tlkit.tasks.labels import as_lines
from tlkit.tasks.task import Task

# 8-bit kernels of different machines round some steps differently; this share of the largest logit is about six steps.
TOLERANCE_QUANTISED = 0.05
_OTHER = "another format may do: `tlkit export RUN --format keras` always does."


def export(row: Format, subject: Subject, folder: Path, min_agreement: float) -> dict[str, Any]:
    """Write one artifact into an empty folder; returns its contract.

    Args:
        row: the format.
        subject: what to export.
        folder: to fill.
        min_agreement: fraction of check images that must keep their class when a format is quantised, 0..1.

    Raises:
        TlkitError: it cannot be written, or its outputs differ from those of the classifier in Keras.
    """
    write(row, subject.classifier, folder / row.model, subject.calibration)
    write_decoder(folder)
    runtime = Runtime(row, folder)
    outputs, expected = runtime(subject.golden), subject.expected
    drawn = subject.golden
    golden = Golden(drawn.images, (expected if row.exact else outputs)["logits"], expected["logits"], drawn.mask)
    if row.exact:
        _refuse_unfaithful(row, golden, outputs, expected, subject.task)
    checked = None if subject.check is None else runtime(_read_again(folder, subject, subject.check))["logits"]
    contract = {
        **_facts(row, subject),
        "golden": {"file": artifact.GOLDEN, "images": len(golden.images), "tolerance": _tolerance(row)},
        "encoded": encoded_difference(folder / row.model, subject) if has_encoded(row, subject.classifier) else None,
        "quantised": None if row.exact else _quantised(row, subject, checked, min_agreement),
        "measured": {
            "runtime": runtime.name,
            "max_difference": difference(outputs["logits"], expected["logits"]),
            **decisions(subject, outputs["logits"], checked),
            "latency_ms": round(runtime.latency(subject.golden), 3),
        },
    }
    return _describe(folder, contract, golden, subject)


def _read_again(folder: Path, subject: Subject, check: CheckImages) -> Inputs:
    """The check images, or clips, through the artifact's own decoder, from their files.

    Raises:
        TlkitError: its pixels differ from those of tlkit.
    """
    images = decoded_by_artifact(folder, subject.classifier.facts.contract, check.files)
    mask = check.samples.mask
    known = check.samples.images if mask is None else check.samples.images[mask > 0]
    other = [str(file) for file, one, ours in zip(check.files, images, known, strict=True) if (one != ours).any()]
    if other:
        raise TlkitError(
            f"the decoder in {folder} decodes {len(other)} images to other pixels than tlkit: {', '.join(other[:3])}.",
            "report this; `tlkit predict` works.",
        )
    return check.samples


def _tolerance(row: Format) -> float:
    return TOLERANCE if row.exact else TOLERANCE_QUANTISED


def _refuse_unfaithful(row: Format, golden: Golden, outputs: Outputs, expected: Outputs, task: Task) -> None:
    what = f"this classifier as {row.name}"
    refuse_different(outputs["logits"], golden, TOLERANCE, what, _OTHER, task)
    if "features" in outputs and excess(outputs["features"], expected["features"]) > 1:
        apart = difference(outputs["features"], expected["features"])
        raise TlkitError(f"{what} gives other features than in Keras: they differ by {apart:.3g}.", _OTHER)


def _quantised(row: Format, subject: Subject, checked: np.ndarray | None, min_agreement: float) -> dict[str, Any]:
    """The cost of quantisation; raises where it is too high."""
    if subject.check is None or checked is None or subject.calibration is None:
        raise TlkitError(f"{row.name} needs images of the run to be measured on.", "give the run folder.")
    same = agreement(checked, subject.check.logits, subject.task)
    if same < min_agreement:
        raise TlkitError(
            f"in 8 bits only {percent(same, 1)} of {len(checked)} {subject.check.split} images keep their class, "
            f"--min-agreement is {percent(min_agreement, 1)}.",
            "calibrate on more images (--calibration-images), lower --min-agreement, or use --format litert.",
        )
    calibrated = len(subject.calibration) if finds_ranges(subject.classifier) else 0
    return quantised_cost(subject.check, checked, calibrated)


def _facts(row: Format, subject: Subject) -> dict[str, Any]:
    """The facts of the classifier, and its inputs and outputs."""
    facts, features = subject.classifier.facts, carries_features(row, subject.classifier)
    outputs = {"logits": [row.batch, len(facts.classes)]}
    if features:
        outputs["features"] = [row.batch, subject.expected["features"].shape[1]]
    return {
        "format": artifact.ARTIFACT_FORMAT,
        "kind": row.name,
        "model": row.model,
        "input": {
            "name": "images",
            "shape": [
                row.batch,
                *([facts.clip.frames] if facts.clip else []),
                facts.contract.height,
                facts.contract.width,
                3,
            ],
            "dtype": "float32",
            "colour": "RGB",
            "range": [0, 255],
            **facts.contract.as_json(),
        },
        **({} if facts.clip is None else {"mask": _mask(row, facts.clip)}),
        "outputs": outputs,
        "classes": list(facts.classes),
        "task": facts.task.name,
        "margins": facts.margins,
        "temperature": facts.temperature,
        "threshold": facts.threshold,
        "target_precision": facts.target_precision,
        "unfamiliarity": artifact.FAMILIARITY if features else None,
        "backbone": facts.backbone,
        "grid_layer": facts.grid_layer,
        "source_sha256": subject.sha256,
        "versions": versions() | dict(version_of(module).split() for module in row.writing),
    }


def _mask(row: Format, clip: ClipFacts) -> dict[str, Any]:
    """The second input of a classifier of clips, and how the frames of a clip are chosen."""
    shape = [row.batch, clip.frames]
    return {"name": "mask", "shape": shape, "dtype": "float32", "range": [0, 1], "stride": clip.stride}


def _describe(folder: Path, contract: dict[str, Any], golden: Golden, subject: Subject) -> dict[str, Any]:
    """Write the files beside the model; the contract comes last and describes the rest."""
    golden.write(folder / artifact.GOLDEN)
    write_text(folder / artifact.LABELS, as_lines(contract["classes"]))
    if contract["unfamiliarity"] and subject.classifier.familiarity is not None:
        (folder / artifact.FAMILIARITY).write_bytes(subject.classifier.familiarity.to_bytes())
    write_text(folder / artifact.PROGRAM, program(contract))
    measured = contract | {"files": artifact.describe_files(folder)}
    write_text(folder / artifact.README, readme(measured, table([measured])))
    contract = contract | {"files": artifact.describe_files(folder)}
    write_checked_json(folder / artifact.CONTRACT, contract)
    return contract
