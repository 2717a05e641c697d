"""Test-time augmentation: the views, their mean, its calibration, and the notes on it."""

from dataclasses import replace

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story, counted
from tlkit.classifier.answers import Predictions
from tlkit.classifier.facts import Facts
from tlkit.data.dataset import Dataset
from tlkit.data.views import CENTRE, TtaViews
from tlkit.extraction.source import FeatureSource

UNMIRRORED = {
    None: "its file does not say whether mirrored images are alike",
    False: "it was trained with --no-flip: mirrored images are not alike",
}


def views_of(asked: int, facts: Facts) -> TtaViews:
    """The views of a classifier's images, mirrored ones among them if it was trained with flips.

    Raises:
        TlkitError: more asked for than there are.
    """
    if asked > 1:
        facts.task.refuse("views", f"--tta {asked}")
    views = TtaViews(flip=bool(facts.flip))
    if asked > views.count:
        raise TlkitError(
            f"--tta {asked}: this classifier has {views.count} views of an image; {UNMIRRORED[facts.flip]}.",
            f"use --tta {views.count} at most.",
        )
    return views


def average(
    count: int,
    source: FeatureSource,
    dataset: Dataset,
    facts: Facts,
    views: TtaViews,
    first: np.ndarray,
    good: np.ndarray,
    story: Story,
) -> np.ndarray:
    """Logits of the mean of all views, float32 (n, K); the views come from the store where it has them.

    Args:
        count: of views, the image itself among them.
        source: with the logits as its one output.
        dataset: N images.
        facts: of the classifier.
        views: the family.
        first: float32 (n, K), logits of view 0.
        good: int (n,), rows of the manifest that could be read.
        story: reports the progress.
    """
    found = source.extract(dataset, views=range(CENTRE + 1, count), augmentation=views, story=story)
    story.say(f"the other {counted(count - 1, 'view')}: {found.sentence('predictions')}")
    more = [rows[good] for rows in found.features.values()]
    return facts.task.mean_logits(np.stack([first, *more]), facts.temperature)


def calibrate(predictions: Predictions, facts: Facts) -> tuple[Facts, tuple[str, ...]] | None:
    """Temperature and threshold for the mean of views, from the validation images; None where there are none.

    The mean of calibrated probabilities is underconfident, so it needs a temperature of its own (Rahaman and Thiery 2021).

    Returns:
        The facts for these predictions, and what to say about the threshold; the classifier's file keeps its own.
    """
    from tlkit.evaluation.calibration import fit_temperature
    from tlkit.evaluation.judgement import find_threshold

    held = predictions.of_split("val")
    held = held.select(np.flatnonzero(held.labelled))
    if not len(held):
        return None
    facts = replace(facts, temperature=float(fit_temperature(held.logits, held.truth)))
    if facts.target_precision is None:
        return facts, ()
    judged = replace(predictions, temperature=facts.temperature)
    threshold, sentence = find_threshold(judged, facts.target_precision)
    return replace(facts, threshold=threshold), (sentence,)


def describe_views(asked: int, facts: Facts, *, calibrated: bool = False) -> tuple[str, ...]:
    """Notes for the reader of the results; none without test-time augmentation."""
    if asked == 1:
        return ()
    kinds = "the image, its mirror image" if facts.flip else "the image"
    crops = " and crops of 7/8 of its sides" if asked > (2 if facts.flip else 1) else ""
    sentences = [f"test-time augmentation: probabilities are the mean of {asked} views ({kinds}{crops})."]
    if not facts.flip:
        sentences.append(f"no view is a mirror image: {UNMIRRORED[facts.flip]}.")
    if calibrated:
        sentences.append("the temperature was fitted to these means on the validation images of the run.")
    else:
        kept = "the temperature is that" if facts.threshold is None else "temperature and threshold are those"
        sentences.append(f"{kept} of single views: the means may be underconfident.")
    return (*sentences, "the classifier's file, its exports and `tlkit serve` use a single view.")
