"""Features of the training images of a run, to find those most similar to an image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.classifier.model import Classifier
from tlkit.data.dataset import Dataset
from tlkit.extraction.source import FeatureSource
from tlkit.runs import record
from tlkit.runs.folder import RunDir


@dataclass(frozen=True)
class TrainingImages:
    """Features float32 (N, C) of training images, in the order of the manifest."""

    dataset: Dataset
    features: np.ndarray


def training_images(run: str, classifier: Classifier, story: Story) -> TrainingImages | None:
    """The training images of a finished run, from the store where possible; None, with a message, where there are none.

    Raises:
        TlkitError: the run is not finished.
    """
    if Path(run).suffix == ".keras":
        story.say("no neighbours: a model file does not hold its training images; give the run folder to see them")
        return None
    images = record.read_images(RunDir(Path(run)))
    if images is None:
        raise TlkitError(f"{run} is not finished.", f"tlkit finetune --resume {run}")
    dataset, splits = images
    train = dataset.select(splits.indices("train"))
    extraction = FeatureSource.of_classifier(classifier).extract(train, story=story)
    story.say(f"neighbours among {len(train)} training images: {extraction.sentence()}")
    if extraction.problems:
        first = extraction.problems[0]
        story.say(
            f"{len(extraction.problems)} of them cannot be read and are left out, first {first.path}: {first.reason}"
        )
    rows = np.flatnonzero(~extraction.rows.lacking)
    return TrainingImages(train.select(rows), extraction.rows[rows]) if len(rows) else None
