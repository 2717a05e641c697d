"""The training images of a run as its network sees them, to find those that an image is most like."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tlkit.backbones.weights import weights_sha256
from tlkit.classifier import Classifier
from tlkit.core.errors import TlkitError
from tlkit.core.manifest import Manifest
from tlkit.core.run_dir import RunDir
from tlkit.core.story import Story
from tlkit.extraction.extract import Network, extract
from tlkit.heads.build import pool
from tlkit.pipelines import run_record
from tlkit.pipelines.features import told


@dataclass(frozen=True)
class TrainingImages:
    """Features float32 (N, C) of training images, in the order of the manifest."""

    manifest: Manifest
    features: np.ndarray


def training_images(run: str, classifier: Classifier, story: Story) -> TrainingImages | None:
    """Those of a finished run; None where there are none to show, and it says why. What is stored is not computed.

    Raises:
        TlkitError: the run is not finished.
    """
    if Path(run).suffix == ".keras":
        story.say("no neighbours: a model file does not hold its training images; give the run folder to see them")
        return None
    images = run_record.read_images(RunDir(Path(run)))
    if images is None:
        raise TlkitError(f"{run} is not finished.", f"tlkit finetune --resume {run}")
    manifest, splits = images
    train = manifest.select(splits.indices("train"))
    model, layer = classifier.model, classifier.facts.grid_layer
    seam = model.get_layer(layer).output
    weights = weights_sha256(keras.Model(model.input, seam))
    network = Network(keras.Model(model.input, pool(seam, "avg")), (f"{layer}:avg",), weights)
    extraction = extract(network, train, classifier.facts.contract, story=story)
    story.say(f"neighbours among {len(train)} training images: {told(extraction)}")
    if extraction.problems:
        first = extraction.problems[0]
        story.say(
            f"{len(extraction.problems)} of them cannot be read and are left out, first {first.path}: {first.reason}"
        )
    stored = extraction.features[network.outputs[0], 0]
    rows = np.flatnonzero(~stored.lacking)
    return TrainingImages(train.select(rows), stored[rows]) if len(rows) else None
