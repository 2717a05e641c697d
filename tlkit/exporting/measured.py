"""The decisions that an artifact changes, on images of the run; and a table of artifacts."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import percent
from tlkit.classifier.answers import image_scores
from tlkit.exporting.artifact import model_bytes
from tlkit.exporting.formats import BATCH
from tlkit.exporting.golden import agreement, excess
from tlkit.exporting.in_savedmodel import as_png, open_encoded
from tlkit.exporting.writers import CheckImages, Subject
from tlkit.options.catalog import FORMATS
from tlkit.pixels.sniff import HEADER_BYTES, sniff
from tlkit.tasks.registry import of_truth

IN_GRAPH = ("JPEG", "PNG", "GIF", "BMP")  # decoded by TensorFlow


def decisions(subject: Subject, golden: np.ndarray, checked: np.ndarray | None) -> dict[str, Any]:
    """How many images keep their most probable class, and which images those were.

    Args:
        subject: what was exported.
        golden: logits (G, K) of the golden images in the runtime.
        checked: logits (n, K) of the check images in the runtime; None where there are none.
    """
    if subject.check is None or checked is None:
        same, of, count = agreement(golden, subject.expected["logits"], subject.task), "golden", len(golden)
    else:
        same, of = agreement(checked, subject.check.logits, subject.task), subject.check.split
        count = len(checked)
    return {"agreement": same, "images": count, "of": of}


def quantised_cost(check: CheckImages, checked: np.ndarray, calibration: int) -> dict[str, Any]:
    """The accuracy lost to quantisation to 8 bits, on images of the run that were not trained on.

    Args:
        check: the images, with the logits of float32.
        checked: their logits (n, K) in 8 bits.
        calibration: how many training images the ranges were found on; 0 where only weights are in 8 bits.
    """
    return {
        "calibration_images": calibration,
        "images": len(checked),
        "split": check.split,
        "agreement": agreement(checked, check.logits, of_truth(check.labels)),
        "accuracy": float(image_scores(check.logits, check.labels).mean()),
        "accuracy_quantised": float(image_scores(checked, check.labels).mean()),
    }


def encoded_difference(model: Path, subject: Subject) -> dict[str, Any]:
    """The difference of the signature for encoded bytes from tlkit's own decoding.

    Raises:
        TlkitError: there is one on PNG files of the input's size, where there should be none.
    """
    call = open_encoded(model)
    exact = call([as_png(image) for image in subject.golden.images])
    held, due = (
        subject.task.comparable(one, subject.expected["logits"]) for one in (exact, subject.expected["logits"])
    )
    if excess(held, due) > 1:
        raise TlkitError(
            "the signature for encoded bytes gives other logits for PNG files that need no resizing.",
            "export to another format, and report this.",
        )
    logits, expected, of = exact, subject.expected["logits"], "drawn images as PNG"
    if subject.check is not None:
        rows = [i for i, file in enumerate(subject.check.files) if _kind(file) in IN_GRAPH]
        if rows:
            contents = (subject.check.files[i].read_bytes() for i in rows)
            logits = np.concatenate([call(batch) for batch in _batches(contents)])
            expected, of = subject.check.logits[rows], f"{subject.check.split} images"
    apart = np.abs(logits - expected).max(axis=1)
    return {
        "signature": "encoded",
        "images": len(logits),
        "of": of,
        "median_difference": float(np.median(apart)),
        "max_difference": float(apart.max()),
        "agreement": agreement(logits, expected, subject.task),
    }


def _kind(file: Path) -> str | None:
    with file.open("rb") as content:
        return sniff(content.read(HEADER_BYTES))


def _batches(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    waiting: list[bytes] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def table(contracts: Iterable[dict[str, Any]]) -> str:
    """A Markdown table of artifacts: size, largest difference of a logit, decisions, latency."""
    lines = [
        "| format | size, MB | largest difference of a logit | same class | accuracy | ms per image | runtime |",
        "|---|---|---|---|---|---|---|",
    ]
    for contract in contracts:
        found, quantised = contract["measured"], contract["quantised"]
        samples = "clips" if "mask" in contract else "images"
        cells = [
            FORMATS[contract["kind"]].name,
            f"{model_bytes(contract) / 1e6:.2f}",
            f"{found['max_difference']:.1e}",
            f"{percent(found['agreement'], 1)} of {found['images']} {found['of']} {samples}",
            _accuracy(quantised) if quantised else "",
            f"{found['latency_ms']:.2f}",
            found["runtime"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(quantised: dict[str, Any]) -> str:
    return f"{quantised['accuracy']:.3f} → {quantised['accuracy_quantised']:.3f}"
