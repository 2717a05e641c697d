"""Evidence for a class, place by place: by gradients on the grid, and by covering the image.

`overlays` is the short way: images and classes in, heat maps of the same size out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np

from tlkit.classifier.model import Classifier
from tlkit.explanation.gradient import build_gradient, scores
from tlkit.explanation.lattice import Lattice, hot, pixel_centres, tiles
from tlkit.explanation.occlusion import occlusion, occlusion_lattice
from tlkit.extraction.engine import Engine, build_engine

STEPS = 8  # of the path from the mean grid to the grid
BATCH = 32


@dataclass(frozen=True)
class EvidenceMap:
    """Maps of B images by one method.

    Args:
        values: float32 (B, h, w); above 0 evidence for the class, below 0 against it.
        lattice: where the cells lie in the network's input.
    """

    values: np.ndarray
    lattice: Lattice

    @property
    def heat(self) -> np.ndarray:
        """float32 (B, h, w), 0..1: positive evidence for the class, the strongest 1; all 0 where there is none."""
        return hot(self.values)


class Witness:
    """A classifier cut at the seam between backbone and head, ready to compute evidence maps.

    Args:
        classifier: as `tlkit.classifier.load` gives it.
    """

    def __init__(self, classifier: Classifier) -> None:
        model = classifier.model
        seam = model.get_layer(classifier.facts.grid_layer).output
        backbone = keras.Model(model.input, seam)
        self.head = keras.Model(seam, model.output)
        self._see = build_engine(backbone)
        self._whole: Engine | None = None
        self.gradient = build_gradient(self.head)
        self._model = model
        self.lattice = tiles(model.input_shape[1:3], seam.shape[1:3])

    def grids(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 (B, H, W, 3) -> grids float32 (B, h, w, C)."""
        return _in_batches(lambda rows: self._see.run(images[rows])[0], len(images))

    def logits(self, grids: np.ndarray) -> np.ndarray:
        """Grids (B, h, w, C) -> logits float32 (B, K)."""
        return np.asarray(keras.ops.convert_to_numpy(self.head(grids, training=False)))

    def evidence(self, method: str, images: np.ndarray, grids: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Maps by one of the methods `integrated`, `gradcam`, `occlusion`; arguments as theirs."""
        if method == "occlusion":
            return self.occlusion(images, classes)
        return {"integrated": self.integrated, "gradcam": self.gradcam}[method](grids, classes)

    def integrated(self, grids: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Integrated gradients (Sundararajan et al. 2017) on the grid, from the image's own mean grid.

        The path begins where every place holds the mean of all places, so that a map says what a
        place adds to the image's average; the sum over places is (nearly) the score's change on the
        way. Heads that normalise each place make `gradient x activation` on the grid itself vanish,
        and recurrent heads forget; the path avoids both. With a linear head on the mean it is
        Grad-CAM less its own mean. docs/explanations.md has the measurements.

        Args:
            grids: float32 (B, h, w, C).
            classes: int (B,), the classes to explain.
        """

        def batch(rows: slice) -> np.ndarray:
            here = grids[rows]
            mean = here.mean(axis=(1, 2), keepdims=True)
            away = here - mean
            path = (mean + away * ((step + 0.5) / STEPS) for step in range(STEPS))
            gradient = sum(self.gradient(point, classes[rows]) for point in path) / STEPS
            return (gradient * away).sum(axis=-1)

        return EvidenceMap(_in_batches(batch, len(grids)), self.lattice)

    def gradcam(self, grids: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Grad-CAM (Selvaraju et al. 2017), before its ReLU: channels weighted by their mean gradient."""

        def batch(rows: slice) -> np.ndarray:
            weights = self.gradient(grids[rows], classes[rows]).mean(axis=(1, 2), keepdims=True)
            return (weights * grids[rows]).sum(axis=-1)

        return EvidenceMap(_in_batches(batch, len(grids)), self.lattice)

    def occlusion(self, images: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Occlusion (Zeiler & Fergus 2014): how far the score falls where the image is covered.

        Args:
            images: uint8 (B, H, W, 3).
            classes: int (B,), the classes to explain.
        """
        self._whole = self._whole or build_engine(self._model)
        engine, codes = self._whole, np.asarray(classes)

        def score(covered: np.ndarray, code: int) -> np.ndarray:
            return scores(engine.run(covered)[0], np.full(len(covered), code))

        maps = [occlusion(partial(score, code=code), image) for image, code in zip(images, codes, strict=True)]
        return EvidenceMap(np.stack(maps), occlusion_lattice(images.shape[1:3]))


def overlays(classifier: Classifier, images: np.ndarray, class_indices: np.ndarray) -> np.ndarray:
    """Where a classifier sees a class: one heat map for each image, pixel on pixel.

    One forward pass of the backbone for each image and a few passes through the head.

    Args:
        classifier: any that tlkit composed or loaded.
        images: uint8 (B, H, W, 3), RGB, decoded by the classifier's own input contract.
        class_indices: int (B,), for each image the class to explain, usually the predicted one.

    Returns:
        float32 (B, H, W), 0..1: 1 at the place that speaks most for the class, 0 where nothing does.
        `tlkit.explanation.pictures.overlay(image, heat)` draws one over its image.
    """
    if not len(images):
        return np.zeros(images.shape[:3], np.float32)
    witness = Witness(classifier)
    height, width = images.shape[1:3]
    evidence = witness.integrated(witness.grids(images), np.asarray(class_indices))
    return hot(evidence.lattice.sample(evidence.heat, pixel_centres(height), pixel_centres(width)))


def _in_batches(work: Callable[[slice], np.ndarray], count: int) -> np.ndarray:
    """`work` of every slice of `BATCH` rows, one after the other."""
    return np.concatenate([work(slice(first, first + BATCH)) for first in range(0, count, BATCH)])


# -- How far two methods point at the same places, so that a reader knows when to trust neither ---

AGREE, DOUBT = 0.7, 0.4  # above the one, nine in ten maps of different images do not agree as well as this


def agreement(first: EvidenceMap, second: EvidenceMap) -> np.ndarray:
    """Pearson's correlation of the heat of two maps of the same images, cell by cell of the second.

    Of the heat, and not of the ranks of all cells: most cells are ground on which neither method has
    much to say, and the order of what they say there is chance. On drawn scenes this tells the maps
    of one image from those of two with an area under the curve of 0.99, ranks with 0.93.

    Args:
        first: maps of B images by one method.
        second: by another one; the first is read at the centres of its cells.

    Returns:
        float64 (B,), -1..1: 1 for the same places, 0 for chance, also where a map is flat.
    """
    y, x = second.lattice.rows.centres, second.lattice.columns.centres
    pairs = zip(first.lattice.sample(first.heat, y, x), second.heat, strict=True)
    return np.array([_correlation(one.ravel(), other.ravel()) for one, other in pairs])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    one, other = (np.float64(values) - np.float64(values).mean() for values in (first, second))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale else 0.0


def in_words(value: float) -> str:
    """`methods agree (0.81)`."""
    words = "methods agree" if value >= AGREE else "methods agree in part" if value >= DOUBT else "methods disagree"
    return f"{words} ({value:.2f})"
