"""From scores and costs to a recommendation: the best expected after fine-tuning, or the fastest within the noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import numpy as np
from scipy.special import stdtrit

from tlkit.base.story import percent
from tlkit.classifier.answers import image_scores
from tlkit.evaluation.results import Metric
from tlkit.ranking.logme import explained, logme
from tlkit.ranking.ranking import RankedBackbone
from tlkit.ranking.ridge import out_of_fold, spectrum
from tlkit.tasks.registry import of_truth

ROUNDS = 5


@dataclass(frozen=True)
class Score:
    """How well features predict labels.

    Args:
        logme: log evidence per image.
        explained: the corresponding share of the labels, comparable between sets.
        shares: float (k,), accuracy in each fold of each repeat, or F1 of each image's labels.
    """

    logme: float
    explained: float
    shares: np.ndarray = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class BackboneScores:
    """A candidate before it is compared; see `RankedBackbone`."""

    name: str
    flags: str
    image_size: tuple[int, int]
    parameters: int
    features: int
    score: Score
    computed: int
    seconds: float


def score(features: np.ndarray, truth: np.ndarray, classes: int, deals: Sequence[np.ndarray]) -> Score:
    """LogME, and the accuracy of ridge classification in every fold.

    Args:
        features: float32 (N, C).
        truth: one row for each image, see `registry.of_truth`; numbers in the units of `Task.scale`.
        classes: K.
        deals: int (N,) folds, one for each repeat.
    """
    task = of_truth(truth)
    targets = task.as_targets(truth, classes)
    found, shares = spectrum(features), []
    for folds in deals:
        right = image_scores(task.of_ridge(out_of_fold(found, targets, folds)), truth)
        shares += [float(right[folds == name].mean()) for name in np.unique(folds)]
    evidence = logme(features, targets)
    return Score(evidence, explained(evidence, targets), np.array(shares))


def in_turn(work: Mapping[str, Callable[[], object]], images: int) -> dict[str, list[float]]:
    """Milliseconds per image in every round, with calls of all in turn, so that noise affects all equally.

    Args:
        work: name -> a function that computes `images` images; called once before it is timed.
        images: per call.
    """
    for call in work.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, call in work.items():
            started = perf_counter()
            call()
            found[name].append(1000 * (perf_counter() - started) / images)
    return found


def compare(
    entries: Sequence[BackboneScores],
    milliseconds: Mapping[str, Sequence[float]],
    folds: int,
    images: int,
    predicted: Mapping[str, Metric],
) -> list[RankedBackbone]:
    """Candidates, the most accurate first (by LogME in a tie), each compared with the best on the same folds.

    Args:
        entries: at least one.
        milliseconds: by name, of several rounds.
        folds: in one repeat.
        images: N.
        predicted: accuracy expected after fine-tuning, by name; empty where nothing is predicted.
    """
    ordered = sorted(entries, key=lambda one: (-one.score.shares.mean(), -one.score.logme))
    times = {name: median(rounds) for name, rounds in milliseconds.items()}
    best, made = ordered[0], []
    for one in ordered:
        accuracy = corrected_share(one.score.shares, folds, images)
        behind = corrected(best.score.shares - one.score.shares, folds)
        faster = [other for other in ordered if times[other.name] < times[one.name]]
        made.append(
            RankedBackbone(
                name=one.name,
                flags=one.flags,
                image_size=one.image_size,
                parameters=one.parameters,
                megabytes=round(4e-6 * one.parameters, 3),
                features=one.features,
                milliseconds=round(times[one.name], 4),
                milliseconds_spread=(round(min(milliseconds[one.name]), 4), round(max(milliseconds[one.name]), 4)),
                logme=one.score.logme,
                explained=round(one.score.explained, 6),
                accuracy=Metric(accuracy.value, images, accuracy.low, accuracy.high),
                behind=Metric(behind.value, images, behind.low, behind.high),
                error=behind.error,
                within_noise=behind.value <= behind.error,
                predicted=predicted.get(one.name),
                frontier=all(other.score.shares.mean() < one.score.shares.mean() for other in faster),
                computed=one.computed,
                seconds=round(one.seconds, 3),
            )
        )
    return made


def recommend(candidates: Sequence[RankedBackbone], prefer: str = "accuracy") -> tuple[RankedBackbone, str]:
    """The candidate to take, and why.

    Args:
        candidates: the best on features first.
        prefer: `accuracy`, the best expected after fine-tuning; `speed`, the fastest within the noise.
    """
    if len(candidates) == 1:
        return candidates[0], "It is the only candidate that was measured."
    return _fastest(candidates) if prefer == "speed" else _most_accurate(candidates)


def _most_accurate(candidates: Sequence[RankedBackbone]) -> tuple[RankedBackbone, str]:
    """The best by its prediction for fine-tuning, or by features alone where there is no prediction."""
    if any(one.predicted is None for one in candidates):
        best = candidates[0]
        return best, f"It is the best on features alone, {_share(best)}; --prefer speed weighs that against its time."
    ordered = sorted(candidates, key=_predicted, reverse=True)
    chosen, second, quick = ordered[0], ordered[1], _fastest(candidates)[0]
    found = chosen.predicted or chosen.accuracy
    beside = (
        ""
        if quick is chosen
        else (
            f" {quick.name} is {chosen.milliseconds / quick.milliseconds:.1f} times as fast and expected to reach "
            f"{percent(_predicted(quick), 1)}: --prefer speed takes it."
        )
    )
    return chosen, (
        f"It is expected to reach {percent(_predicted(chosen), 1)} after fine-tuning (95 % interval on a new set of images "
        f"{percent(found.low or 0, 1)} to {percent(found.high or 0, 1)}; features alone: {_share(chosen)}), the next one, "
        f"{second.name}, {percent(_predicted(second), 1)}.{beside}"
    )


def _predicted(one: RankedBackbone) -> float:
    return (one.predicted or one.accuracy).value or 0.0


def _fastest(candidates: Sequence[RankedBackbone]) -> tuple[RankedBackbone, str]:
    """The fastest of those within one standard error of the best (the one-standard-error rule, Breiman et al. 1984)."""
    best = candidates[0]
    chosen = min((one for one in candidates if one.within_noise), key=lambda one: one.milliseconds)
    if chosen is best:
        return chosen, (
            f"It is the most accurate, {_share(best)}, and nothing faster comes within the noise "
            "(one corrected standard error of the difference on the same folds)."
        )
    lead = chosen.behind.value
    return chosen, (
        f"It reaches {_share(chosen)} at {chosen.milliseconds:.3g} ms per image; {best.name} reaches {_share(best)} at "
        f"{best.milliseconds:.3g} ms, {best.milliseconds / chosen.milliseconds:.1f} times as long. The lead of "
        f"{100 * (lead or 0):.1f} points is within the noise (one corrected standard error of the difference on the "
        f"same folds, {100 * chosen.error:.1f} points). If cost is no object, take {best.name}."
    )


def _share(one: RankedBackbone) -> str:
    return f"{percent(one.accuracy.value or 0, 1)}"


# -- The precision of cross-validated numbers: the corrected resampled t-test ------------------

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over folds with its corrected standard error and 95 % interval."""

    value: float
    error: float
    low: float
    high: float


def corrected(values: np.ndarray, folds: int) -> Estimate:
    """Mean over the folds of repeated cross-validation.

    Folds share most of their training images, so their scatter underestimates the error: Nadeau and Bengio (2003) add
    the ratio of test to training images to 1/k in the variance of the mean of k values; the interval uses Student's t with
    k - 1 degrees of freedom. With groups kept whole in a fold, the scatter is that between groups.

    Args:
        values: float (k,), k >= 2, a number for each fold of each repeat.
        folds: in one repeat; a fold is tested on 1/(folds - 1) of the images it trained on.
    """
    value, error = float(values.mean()), float(values.std(ddof=1) * correction(len(values), folds))
    half = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2)) * error
    return Estimate(value, error, value - half, value + half)


def correction(count: int, folds: int) -> float:
    """Standard error of the mean of `count` values over their standard deviation."""
    return float(np.sqrt(1 / count + 1 / (folds - 1)))


def corrected_share(values: np.ndarray, folds: int, images: int) -> Estimate:
    """The same for shares, 0..1; where all folds agree, Wilson's interval (1927) for so many images instead."""
    found = corrected(values, folds)
    low, high = found.low, found.high
    if found.error < 1e-12:
        from scipy.stats import binomtest  # takes 0.3 s to load, and folds seldom agree

        interval = binomtest(round(found.value * images), images).proportion_ci(LEVEL, method="wilson")
        low, high = float(interval.low), float(interval.high)
    return Estimate(found.value, found.error, max(0.0, low), min(1.0, high))
