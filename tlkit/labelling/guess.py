"""Guesses for unlabelled images by a linear head fitted on the labelled ones."""

from typing import NamedTuple

import numpy as np

from tlkit.classifier.answers import softmax
from tlkit.training.probe import FALLBACK, fit_probe


class Guess(NamedTuple):
    """The guesses.

    Args:
        chances: float (N, K), probabilities of the classes.
        by: description of the classifier.
    """

    chances: np.ndarray
    by: str


def guess(features: np.ndarray, labels: np.ndarray, classes: int, seed: int = 0) -> Guess | None:
    """Class probabilities by a linear head; a class without labelled images is never guessed.

    Args:
        features: float32 (N, C), pooled.
        labels: int (N,), -1 without a label.
        classes: K.
        seed: seed of the folds that choose the penalty.

    Returns:
        None if fewer than two classes have an image.
    """
    known = np.flatnonzero(labels >= 0)
    present, places = np.unique(labels[known], return_inverse=True)
    if len(present) < 2:
        return None
    few = np.bincount(places).min() < 5
    probe = fit_probe(
        [features[known]], places, units=np.arange(len(known)), strength=FALLBACK if few else None, seed=seed
    )
    chances = np.zeros((len(features), classes))
    chances[:, present] = softmax(features @ probe.kernel + probe.bias)
    return Guess(chances, f"a linear head on {len(known)} images with a label")
