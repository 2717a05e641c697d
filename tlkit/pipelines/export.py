"""`tlkit export`: write artifacts that other runtimes run without tlkit, each checked against Keras first.

tlkit export run --format onnx
tlkit export run --format keras,savedmodel,onnx,litert,litert-int8,openvino --out exported
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.errors import OutOfDate, TlkitError
from tlkit.base.files import replacing_all
from tlkit.base.story import Phase, Silence, Story, percent
from tlkit.classifier.facts import Facts, read_facts, refuse_clips
from tlkit.classifier.model import load
from tlkit.data.dataset import Dataset, Splits
from tlkit.data.decode import batches
from tlkit.exporting.artifact import CONTRACT, model_bytes, sha256_of
from tlkit.exporting.export import export
from tlkit.exporting.formats import refuse_missing_of
from tlkit.exporting.golden import Inputs, draw_inputs
from tlkit.exporting.measured import table
from tlkit.exporting.writers import CheckImages, Subject, in_keras
from tlkit.options.catalog import FORMATS
from tlkit.options.commands import ExportConfig
from tlkit.runs import record
from tlkit.runs.folder import RunDir, finished_model

CHECKED_ON = ("test", "val")  # the first of these splits that the run has


def run(config: ExportConfig, story: Story | None = None) -> dict[str, Any]:
    """Write every requested format; all of them appear, or none.

    Returns:
        `out`, `artifacts` (for each: `kind`, `folder`, `bytes` of the model, and what contract.json has under
        `measured`, `encoded` and `quantised`) and `text`, a table of them.

    Raises:
        TlkitError: for missing packages, an occupied `out`, missing images that are needed, or an artifact whose output
            differs from the classifier's in Keras.
    """
    story, out = story or Silence(), Path(config.out)
    refuse_missing_of(config.format)
    _refuse_strangers(out, config)
    model = finished_model(config.run)
    if quantised := next((name for name in config.format if not FORMATS[name].exact), None):
        refuse_clips(read_facts(model), f"--format {quantised}", "use another format, such as onnx or litert.")
        read_facts(model).task.refuse("quantised", f"--format {quantised}")
    story.expect(
        Phase("opening the classifier", 5.0),
        *(Phase(f"reading {split} images", 1.0) for split in (*CHECKED_ON, "train")),
        *(Phase(f"writing {name}", 10.0) for name in config.format),
    )
    story.begin("opening the classifier")
    subject = _subject(config, model, story)
    with _folders(out, config.format) as folders:
        contracts = []
        for name, folder in folders.items():
            story.begin(f"writing {name}")
            story.say(f"{name}: writing and comparing with Keras")
            contracts.append(export(FORMATS[name], subject, folder, config.min_agreement))
            story.reach(1, 1)
    for contract in contracts:
        for sentence in _notes(contract):
            story.say(sentence)
    return {"out": config.out, "artifacts": [_row(out, contract) for contract in contracts], "text": table(contracts)}


def _row(out: Path, contract: dict[str, Any]) -> dict[str, Any]:
    kept = ("kind", "measured", "encoded", "quantised")
    return {
        "folder": str(out / contract["kind"]),
        "bytes": model_bytes(contract),
        **{name: contract[name] for name in kept},
    }


def _notes(contract: dict[str, Any]) -> list[str]:
    """Notes below the table."""
    notes, encoded = [], contract["encoded"]
    if encoded:
        notes.append(
            f"{contract['kind']}: the signature for encoded bytes decodes in TensorFlow: on {encoded['images']} "
            f"{encoded['of']} logits differ by {encoded['median_difference']:.2g} in the median, "
            f"{encoded['max_difference']:.2g} at most; {percent(encoded['agreement'], 1)} keep their class"
        )
    return notes


# -- what it is compared with -------------------------------------------------------------------


@dataclass(frozen=True)
class _Pixels:
    """Decoded images or clips of a split."""

    records: Dataset
    samples: Inputs


def _subject(config: ExportConfig, path: Path, story: Story) -> Subject:
    """The classifier, the golden batch and the run's images that the formats need."""
    classifier = load(path)
    facts, golden = classifier.facts, draw_inputs(classifier.facts)
    quantised = not all(FORMATS[name].exact for name in config.format)
    check = calibration = None
    found = _images_of(config, quantised=quantised, story=story)
    if found is not None:
        dataset, splits = found
        split = next((name for name in CHECKED_ON if len(splits.indices(name))), None)
        if split is not None and config.check_images:
            count = max(1, config.check_images // facts.clip.frames) if facts.clip else config.check_images
            pixels = _decoded(dataset, splits.indices(split), count, facts, split, story)
            logits = in_keras(classifier, pixels.samples)["logits"]
            files = _files(pixels.records)
            check = CheckImages(split, files, pixels.samples, pixels.records.truth, logits)
        if quantised:
            count = config.calibration_images
            calibration = _decoded(dataset, splits.indices("train"), count, facts, "train", story).samples.images
    return Subject(classifier, sha256_of(path), golden, in_keras(classifier, golden), check, calibration)


def _images_of(config: ExportConfig, *, quantised: bool, story: Story) -> tuple[Dataset, Splits] | None:
    """The images and split of the run; None, with a message why, if decisions are compared on drawn images only."""
    if not config.check_images and not quantised:
        return None
    try:
        if Path(config.run).suffix == ".keras":
            raise OutOfDate("a model file does not say where its images are.", "give the run folder.")
        dataset, splits = record.read_images(RunDir(Path(config.run))) or (None, None)
        if dataset is None or splits is None:
            raise OutOfDate(f"{config.run} has no record of its images.", f"tlkit finetune --resume {config.run}")
        record.refuse_moved(RunDir(Path(config.run)), dataset)
        record.refuse_changed_images(RunDir(Path(config.run)), dataset)
    except OutOfDate as error:
        if quantised:
            raise OutOfDate(
                f"litert-int8 is calibrated and measured on the run's images: {error.message}", error.hint
            ) from error
        story.say(f"decisions are compared on the drawn golden images alone: {error.message}")
        return None
    return dataset, splits


def _decoded(dataset: Dataset, indices: np.ndarray, count: int, facts: Facts, split: str, story: Story) -> _Pixels:
    """Up to `count` decoded images or clips of a split, evenly spaced over it and so over its classes.

    Raises:
        TlkitError: if none of them can be decoded.
    """
    chosen = indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(np.int64)]
    rows = dataset.select(chosen)
    files = _files(rows)
    read = list(story.track(batches(files, facts.contract, 32), f"reading {split} images", len(files)))
    good = np.concatenate([batch.indices for batch in read]) if read else np.empty(0, np.int64)
    if not len(good) or (rows.clips and len(good) < len(files)):
        which = "frames" if rows.clips else "images"
        raise TlkitError(
            f"{'some' if len(good) else 'none'} of the {split} {which} of the run can be decoded.", "restore them."
        )
    images = np.concatenate([batch.images for batch in read])
    if rows.clips is not None:
        return _Pixels(rows, Inputs.of_frames(images, rows.clips.places))
    return _Pixels(rows.select(good), Inputs(images))


def _files(rows: Dataset) -> list[Path]:
    """The files of images, or of all frames of clips."""
    return [rows.members.file(i) for i in range(len(rows.members))]


# -- the folders -------------------------------------------------------------------------------


def _refuse_strangers(out: Path, config: ExportConfig) -> None:
    """Raise if an output folder is occupied, or would be replaced but is not an artifact."""
    if out.exists() and not out.is_dir():
        raise TlkitError(f"--out {config.out!r} is a file, expected a folder.", "choose another --out.")
    for name in config.format:
        folder = out / name
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            continue
        if not config.overwrite:
            raise TlkitError(f"{str(folder)!r} already exists.", "choose another --out, or add --overwrite.")
        if not (folder / CONTRACT).is_file():
            raise TlkitError(
                f"{str(folder)!r} is not an artifact: it has no {CONTRACT}.",
                "--overwrite replaces artifacts only; choose another --out.",
            )


@contextmanager
def _folders(out: Path, names: tuple[str, ...]) -> Iterator[dict[str, Path]]:
    """An empty folder per name; when all are filled they are moved into `out`, or become a new `out`."""
    with replacing_all(out) as made:
        folders = {name: made / name for name in names}
        for folder in folders.values():
            folder.mkdir()
        yield folders
