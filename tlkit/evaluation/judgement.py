"""What is fitted after training: the threshold of abstention and the reference of familiarity; and how clips are read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing
from tlkit.base.story import Story
from tlkit.classifier.answers import Answers, Predictions
from tlkit.classifier.facts import Facts, read_familiarity
from tlkit.classifier.familiarity import FEWEST, Familiarity, fit_familiarity, references
from tlkit.data.dataset import Dataset, Splits
from tlkit.evaluation.calibration import choose_threshold, fewest_images
from tlkit.evaluation.evaluate import group_codes
from tlkit.extraction import onnx_engine
from tlkit.extraction.engine import start_keras
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.store import ClipFeatures, Rows, at_once
from tlkit.options.groups import EngineOptions
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import row_of
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier


def refuse_hopeless(target: float | None, splits: Splits) -> None:
    """Raise before anything is trained where the validation images are too few to show the precision asked for.

    Raises:
        TlkitError: with the number that is needed.
    """
    held = len(splits.indices("val"))
    if target is not None and held < (needed := fewest_images(target)):
        raise TlkitError(
            f"--target-precision {target:g} cannot be shown on {held} validation images: even without an error "
            f"it takes {needed}.",
            "hold out more with --val, or ask for less: "
            + (
                f"{held} images can show at most {_shown_at_most(held):.3f}."
                if held
                else "there is no validation split."
            ),
        )


def refuse_target(target: float | None, task: Task) -> None:
    """Raise where a precision is asked for and the task has no single answer to withhold.

    Raises:
        TlkitError: saying what to look at instead.
    """
    if target is not None:
        task.refuse("threshold", f"--target-precision {target:g}")


def _shown_at_most(images: int) -> float:
    """The highest precision that so many images can show, without an error among them, rounded down."""
    from tlkit.evaluation.calibration import lowest_precision

    bound = float(lowest_precision(np.array(images), np.array(images)))
    return np.floor(bound * 1000) / 1000


def find_threshold(predictions: Predictions, target: float) -> tuple[float | None, str]:
    """The lowest confidence at which answers are precise enough, None where there is none; and how it was found.

    Args:
        predictions: the validation images among them.
        target: precision, 0..1.
    """
    held = predictions.of_split("val")
    held = held.select(np.flatnonzero(held.labels >= 0))
    correct = held.predicted == held.labels
    threshold = choose_threshold(held.confidence, correct, target, group_codes(held.groups))
    if threshold is None:
        return None, (
            f"no threshold: on {len(held)} validation images no confidence threshold shows a precision of {target:g}, "
            "so the classifier always answers; hold out more with --val, or ask for less."
        )
    answered = held.confidence >= threshold
    return threshold, (
        f"threshold {threshold:.4f} for a precision of {target:g}: above it lie {answered.sum()} of {len(held)} "
        f"validation images, {int((~correct[answered]).sum())} of them wrong."
    )


EXCLUSIVE = {SINGLE.name: True, MULTI.name: False, ORDINAL.name: False, NUMBER.name: False}
"""Whether logits are of classes that exclude each other, so that low confidence in all of them is informative."""


def learn_familiarity(
    source: FeatureSource, dataset: Dataset, splits: Splits, logits: np.ndarray, story: Story
) -> tuple[Familiarity | None, np.ndarray]:
    """The features of the training images in the finished network, and how far the held-out ones are from them.

    Args:
        source: of the network's features, `FeatureSource.of_classifier`.
        dataset: N images.
        splits: of them.
        logits: float (N, K), its outputs.
        story: reports the progress.

    Returns:
        The reference, None where there are too few validation images; and unfamiliarity float32 (N,), NaN for
        training images.
    """
    train, held = splits.indices("train"), splits.indices("val")
    unfamiliarity = np.full(len(dataset), np.nan, np.float32)
    if len(held) < FEWEST:
        story.say(
            f"unfamiliar {dataset.samples} will not be recognised: that takes {FEWEST} validation {dataset.samples}, "
            f"and there are {len(held)}"
        )
        return None, unfamiliarity
    known = train[references(dataset.labels[train])]
    rows = np.sort(np.concatenate([known, held, splits.indices("test")]))
    stored = source.rows(dataset.select(rows), story=story)
    stored = stored if dataset.clips is None else Rows(stored.pooled())

    exclusive = logits[held] if row_of(EXCLUSIVE, dataset.task) else None
    learned, judged = (stored[np.searchsorted(rows, wanted)] for wanted in (known, held))
    reference = fit_familiarity(learned, judged, exclusive)
    if reference is not None:
        unfamiliarity[rows] = reference.unfamiliarity(stored, logits[rows])
        unfamiliarity[train] = np.nan
    return reference, unfamiliarity


# -- How clips are classified ------------------------------------------------------------------------
#
# Two networks are involved: one reads the frames like images, and their features are stored; the head over time reads
# these. Both come from the answering file of the run, without TensorFlow, or from Keras.

SHUFFLED_BY = 0  # seed of the order of shuffled frames
MANY = 1 << 30  # clips, where their number is not known


@dataclass(frozen=True)
class ClipReader:
    """The two networks that classify clips.

    Args:
        source: of the features of frames.
        head: features float32 (n, T, C), zeros where there is no frame -> logits (n, K).
        familiarity: the reference to its training images, None where there is none.
    """

    source: FeatureSource
    head: Callable[[np.ndarray], np.ndarray]
    familiarity: Familiarity | None

    def logits(self, rows: Rows) -> np.ndarray:
        """float32 (N, K): logits from the features (N, T, C) of the frames of clips."""
        batches = -(-len(rows) // at_once(rows.shape[1:]))
        size = -(-len(rows) // max(1, batches)) or 1  # batches of about the same size
        parts = []
        for start in range(0, len(rows), size):
            block = rows[slice(start, start + size)]
            more = np.repeat(block[-1:], size - len(block), axis=0)  # one shape is traced once
            filled = np.concatenate([block, more])
            parts.append(np.asarray(self.head(filled))[: len(block)])
        return np.concatenate(parts)

    def answers(self, rows: Rows) -> Answers:
        """The answers for clips (N, T, C), and how unfamiliar they are."""
        known, logits = self.familiarity, self.logits(rows)
        return Answers(logits, None if known is None else known.unfamiliarity(Rows(rows.pooled()), logits))

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
        """The same, computed with the options of a command."""
        source = replace(self.source, engine_name=config.engine, precision=config.precision, batch_size=batch_size)
        return replace(self, source=source)


def by_classifier(classifier: "Classifier", clips: int = MANY, source: FeatureSource | None = None) -> ClipReader:
    """The reader of a classifier in memory, for so many clips; `source` is that of its frames, where there is one."""
    from tlkit.backbones.runtime import forward
    from tlkit.classifier.model import over_time

    head = forward(over_time(classifier), clips)
    return ClipReader(source or FeatureSource.of_classifier(classifier), head, classifier.familiarity)


def by_file(model: Path, facts: Facts) -> ClipReader:
    """The reader of the answering file beside a classifier of clips, for which `onnx_engine.why_not` gives None."""
    about = onnx_engine.frames_of(model)
    head = onnx_engine.open_session(onnx_engine.answer_folder(model) / onnx_engine.HEAD)
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
    """The reader of clips here: the answering file of the run, which needs no TensorFlow, or else Keras.

    Args:
        model: file of the classifier.
        facts: what it knows about itself.
        config: which engine.
        batch_size: frames to a forward pass.
        story: reports which.

    Raises:
        TlkitError: `--engine onnx` where the run has no answering file.
    """
    if onnx_engine.answering(model, config, story):
        found = by_file(model, facts)
        return replace(found, source=replace(found.source, batch_size=batch_size))
    start_keras(story)
    from tlkit.classifier.model import load

    return by_classifier(load(model)).computing(config, batch_size)


# -- Answers to compare with: of the mean over time, and to shuffled frames ---


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
        """Write an NPZ file without pickles."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, kernel=self.kernel, bias=self.bias)

    @classmethod
    def read(cls, path: Path) -> "Mean":
        """Read what `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["kernel"], arrays["bias"])


def said_otherwise(reader: ClipReader, rows: Rows, mean: Mean | None) -> dict[str, np.ndarray]:
    """Logits (N, K) by name: `mean`, over time, where that head is known; `shuffled`, of frames shuffled in each clip."""
    held = rows.held
    found = {} if mean is None else {"mean": mean.logits(rows)}
    if isinstance(held, ClipFeatures):
        found["shuffled"] = reader.logits(Rows(held.shuffled(SHUFFLED_BY)))
    return found


# -- Which frames of a clip are evidence for its answer ---

LEAST = 1e-12  # probability that counts as none


def frame_evidence(reader: ClipReader, features: np.ndarray, frames: int, code: int, facts: Facts) -> np.ndarray:
    """How much the log-probability of a class falls when each frame is left out; above 0 is evidence for the class.

    Occlusion (Zeiler & Fergus 2014) along time: a frame that is left out is masked like a missing one. Features of
    frames do not depend on one another, so only the head is computed.

    Args:
        reader: of the classifier.
        features: float32 (T, C) of one clip, zeros where there is no frame.
        frames: how many there are, the first of the T; a single one has no evidence.
        code: of the class.
        facts: of the classifier; its task has probabilities.

    Returns:
        float64 (frames,), in nats.
    """
    if frames < 2:
        return np.zeros(frames)
    variants = np.repeat(features[None], frames + 1, axis=0)
    variants[np.arange(frames), np.arange(frames)] = 0.0
    chances = facts.task.probabilities(reader.logits(Rows(variants)), facts.temperature)[:, code]
    logs = np.log(np.maximum(chances, LEAST))
    return logs[-1] - logs[:-1]


def has_evidence(facts: Facts) -> bool:
    """Whether there is a probability that frames can be evidence for."""
    return facts.clip is not None and facts.task.ranks
