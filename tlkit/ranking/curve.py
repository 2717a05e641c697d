"""Learning curve: accuracy against the number of images, measured on features and extrapolated by a power law."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from tlkit.base.story import percent
from tlkit.classifier.answers import image_scores
from tlkit.data.folds import deals as dealt
from tlkit.data.folds import strata
from tlkit.evaluation.results import Metric
from tlkit.ranking.choose import LEVEL, Estimate, corrected, corrected_share, correction
from tlkit.ranking.ranking import ClassGain
from tlkit.ranking.ridge import fit_predict
from tlkit.tasks.registry import of_truth

SHARES = (0.1, 0.2, 0.4, 0.8)  # of all images, to train on
FOLDS, REPEATS = 5, 2
RATES = (0.1, 1.5)  # exponents seen in practice are between 0.07 and 1 (Hestness et al. 2017)
DRAWS = 200
LEAST_ERROR = 0.002  # lower limit of the standard error of a point


@dataclass(frozen=True)
class Measured:
    """Linear heads on growing subsets of the images, each tested on held-out images.

    Args:
        sizes: float (J,), training images, ascending.
        accuracy: (R, J), for each fold of each repeat; with several labels, F1 of each image's.
        recall: (R, J, K), NaN where a fold holds no image of the class.
        folds: in one repeat.
        images: N.
    """

    sizes: np.ndarray
    accuracy: np.ndarray
    recall: np.ndarray
    folds: int
    images: int

    def points(self) -> tuple[tuple[int, Metric], ...]:
        """Images and accuracy with its interval."""
        found = [corrected_share(column, self.folds, self.images) for column in self.accuracy.T]
        return tuple((round(size), _metric(one, self.images)) for size, one in zip(self.sizes, found, strict=True))


@dataclass(frozen=True)
class Law:
    """error(n) = floor + reducible * (n / reference)^-rate (Cortes et al. 1993)."""

    floor: float
    reducible: float
    rate: float
    reference: float

    def accuracy(self, images: float) -> float:
        """Expected, 0..1."""
        return 1.0 - min(1.0, self.floor + self.reducible * (images / self.reference) ** -self.rate)


def measure(features: np.ndarray, truth: np.ndarray, units: np.ndarray, classes: int, seed: int) -> Measured:
    """Train on 10, 20, 40 and 80 % of the images, each subset within the next, and test on the held-out fifth.

    Args:
        features: float32 (N, C).
        truth: int (N,), 0..classes-1, or (N, classes) of 0 and 1 where an image may have several labels.
        units: int (N,); images of one unit stay on one side.
        classes: K.
        seed: of folds and subsets.
    """
    task = of_truth(truth)
    targets, labels = task.as_targets(truth, classes), strata(truth)
    deals = dealt(truth, units, folds=FOLDS, repeats=REPEATS, seed=seed)
    accuracy, recall, sizes = [], [], []
    folds = int(max(deal.max() for deal in deals)) + 1
    for repeat, deal in enumerate(deals):
        for fold in range(folds):
            held, kept = np.flatnonzero(deal == fold), np.flatnonzero(deal != fold)
            random = np.random.default_rng((seed, repeat, fold))
            depth = _depth(labels[kept], units[kept], random)
            parts = [kept[depth < share * folds / (folds - 1)] for share in SHARES]
            said = [task.of_ridge(_said(features, targets, part, held)) for part in parts]
            accuracy.append([float(image_scores(scores, truth[held]).mean()) for scores in said])
            recall.append([_recall(scores, truth[held], targets[held]) for scores in said])
            sizes.append([len(part) for part in parts])
    return Measured(np.mean(sizes, axis=0), np.array(accuracy), np.array(recall), folds, len(truth))


def _depth(labels: np.ndarray, units: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Float (n,) 0..1: the smallest subset that includes an image; units whole, classes evenly, at least one image each."""
    names, codes = np.unique(units, return_inverse=True)
    turn = random.permutation(len(names))[codes]
    depth = np.empty(len(labels))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        own = own[np.argsort(turn[own], kind="stable")]
        depth[own] = np.arange(len(own)) / len(own)
    least = np.ones(len(names))
    np.minimum.at(least, codes, depth)
    return least[codes]


def _said(features: np.ndarray, targets: np.ndarray, part: np.ndarray, held: np.ndarray) -> np.ndarray:
    """float64 (m, K): scores of a head fitted to `part` for the held-out images, as from `ridge.out_of_fold`."""
    if (targets[part] == targets[part[0]]).all():
        return np.tile(targets[part[0]] - 0.5, (len(held), 1))
    return fit_predict(features[part], targets[part], features[held])


def _recall(scores: np.ndarray, truth: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(K,), NaN for a class without an image here."""
    given = of_truth(truth).decide(scores)
    counts = targets.sum(axis=0)
    return (given * targets).sum(axis=0) / np.where(counts > 0, counts, np.nan)


def why_not(measured: Measured) -> str:
    """Why no law can be fitted to the measurements; "" where one can."""
    last, first = measured.accuracy[:, -1], measured.accuracy[:, 0]
    if measured.sizes[0] < 2 or (np.diff(measured.sizes) < 1).any():
        return "there are too few images: parts of 10, 20, 40 and 80 % of them are hardly different."
    if last.mean() >= 0.995:
        return f"accuracy is {percent(last.mean(), 1)} already: what is left to gain cannot be seen with these images."
    gain = corrected(last - first, measured.folds)
    if gain.value <= gain.error:
        return (
            f"eight times as many images changed accuracy by {gain.value:+.3f} ± {gain.error:.3f}: "
            "no trend to extrapolate."
        )
    return ""


def fit_law(sizes: np.ndarray, errors: np.ndarray, deviations: np.ndarray, near: Law | None = None) -> Law:
    """The power law with a floor that fits measured errors best, within 0 <= floor, 0 <= reducible, 0.1 <= rate <= 1.5.

    Robust: residuals beyond a standard error count by their size, not its square (soft L1).

    Args:
        sizes: float (J,), J >= 3, images.
        errors: (J,), 0..1.
        deviations: (J,), their standard errors.
        near: a law to start from, for nearly the same errors; by default several starts.
    """
    reference, scale = float(sizes[-1]), np.maximum(deviations, LEAST_ERROR)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        floor, reducible, rate = parameters
        return (floor + reducible * (sizes / reference) ** -rate - errors) / scale

    last = float(np.clip(errors[-1], 1e-3, 0.999))
    starts = [(last * share, last * (1 - share), rate) for share in (0.1, 0.7) for rate in (0.3, 0.8)]
    if near is not None:
        starts = [(min(near.floor + 1e-3, 0.999), min(near.reducible + 1e-3, 0.999), near.rate)]
    low, high = [0.0, 0.0, RATES[0]], [1.0, 1.0, RATES[1]]
    tried = [least_squares(residuals, start, bounds=(low, high), loss="soft_l1") for start in starts]
    floor, reducible, rate = min(tried, key=lambda one: one.cost).x
    return Law(float(floor), float(reducible), float(rate), reference)


def forecast(measured: Measured, images: list[float], seed: int) -> tuple[Law, list[Metric]]:
    """The law, and the accuracy it expects at each number of images, with a 95 % interval.

    The interval is that of laws fitted to folds resampled with replacement (Efron 1979); their scatter is widened after
    Nadeau and Bengio (2003), since folds that share most of their images agree too well. It is for the accuracy of the
    same head on more images of the same kind, assuming that the law continues to hold.
    """
    errors = 1 - measured.accuracy
    count, mean = len(errors), errors.mean(axis=0)
    factor = correction(count, measured.folds)
    deviations = errors.std(axis=0, ddof=1) * factor
    law = fit_law(measured.sizes, mean, deviations)
    random, wider = np.random.default_rng(seed), factor * np.sqrt(count)
    laws = []
    for _ in range(DRAWS):
        drawn = errors[random.integers(count, size=count)].mean(axis=0)
        laws.append(fit_law(measured.sizes, np.clip(mean + wider * (drawn - mean), 0, 1), deviations, law))
    metrics = []
    for size in images:
        value = law.accuracy(size)
        low, high = np.quantile([one.accuracy(size) for one in laws], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        metrics.append(Metric(value, measured.images, min(value, float(low)), max(value, float(high))))
    return law, metrics


def class_gains(measured: Measured, names: tuple[str, ...], counts: np.ndarray) -> tuple[ClassGain, ...]:
    """The gain of each class from a doubling, the one to photograph first on top.

    The gain is the slope of recall over the logarithm (base 2) of the images, all classes growing together. First comes
    the class with the largest (1 - recall) x gain: its recall is low, and more images help. A gain below 0 counts as 0.

    Args:
        measured: the curve.
        names: (K,), of the classes.
        counts: int (K,), images of each class now.
    """
    doublings = np.log2(measured.sizes) - np.log2(measured.sizes).mean()
    slopes = (measured.recall * doublings[:, None]).sum(axis=1) / (doublings**2).sum()  # (R, K)
    gains = []
    for label in np.flatnonzero(counts):
        own = slopes[:, label][np.isfinite(slopes[:, label])]
        if len(own) < 2:
            continue
        found, recall = corrected(own, measured.folds), float(np.nanmean(measured.recall[:, -1, label]))
        gains.append(ClassGain(names[label], int(counts[label]), recall, found.value, found.error))
    return tuple(sorted(gains, key=lambda one: (-(1 - one.recall) * max(0.0, one.gain), one.recall)))


def first_class(gains: tuple[ClassGain, ...]) -> tuple[str | None, str]:
    """The class to photograph first, or None, and the advice in a sentence."""
    rule = "the rule: the largest (1 - recall) x gain of recall per doubling"
    if not gains:
        return None, "No class has images in two folds, so classes cannot be compared."
    top = gains[0]
    if top.gain > top.error and top.recall < 1:
        return top.name, (
            f"Photograph {top.name!r} first: recall {percent(top.recall, 1)}, and {100 * top.gain:+.1f} ± {100 * top.error:.1f} points for each "
            f"doubling ({rule})."
        )
    lowest = min(gains, key=lambda one: one.recall)
    if lowest.recall == 1:
        return None, "Every class is recognised without an error; no class needs images first."
    return None, (
        f"No class gains clearly from more images; {lowest.name!r} has the lowest recall, {percent(lowest.recall, 1)} ({rule})."
    )


def _metric(found: Estimate, images: int) -> Metric:
    return Metric(found.value, images, found.low, found.high)
