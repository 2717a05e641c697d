"""The linear head solved exactly: multinomial logistic regression on stored features.

The problem is convex, so L-BFGS finds its one solution in seconds, from any start. The strength of
the penalty is chosen by cross-validation inside the training split; images of a group stay in one fold.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from tlkit.base.machine import usable_cores
from tlkit.base.story import Heard, unheard
from tlkit.classifier.answers import image_losses
from tlkit.data.folds import FOLDS, stratified, stratified_by_labels
from tlkit.training.logistic.solvers import FLAT, ITERATIONS, ManyClasses, Solver, logistic_regression

# Inverse penalties on standardised features per training image, strong to weak.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FALLBACK = 1e-2
# Below this many multiplications per step, threads of BLAS wait for each other longer than they work: 3,777 x 512
# features of 10 classes took 0.5 s of processor time on one thread and 10 s on two, on a machine with other work.
WORTH_THREADS = 500_000_000
FLOAT = 4  # bytes of a number
SIDE_BY_SIDE = 2**27  # bytes of features up to which folds are solved in parallel
ENOUGH = 20_000  # held-out images: more do not distinguish penalties better
# Evaluations of the loss that a search takes on average, from the last penalty's solution and from zero, where there are few
# images for their width; with more, divided by the root of the ratio: 57 and 137 of 1,443 x 512, 15 of 14,000 x 512.
EVALUATIONS, AFRESH, FEW = 57, 137, 3  # FEW: images for each number of a feature
# Multiplications per step up to which penalties are compared on all classes; beyond, on some of them
COMPARED = 4_000_000_000


@dataclass(frozen=True)
class Probe:
    """A solved linear head.

    Args:
        kernel: float32 (C, K); standardisation is folded in, so it applies to raw features.
        bias: float32 (K,).
        strength: the inverse penalty it was solved with.
        scores: mean log loss of each strength tried in cross-validation; empty without.
        rule: how the strength was chosen, in words.
        held_out: float32 (N, K), logits of each image with the chosen strength, from the fold that held it out; NaN for
            an image in no fold, None without cross-validation on all classes.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    scores: dict[float, float]
    rule: str
    held_out: np.ndarray | None = None

    def shifted(self, bias: np.ndarray) -> "Probe":
        """The same head with float32 (K,) added to its bias."""
        held_out = None if self.held_out is None else self.held_out + bias
        return replace(self, bias=self.bias + bias, held_out=held_out)


def fit_probe(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    units: np.ndarray,
    weights: np.ndarray | None = None,
    strength: float | None = None,
    seed: int = 0,
    heard: Heard = unheard,
) -> Probe:
    """Solve the head on all views; the penalty is chosen on the images themselves, view 0.

    Further views hardly change the best penalty, and would be costly in every fold.

    Args:
        views: float32 (N, C) each, the same images in the same order.
        labels: int (N,), 0..K-1, every class present.
        units: int (N,); images of one unit (a group, exact duplicates) share a fold.
        weights: float (N,) of the images, or None for equal ones.
        strength: inverse penalty for each image; by default cross-validated.
        seed: of the folds.
        heard: called with the progress.
    """
    standard, mean, deviation = standardised(np.concatenate(list(views)))
    weights = np.ones(len(labels), np.float32) if weights is None else weights.astype(np.float32)
    with threadpool_limits(_threads(standard, labels)):
        found, rule = _validated(standard, labels, weights, units, strength, seed, heard)
        strength = strength or (found.best if found else FALLBACK)
        count = len(views)
        solver = logistic_regression(standard.shape[1] * len(np.unique(labels)), strength / count)
        solved = solver.fit(standard, np.tile(labels, count), sample_weight=np.tile(weights, count))
    return on_raw_features(*_columns(solved), mean, deviation, strength=strength, found=found, rule=rule)


def on_raw_features(
    kernel: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    deviation: np.ndarray,
    *,
    strength: float,
    found: "CrossValidation | None",
    rule: str,
) -> Probe:
    """A head solved on `standardised` features, converted to raw ones.

    Args:
        kernel: float (C, K).
        bias: float (K,).
        mean: (C,), from `standardised`.
        deviation: (C,), the divisor from there.
        strength: the inverse penalty.
        found: the cross-validation that chose it, None where there was none.
        rule: how it was chosen, in words.
    """
    return Probe(
        kernel=(kernel / deviation[:, None]).astype(np.float32),
        bias=(bias - (mean / deviation) @ kernel).astype(np.float32),
        strength=strength,
        scores=found.scores if found else {},
        rule=f"inverse penalty {strength:g}, {rule}",
        held_out=found.logits if found and len(found.logits) else None,
    )


def standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, C) with mean 0 and about the same deviation; and the mean (C,) and the divisor (C,) used.

    No divisor is smaller than their median. A feature that is nearly always zero would otherwise be amplified, and get
    ten to sixty times the kernel for accuracy that is the same or worse (docs/log.md).
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    moving = deviation > 1e-6 * (np.abs(mean) + 1e-6)
    deviation = np.maximum(deviation, np.median(deviation[moving]) if moving.any() else 1.0)
    return ((features - mean) / deviation).astype(np.float32), mean, deviation


def _threads(features: np.ndarray, labels: np.ndarray) -> int | None:
    return 1 if features.size * len(np.unique(labels)) < WORTH_THREADS else None


@dataclass(frozen=True)
class CrossValidation:
    """What cross-validation found.

    Args:
        scores: mean log loss of each strength tried.
        logits: float32 (N, K) of the held-out images with the best strength; NaN for an image in no fold. No rows where
            only some classes were used.
    """

    scores: dict[float, float]
    logits: np.ndarray

    @property
    def best(self) -> float:
        """The strength with the least loss."""
        return min(self.scores, key=lambda tried: self.scores[tried])


def _validated(
    standard: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    units: np.ndarray,
    strength: float | None,
    seed: int,
    heard: Heard,
) -> tuple[CrossValidation | None, str]:
    """The cross-validation that chooses the inverse penalty, None where there is none, and a description of it."""
    if strength is not None:
        return None, "given"
    rows, classes = some_classes(labels, standard.shape[1], seed), len(np.unique(labels))
    few = np.unique(labels[rows], return_inverse=True)[1]
    folds = enough(stratified(few, units[rows], seed))
    if not folds:
        return None, "too few images to choose it"
    found = cross_validate(standard[rows], few, weights[rows], folds, heard)
    if len(rows) == len(labels):
        return found, f"best of {len(found.scores)} in {folds_in_words(folds)}"
    on = f"{int(few.max()) + 1:,} of {classes:,} classes, {len(rows):,} images"
    return replace(found, logits=found.logits[:0]), f"best of {len(found.scores)} in {folds_in_words(folds)} of {on}"


def some_classes(labels: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Int (m,), the images on which penalties are compared: all, or those of classes drawn by seed where all take long."""
    classes = np.unique(labels)
    work = len(labels) * width * len(classes)
    if work <= COMPARED:
        return np.arange(len(labels))
    count = max(2, int(len(classes) * (COMPARED / work) ** 0.5))  # both images and classes become fewer
    drawn = np.random.default_rng((seed, 7)).permutation(len(classes))[:count]
    return np.flatnonzero(np.isin(labels, classes[drawn]))


def enough(folds: list[np.ndarray]) -> list[np.ndarray]:
    """The first of the folds, bool (N,) each, that hold out `ENOUGH` images together; all where they do not."""
    held = np.cumsum([int(fold.sum()) for fold in folds])
    return folds[: int(np.searchsorted(held, ENOUGH)) + 1]


def folds_in_words(folds: Sequence[np.ndarray]) -> str:
    """The number of folds, or of images held out where that is limited, in words."""
    held, images = sum(int(fold.sum()) for fold in folds), len(folds[0])
    few = len(folds) > 1 and images <= ENOUGH
    return f"{len(folds)}-fold cross-validation" if few else f"cross-validation on {held:,} of {images:,} images"


def solving_seconds(images: int, width: int, classes: int, views: int, chosen: bool) -> float:
    """About what `fit_probe` takes here, from some evaluations of its loss on few images.

    Args:
        images: that are trained on.
        width: numbers of a feature.
        classes: K.
        views: of each image.
        chosen: whether the penalty is chosen, by cross-validation.
    """
    rows = min(images, max(classes, min(4096, WORTH_THREADS // (width * classes))))
    random = np.random.default_rng(0)
    features, labels = random.random((rows, width), np.float32), np.arange(rows) % classes
    solver, times = ManyClasses(1e-2, iterations=1, level=0.0), []
    alone = images * width * classes < WORTH_THREADS  # on one thread
    with threadpool_limits(1 if alone else None):
        for _ in range(3):
            started = time.perf_counter()
            solver.fit(features, labels)
            times.append(time.perf_counter() - started)
    each = min(times) / (2 * rows)  # one evaluation at the start, and one step
    folds = min(FOLDS, max(1, images // classes))
    part = min(1.0, COMPARED / (images * width * classes))  # of the work, where only some classes are used
    share = min(1.0, ENOUGH / images) * (folds - 1) * len(STRENGTHS) * part if chosen else 0
    share /= _at_once(FLOAT * images * width, folds) if alone else 1
    ease = min(1.0, (FEW * width / images) ** 0.5)
    return each * images * ease * (EVALUATIONS * share + AFRESH * views)


def validate_probe(
    features: np.ndarray, labels: np.ndarray, *, units: np.ndarray, weights: np.ndarray, seed: int = 0
) -> CrossValidation | None:
    """The cross-validation of `fit_probe`, without the head; None where a class has too few units for it."""
    standard, _, _ = standardised(features)
    folds = enough(stratified(labels, units, seed))
    with threadpool_limits(_threads(standard, labels)):
        return cross_validate(standard, labels, weights, folds) if folds else None


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    folds: Sequence[np.ndarray],
    heard: Heard = unheard,
) -> CrossValidation:
    """Mean held-out log loss of each strength, strong penalties first; stops when two weaker ones in a row did worse."""
    scores: dict[float, float] = {}
    best = np.empty((0, 0), np.float32)
    classes = len(np.unique(labels))
    solvers = [logistic_regression(features.shape[1] * classes, 1.0) for _ in folds]

    def judged(solver: Solver, held: np.ndarray) -> tuple[np.ndarray, float]:
        """Logits of the held-out images, and their mean loss. Each search starts from the previous solution, which is close."""
        solver.fit(features[~held], labels[~held], sample_weight=weights[~held])
        coefficients, intercept = _columns(solver)
        said = features[held] @ coefficients + intercept
        each = image_losses(said, np.searchsorted(solver.classes_, labels[held]))
        return said, float(np.average(each, weights=weights[held]))

    with _side_by_side(features, len(folds)) as spread:
        for strength in STRENGTHS:
            losses = []
            logits: np.ndarray = np.full((len(labels), classes), np.nan, np.float32)
            for solver in solvers:
                solver.set_params(C=strength)
            for held, (said, loss) in zip(folds, spread(judged, solvers, folds), strict=True):
                logits[held] = said
                losses.append(loss)
                heard((len(scores) + len(losses) / len(folds)) / (len(STRENGTHS) + 1))  # the head itself is fitted last
            scores[strength] = float(np.average(losses, weights=[weights[held].sum() for held in folds]))
            best = logits if scores[strength] == min(scores.values()) else best
            if len(scores) >= 3 and min(list(scores.values())[-2:]) > min(scores.values()):
                break
    return CrossValidation(scores, best)


@contextmanager
def _side_by_side(features: np.ndarray, folds: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Gives a `map` that solves folds in parallel, each on one thread, where that uses the cores.

    A fold copies its part of the features, so folds of large ones are solved one after the other, on all threads.
    """
    if (count := _at_once(features.nbytes, folds)) == 1:
        yield map
        return
    with threadpool_limits(1), ThreadPoolExecutor(count) as pool:
        yield pool.map


def _at_once(size: int, folds: int) -> int:
    """How many folds of so many bytes of features are solved in parallel."""
    cores = usable_cores()
    return 1 if cores >= 2 * folds or size > SIDE_BY_SIDE else min(cores, folds)


def _columns(solved: Solver) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (C, K) and intercepts (K,); two classes are one row in scikit-learn and two logits here."""
    if len(solved.classes_) > 2:
        return solved.coef_.T, solved.intercept_
    half = solved.coef_[0] / 2, solved.intercept_[0] / 2
    return np.stack([-half[0], half[0]], axis=1), np.stack([-half[1], half[1]])


# -- The linear head of several labels per image, solved exactly: a logistic regression for each class ---
#
# The K problems share features and penalty, so one L-BFGS solves them together: each step is one product of matrices where
# K separate solvers would take K. The solution is the one that each would find alone.

LEVEL = 1e-6  # the search ends when the largest slope of the mean loss is smaller


def fit_one_vs_rest(
    views: Sequence[np.ndarray],
    targets: np.ndarray,
    *,
    units: np.ndarray,
    strength: float | None = None,
    seed: int = 0,
) -> Probe:
    """Solve the head on all views; the penalty is chosen on the images themselves, view 0, as `fit_probe` does.

    A class that no image has, or every image, has no finite solution and gets a bias from its frequency.

    Args:
        views: float32 (N, C) each, the same images in the same order.
        targets: int (N, K), 1 where the image has the class, else 0.
        units: int (N,); images of one unit share a fold.
        strength: inverse penalty for each image; by default cross-validated.
        seed: of the folds.
    """
    standard, mean, deviation = standardised(np.concatenate(list(views)))
    with threadpool_limits(1 if standard.size * targets.shape[1] < WORTH_THREADS else None):
        found, rule = None, "given"
        if strength is None:
            folds = stratified_by_labels(targets, units, seed)
            found = _cross_validate(standard[: len(targets)], targets, folds) if folds else None
            rule = f"best of {len(found.scores)} in {len(folds)}-fold cross-validation" if found else "too few images"
            strength = found.best if found else FALLBACK
        weights = solve(standard, np.tile(targets, (len(views), 1)), strength / len(views))
    return on_raw_features(weights[:-1], weights[-1], mean, deviation, strength=strength, found=found, rule=rule)


def solve(features: np.ndarray, targets: np.ndarray, strength: float, start: np.ndarray | None = None) -> np.ndarray:
    """float64 (C + 1, K), the last row the biases: least sum of log losses times `strength` plus half the squared kernel.

    Args:
        features: float32 (N, C).
        targets: int (N, K).
        strength: inverse penalty; biases carry none.
        start: where to search from.
    """
    truth = targets.astype(np.float32)
    count, rate = len(truth), (truth.sum(axis=0) + 0.5) / (len(truth) + 1)
    solvable = (truth.any(axis=0) & ~truth.all(axis=0)).astype(np.float32)
    shape = (features.shape[1] + 1, truth.shape[1])
    if start is None:
        start = np.zeros(shape)
        start[-1] = np.log(rate / (1 - rate))
    scale = 1 / (strength * count)  # all divided by the number of images, so that slopes are of one scale

    def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        logits = features @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)
        losses = np.logaddexp(0, logits).sum(dtype=np.float64) - (logits * truth).sum(dtype=np.float64)
        rest = (expit(logits) - truth) * solvable
        gradient = np.vstack([features.T @ rest, rest.sum(axis=0)]).astype(np.float64) / count
        gradient[:-1] += scale * weights[:-1]
        return losses / count + scale * float((weights[:-1] ** 2).sum()) / 2, gradient.ravel()

    options = {"maxiter": ITERATIONS, "gtol": LEVEL, "ftol": FLAT}
    found = minimize(slope, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(shape)


def _cross_validate(features: np.ndarray, targets: np.ndarray, folds: Sequence[np.ndarray]) -> CrossValidation:
    """Mean held-out log loss of each strength, strong penalties first; stops when two weaker ones in a row did worse."""
    scores: dict[float, float] = {}
    best = np.empty(targets.shape, np.float32)
    starts: list[np.ndarray | None] = [None] * len(folds)
    for strength in STRENGTHS:
        logits = np.empty(targets.shape, np.float32)
        for place, held in enumerate(folds):
            # Each search starts from the previous solution, which is close.
            weights = solve(features[~held], targets[~held], strength, starts[place])
            starts[place] = weights
            logits[held] = features[held] @ weights[:-1] + weights[-1]
        scores[strength] = float(image_losses(logits, targets).mean())
        best = logits if scores[strength] == min(scores.values()) else best
        if len(scores) >= 3 and min(list(scores.values())[-2:]) > min(scores.values()):
            break
    return CrossValidation(scores, best)
