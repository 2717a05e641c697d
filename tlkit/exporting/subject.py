"""What is exported, and what its artifacts are held against: the classifier in Keras, on drawn and on real images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tlkit.classifier.model import Classifier, with_features
from tlkit.exporting.formats import batch_of
from tlkit.exporting.golden import Inputs
from tlkit.extraction.onnx_engine import Outputs
from tlkit.tasks.task import Task


@dataclass(frozen=True)
class CheckImages:
    """Images of the run that decisions are compared on.

    Args:
        split: where they are from.
        files: image files, of clips those of all frames that there are, clip by clip.
        samples: n images or clips.
        labels: int32 (n,), indices of classes; or int8 (n, K), 1 where the image has the class, where it may have several.
        logits: float32 (n, K), of the classifier in Keras.
    """

    split: str
    files: Sequence[Path]
    samples: Inputs
    labels: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Subject:
    """A classifier and what it gives in Keras.

    Args:
        classifier: the classifier.
        sha256: hex, of its file.
        golden: drawn samples.
        expected: what it gives for them.
        check: images of the run; None where there are none.
        calibration: uint8 (n, H, W, 3), training images; None unless a format is quantised.
    """

    classifier: Classifier
    sha256: str
    golden: Inputs
    expected: Outputs
    check: CheckImages | None = None
    calibration: np.ndarray | None = None

    @property
    def task(self) -> Task:
        """What its logits mean."""
        return self.classifier.facts.task


def in_keras(classifier: Classifier, samples: Inputs) -> Outputs:
    """Logits (n, K), and features (n, C) where the classifier knows its training images.

    Args:
        classifier: in memory.
        samples: n images, or clips.
    """
    known = classifier.familiarity is not None
    names = ("logits", "features") if known else ("logits",)
    with keras.device("cpu"):  # a GPU would multiply in fewer bits
        source = with_features(classifier) if known else classifier.model
        model = keras.Model(source.input, source.outputs)
        model.compile(jit_compile=False)
        step = batch_of(samples.images)
        inputs = [samples.arrays(start, step) for start in range(0, len(samples), step)]
        parts = [
            keras.tree.flatten(model.predict_on_batch(list(given) if len(given) > 1 else given[0])) for given in inputs
        ]
    return {name: np.concatenate([np.asarray(part[i]) for part in parts]) for i, name in enumerate(names)}
