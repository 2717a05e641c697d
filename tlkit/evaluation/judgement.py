"""What is fitted after training: the threshold of abstention, the reference of familiarity."""

from dataclasses import replace

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.classifier.answers import Predictions
from tlkit.classifier.familiarity import FEWEST, Familiarity, fit_familiarity, references
from tlkit.classifier.model import Classifier
from tlkit.data.dataset import Dataset, Splits
from tlkit.evaluation.calibration import choose_threshold, fewest_images
from tlkit.evaluation.evaluate import group_codes
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.store import Rows
from tlkit.tasks.task import Task


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
    """Raise where a precision is asked for and the task has no one answer to withhold.

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
    """The confidence from which on answers are precise enough, None where there is none; and how it was found.

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


def learn_familiarity(
    classifier: Classifier, dataset: Dataset, splits: Splits, batch_size: int, story: Story
) -> tuple[Familiarity | None, np.ndarray]:
    """What the training images look like to the finished network, and how far the held-out ones are from them.

    Returns:
        The reference, None where there are too few validation images; and unfamiliarity float32 (N,), NaN for
        training images.
    """
    train, held = splits.indices("train"), splits.indices("val")
    unfamiliarity = np.full(len(dataset), np.nan, np.float32)
    if len(held) < FEWEST:
        story.say(
            f"unfamiliar images will not be recognised: that takes {FEWEST} validation images, and there are {len(held)}"
        )
        return None, unfamiliarity
    known = train[references(dataset.labels[train])]
    rows = np.sort(np.concatenate([known, held, splits.indices("test")]))
    source = replace(FeatureSource.of_classifier(classifier), batch_size=batch_size)
    stored = source.rows(dataset.select(rows), story=story)
    stored = stored if dataset.clips is None else Rows(stored.pooled())

    reference = fit_familiarity(*(stored[np.searchsorted(rows, wanted)] for wanted in (known, held)))
    if reference is not None:
        unfamiliarity[rows] = reference.unfamiliarity(stored)
        unfamiliarity[train] = np.nan
    return reference, unfamiliarity
