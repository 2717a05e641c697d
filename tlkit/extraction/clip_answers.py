"""What a classifier of clips answers: features of frames from the store or computed now, and its head over time on them."""

from dataclasses import replace

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.classifier.answers import Answers
from tlkit.classifier.model import Classifier, over_time
from tlkit.data.dataset import Dataset
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.store import Rows
from tlkit.options.groups import EngineOptions

BATCH = 64  # clips that the head reads at once


def logits_of(classifier: Classifier, rows: Rows) -> np.ndarray:
    """float32 (N, K): what a classifier of clips says of the features (N, T, C) of their frames."""
    model = over_time(classifier)
    model.compile(jit_compile=False)
    size = max(1, min(BATCH, len(rows)))
    parts = []
    for start in range(0, len(rows), size):
        block = rows[slice(start, start + size)]
        filled = np.concatenate([block, np.repeat(block[-1:], size - len(block), axis=0)])  # one shape is traced once
        parts.append(np.asarray(model.predict_on_batch(filled))[: len(block)])
    return np.concatenate(parts)


def answer_clips(
    classifier: Classifier, dataset: Dataset, config: EngineOptions, batch_size: int, story: Story
) -> tuple[Answers, Rows]:
    """The answers for N clips, and the features (N, T, C) of their frames.

    Args:
        classifier: of clips.
        dataset: the clips, every frame of them readable.
        config: which engine computes features.
        batch_size: frames to a forward pass.
        story: hears the progress.

    Raises:
        TlkitError: a frame that can no longer be read, or an engine that clips do not have.
    """
    if config.engine == "onnx":
        raise TlkitError("--engine onnx is for single images, and this classifier takes clips.", "use --engine auto.")
    source = FeatureSource.of_classifier(classifier)
    source = replace(source, engine_name=config.engine, precision=config.precision, batch_size=batch_size)
    found = source.extract(dataset, story=story)
    if found.problems:
        lost = found.problems[0]
        raise TlkitError(f"{lost.path!r} could be read a moment ago and cannot be now: {lost.reason}.", "restore it.")
    story.say(found.sentence("features of frames"))
    known, rows = classifier.familiarity, found.rows
    return Answers(logits_of(classifier, rows), known and known.unfamiliarity(Rows(rows.pooled()))), rows
