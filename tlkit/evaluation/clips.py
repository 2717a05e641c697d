"""What a classifier of clips answers, and what is said in its place: of the mean over time, of frames in another order.

Two networks answer: the frames go through one, like images, and their features are stored; the head over time reads
these. Both come from the answering file of the run, without TensorFlow, or from Keras.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing
from tlkit.base.process import settle_backend
from tlkit.base.story import Story
from tlkit.classifier.answers import Answers
from tlkit.classifier.facts import Facts, read_familiarity
from tlkit.classifier.familiarity import Familiarity
from tlkit.data.dataset import Dataset
from tlkit.extraction import onnx_engine
from tlkit.extraction.onnx_engine import HEAD
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.store import ClipFeatures, Rows
from tlkit.options.groups import EngineOptions

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier

SHUFFLED_BY = 0  # seed of the order of shuffled frames
BATCH = 64  # clips that the head reads at once


@dataclass(frozen=True)
class ClipReader:
    """Who answers clips.

    Args:
        source: of the features of frames.
        head: features float32 (n, T, C), zeros where there is no frame -> logits (n, K).
        familiarity: what it was trained on, None where that is not known.
    """

    source: FeatureSource
    head: Callable[[np.ndarray], np.ndarray]
    familiarity: Familiarity | None

    def logits(self, rows: Rows) -> np.ndarray:
        """float32 (N, K): what is said of the features (N, T, C) of the frames of clips."""
        size = max(1, min(BATCH, len(rows)))
        parts = []
        for start in range(0, len(rows), size):
            block = rows[slice(start, start + size)]
            filled = np.concatenate(
                [block, np.repeat(block[-1:], size - len(block), axis=0)]
            )  # one shape is traced once
            parts.append(np.asarray(self.head(filled))[: len(block)])
        return np.concatenate(parts)

    def answers(self, rows: Rows) -> Answers:
        """What is said of clips (N, T, C), and how unfamiliar they are."""
        known = self.familiarity
        return Answers(self.logits(rows), None if known is None else known.unfamiliarity(Rows(rows.pooled())))

    def read(self, dataset: Dataset, story: Story) -> Rows:
        """The features (N, T, C) of clips, every frame of which can be read.

        Raises:
            TlkitError: a frame that can no longer be read.
        """
        found = self.source.extract(dataset, story=story)
        if found.problems:
            lost = found.problems[0]
            raise TlkitError(
                f"{lost.path!r} could be read a moment ago and cannot be now: {lost.reason}.", "restore it."
            )
        story.say(found.sentence("features of frames"))
        return found.rows

    def computing(self, config: EngineOptions, batch_size: int) -> "ClipReader":
        """The same, computed as the options of a command ask."""
        asked = {"engine_name": config.engine, "precision": config.precision, "batch_size": batch_size}
        return replace(self, source=replace(self.source, **asked))


def by_classifier(classifier: "Classifier") -> ClipReader:
    """The reader of a classifier of clips in memory."""
    from tlkit.classifier.model import over_time

    head = over_time(classifier)
    head.compile(jit_compile=False)
    return ClipReader(FeatureSource.of_classifier(classifier), head.predict_on_batch, classifier.familiarity)


def by_file(model: Path, facts: Facts) -> ClipReader:
    """The reader of the answering file beside a classifier of clips, for which `onnx_engine.why_not` gives None."""
    about, head = onnx_engine.frames_of(model), onnx_engine.open_session(onnx_engine.answer_folder(model) / HEAD)
    source = FeatureSource(
        model=None,
        outputs=(about["output"],),
        weights_sha256=about["weights"],
        contract=facts.contract,
        name=facts.backbone,
        shapes=((about["channels"],),),
        quick=lambda images: onnx_engine.open_answer(model),
    )
    return ClipReader(source, lambda features: head(features)["logits"], read_familiarity(model))


def reader_of(model: Path, facts: Facts, config: EngineOptions, batch_size: int, story: Story) -> ClipReader:
    """Who answers clips here: the answering file of the run, which needs no TensorFlow, or else Keras.

    Args:
        model: file of the classifier.
        facts: what it knows about itself.
        config: which engine.
        batch_size: frames to a forward pass.
        story: hears of it.

    Raises:
        TlkitError: `--engine onnx` where the run has no answering file.
    """
    if onnx_engine.answering(model, config, story):
        found = by_file(model, facts)
        return replace(found, source=replace(found.source, batch_size=batch_size))
    if notice := settle_backend():
        story.say(notice)
    importlib.import_module("tlkit.backbones.runtime")  # first, so that the backend starts quietly
    from tlkit.classifier.model import load

    return by_classifier(load(model)).computing(config, batch_size)


# -- What is said in the place of an answer ---


@dataclass(frozen=True)
class Mean:
    """The solved head of the mean over time.

    Args:
        kernel: float32 (C, K).
        bias: float32 (K,).
    """

    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, rows: Rows) -> np.ndarray:
        """float32 (N, K) of clips (N, T, C)."""
        return rows.pooled() @ self.kernel + self.bias

    def write(self, path: Path) -> None:
        """As an NPZ file without pickles."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, kernel=self.kernel, bias=self.bias)

    @classmethod
    def read(cls, path: Path) -> "Mean":
        """What `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["kernel"], arrays["bias"])


def said_otherwise(reader: ClipReader, rows: Rows, mean: Mean | None) -> dict[str, np.ndarray]:
    """Logits (N, K) by what they are: of the `mean` over time, where it is known; of frames `shuffled` within each clip."""
    held = rows.held
    found = {} if mean is None else {"mean": mean.logits(rows)}
    if isinstance(held, ClipFeatures):
        found["shuffled"] = reader.logits(Rows(held.shuffled(SHUFFLED_BY)))
    return found
