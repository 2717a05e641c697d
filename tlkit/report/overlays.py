"""What the report shows beside an error: the evidence for the predicted class, and the nearest training images.

Both come from the store where it has them, so that a report that is written again costs no forward pass.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.classifier.answers import Predictions
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.decode import decode, thumbnail
from tlkit.data.views import CENTRE, Augmentation
from tlkit.explanation.neighbours import nearest
from tlkit.extraction.extract import Network, describe
from tlkit.extraction.store import Appender, Space, StoredFeatures, look_up, open_space
from tlkit.report.page import NearestImage, Neighbours, Overlays

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier

SIDE, QUALITY = 200, 82  # pixels of an overlay's long side, and of its JPEG
HEAT = 56  # cells of a stored map along each side
NEIGHBOURS = 4
BLOCK = 512  # grids in memory at a time


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
    space = open_space(
        {"weights": model_sha256, "output": f"evidence:{HEAT}", "contract": contract.as_json(), "precision": "float32"}
    )

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
    """Evidence for the classes `codes`, sampled on `HEAT` x `HEAT` equal tiles of the input, to the store."""
    from tlkit.explanation.heat_maps import Witness
    from tlkit.explanation.lattice import pixel_centres

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
    """The photograph with the map (h, w) over it as JPEG; None where nothing speaks for the class."""
    from tlkit.explanation.lattice import tiles
    from tlkit.explanation.pictures import heat_on, overlay, shaded

    if not heat.any():
        return None
    try:
        photograph = thumbnail(file, SIDE)
    except UnreadableImage:
        return None
    lattice = tiles((contract.height, contract.width), heat.shape)
    hot = heat_on(photograph.size, heat, lattice, contract)
    return _jpeg(overlay(shaded(photograph, contract), hot))


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def neighbours(
    networks: Sequence[Network], contract: InputContract, stored_as: str, train: Dataset, dataset: Dataset
) -> Neighbours:
    """Find the training images most like an image, by the features of the backbone before training.

    Only features that the store holds are used; nothing is computed.

    Args:
        networks: under whose names the features may be stored, one output each; the first that has them is taken.
        contract: how images became pixels.
        stored_as: float32 or float16.
        train: the training images.
        dataset: the images that are asked about.
    """
    view = Augmentation(strength="none").describe(CENTRE)
    descriptions = [describe(network, network.outputs[0], contract, view, stored_as) for network in networks]
    row_of = {path: row for row, path in enumerate(dataset.paths)}

    def find(paths: Sequence[str]) -> Mapping[str, Sequence[NearestImage]]:
        rows = np.array([row_of[path] for path in paths])
        for space in map(open_space, descriptions):
            queries, references = look_up(space, dataset.sha256[rows]), look_up(space, train.sha256)
            asked, known = np.flatnonzero(~queries.lacking), np.flatnonzero(~references.lacking)
            if len(asked) and len(known):
                break
        else:
            return {}
        indices, cosines = nearest(_pooled(queries, asked), _pooled(references, known), NEIGHBOURS + 1)
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


def _pooled(stored: StoredFeatures, rows: np.ndarray) -> np.ndarray:
    """float32 (n, C) of some rows, grids averaged over their places, a block at a time."""
    blocks = [stored[rows[first : first + BLOCK]] for first in range(0, len(rows), BLOCK)]
    return np.concatenate([block.mean(axis=(1, 2)) if block.ndim == 4 else block for block in blocks])
