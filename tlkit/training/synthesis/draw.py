"""Features drawn for rare classes, until every class has as many as the largest.

    smote      between an image and one of its nearest of the same class (Chawla et al. 2002), by imbalanced-learn
    gaussian   the mean of the class plus a draw from a normal distribution with the covariance of all classes
    gan        by a conditional generator, see `gan`

On frozen features none of them was found to do better than adjusted logits (benchmarks/results/learning.md); they are here
for comparison.
"""

import warnings

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.machine import install

NEIGHBOURS = 5  # of which SMOTE takes one

Drawn = tuple[np.ndarray, np.ndarray]  # features (m, C), labels (m,)


def wanted(labels: np.ndarray) -> np.ndarray:
    """Int (m,): the labels to add until every class has as many as the largest."""
    counts = np.bincount(labels)
    return np.repeat(np.arange(len(counts)), np.where(counts > 0, counts.max() - counts, 0))


def draw_smote(features: np.ndarray, labels: np.ndarray, seed: int) -> Drawn:
    """The features that SMOTE adds; a class of one image has nothing to interpolate, and is repeated.

    Raises:
        TlkitError: imbalanced-learn is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in scikit-learn
            from imblearn.over_sampling import SMOTE, RandomOverSampler
    except ModuleNotFoundError as error:
        raise TlkitError("--balance smote needs imbalanced-learn.", install("balance")) from error
    counts = np.bincount(labels)
    alone = {int(each): 2 for each in np.flatnonzero(counts == 1)}
    given, of = (
        RandomOverSampler(sampling_strategy=alone, random_state=seed).fit_resample(features, labels)
        if alone
        else (features, labels)
    )
    fewest = np.bincount(of)[np.unique(of)].min()
    made = SMOTE(k_neighbors=int(min(NEIGHBOURS, fewest - 1)), random_state=seed)
    more, names = made.fit_resample(given, of)
    return more[len(labels) :].astype(np.float32), names[len(labels) :]


def draw_gaussian(features: np.ndarray, labels: np.ndarray, seed: int) -> Drawn:
    """Draw from normal distributions around the class means, all with the covariance of images around their class mean.

    A sum of the residuals with standard normal weights has that covariance, which need not be computed.
    """
    named = wanted(labels)
    classes = len(np.bincount(labels))
    means = np.stack(
        [
            features[labels == each].mean(axis=0) if (labels == each).any() else features[0] * 0
            for each in range(classes)
        ]
    )
    residuals = features - means[labels]
    freedom = max(1, len(labels) - len(np.unique(labels)))
    mixed = np.random.default_rng((seed, 3)).standard_normal((len(named), len(labels)), dtype=np.float32)
    return (means[named] + mixed @ residuals / np.sqrt(freedom)).astype(np.float32), named
