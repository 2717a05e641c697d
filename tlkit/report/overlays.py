"""What the report shows beside an error: the evidence for the predicted class, by place or frame, and the nearest training images.

Both are read from the store where it has them, so that rewriting a report costs no forward pass.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.story import SILENCE
from tlkit.classifier.answers import Predictions
from tlkit.classifier.facts import Facts
from tlkit.classifier.familiarity import nearest
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.decode import decode, jpeg, thumbnail
from tlkit.evaluation.judgement import by_classifier, frame_evidence, has_evidence
from tlkit.extraction.source import FeatureSource, evidence_space
from tlkit.extraction.store import Appender, Space, look_up
from tlkit.report.page import NearestImage, Neighbours, Overlays

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier

SIDE, QUALITY = 200, 82  # pixels of an overlay's long side, and of its JPEG
HEAT = 56  # cells of a stored map along each side
NEIGHBOURS = 4


def overlays(
    classifier: "Callable[[], Classifier]",
    model_sha256: str,
    contract: InputContract,
    dataset: Dataset,
    predictions: Predictions,
) -> Overlays:
    """Draw the evidence for the predicted class over images, by path as in the predictions.

    Args:
        classifier: loads it; not called where the store holds every map.
        model_sha256: of its file.
        contract: how its images become pixels.
        dataset: where the files are.
        predictions: of them.
    """
    row_of = {path: row for row, path in enumerate(dataset.paths)}
    codes = dict(zip(predictions.paths, predictions.predicted.tolist(), strict=True))
    space = evidence_space(model_sha256, contract, HEAT)

    def draw(paths: Sequence[str]) -> Mapping[str, bytes]:
        rows = np.array([row_of[path] for path in paths])
        sha256 = dataset.sha256[rows]
        lacking = np.flatnonzero(look_up(space, sha256).lacking).tolist()
        if lacking:
            files = [dataset.file(i) for i in rows[lacking]]
            wanted = np.array([codes[paths[i]] for i in lacking])
            _compute(space, classifier(), files, sha256[lacking], wanted, contract)
        heats = look_up(space, sha256)
        known = np.flatnonzero(~heats.lacking).tolist()
        drawn = {paths[i]: _drawn(dataset.file(rows[i]), heats[np.array([i])][0], contract) for i in known}
        return {path: picture for path, picture in drawn.items() if picture is not None}

    return draw


def _compute(
    space: Space,
    classifier: "Classifier",
    files: Sequence[Path],
    sha256: np.ndarray,
    codes: np.ndarray,
    contract: InputContract,
) -> None:
    """Store the evidence for the classes `codes`, sampled on `HEAT` x `HEAT` equal tiles of the input."""
    from tlkit.explanation.heat_maps import Witness
    from tlkit.explanation.pictures import pixel_centres

    images, kept = [], []
    for i, file in enumerate(files):
        try:
            images.append(decode(file, contract))
        except UnreadableImage:
            continue
        kept.append(i)
    if not images:
        return
    witness = Witness(classifier)
    pixels = np.stack(images)
    found = witness.integrated(witness.grids(pixels), codes[kept])
    y, x = (pixel_centres(HEAT) * side / HEAT for side in pixels.shape[1:3])
    with Appender(space) as appender:
        appender.append(sha256[kept], found.lattice.sample(found.heat, y, x).astype(np.float32))


def _drawn(file: Path, heat: np.ndarray, contract: InputContract) -> bytes | None:
    """The photograph overlaid with the map (h, w) as JPEG; None where the map is zero everywhere."""
    from tlkit.explanation.pictures import heat_on, overlay, shaded, tiles

    if not heat.any():
        return None
    try:
        photograph = thumbnail(file, SIDE)
    except UnreadableImage:
        return None
    lattice = tiles((contract.height, contract.width), heat.shape)
    hot = heat_on(photograph.size, heat, lattice, contract)
    return jpeg(overlay(shaded(photograph, contract), hot), QUALITY)


def frame_bars(
    classifier: "Callable[[], Classifier]", facts: Facts, dataset: Dataset, predictions: Predictions
) -> Overlays:
    """Draw the evidence of each frame of a clip for its predicted class as bars, by path as in the predictions.

    The features of frames come from the store; arguments as for `overlays`.
    """
    row_of = {path: row for row, path in enumerate(dataset.paths)}
    codes = dict(zip(predictions.paths, predictions.predicted.tolist(), strict=True))

    def draw(paths: Sequence[str]) -> Mapping[str, bytes]:
        if not has_evidence(facts) or dataset.clips is None or not paths:
            return {}
        shown = dataset.select(np.array([row_of[path] for path in paths]))
        reader = by_classifier(classifier(), len(paths) * dataset.clips.length)
        try:
            rows = reader.read(shown, SILENCE)
        except TlkitError:  # a frame is gone
            return {}
        drawn = {}
        for place, (path, count) in enumerate(zip(paths, shown.clips.counts.tolist(), strict=True)):  # type: ignore[union-attr]
            found = frame_evidence(reader, rows[np.array([place])][0], count, codes[path], facts)
            if np.abs(found).max(initial=0.0) > 0:
                drawn[path] = _bars(found)
        return drawn

    return draw


BARS, GAP, FOR, AGAINST = (326, 48), 3, "#0072B2", "#D55E00"  # pixels: as wide as a strip of four frames


def _bars(values: np.ndarray) -> bytes:
    """Values (n,) as bars above a line where positive and below it where negative, scaled to the largest: PNG."""
    (width, height), most = BARS, float(np.abs(values).max())
    picture = Image.new("RGB", BARS, "white")
    pen, middle, each = ImageDraw.Draw(picture), height // 2, width / len(values)
    for place, value in enumerate(values.tolist()):
        end = middle - round((middle - 2) * value / most)
        left, right = round(place * each), max(round(place * each), round((place + 1) * each) - GAP)
        pen.rectangle((left, min(middle, end), right, max(middle, end)), fill=FOR if value > 0 else AGAINST)
    pen.line((0, middle, width, middle), fill="#777777")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def neighbours(source: FeatureSource, train: Dataset, dataset: Dataset) -> Neighbours:
    """Find the training images most like an image, by the features of the backbone before training.

    Only features that the store holds are used; nothing is computed.

    Args:
        source: of the features; the first of its precisions for which they are stored is used.
        train: the training images.
        dataset: the images whose neighbours are wanted.
    """
    row_of = {path: row for row, path in enumerate(dataset.paths)}

    def find(paths: Sequence[str]) -> Mapping[str, Sequence[NearestImage]]:
        rows = np.array([row_of[path] for path in paths])
        for one in source.in_each_precision():
            queries, references = one.stored(dataset.sha256[rows]), one.stored(train.sha256)
            asked, known = np.flatnonzero(~queries.lacking), np.flatnonzero(~references.lacking)
            if len(asked) and len(known):
                break
        else:
            return {}
        indices, cosines = nearest(queries.present().pooled(), references.present().pooled(), NEIGHBOURS + 1)
        found = {}
        for i, row, near in zip(asked.tolist(), indices, cosines, strict=True):
            others = [(known[j], float(cosine)) for j, cosine in zip(row, near, strict=True)]
            found[paths[i]] = [
                NearestImage(path=str(train.file(j)), label=train.label_name(j), similarity=cosine)
                for j, cosine in others
                if train.file(j) != dataset.file(rows[i])
            ][:NEIGHBOURS]
        return found

    return find
