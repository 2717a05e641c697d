"""Paired comparison of two classifiers on the same images: the difference, its interval and its significance."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.special import bdtr

from tlkit.classifier.answers import Predictions, image_losses, image_scores
from tlkit.classifier.facts import ClipFacts
from tlkit.data.dataset import SPLITS
from tlkit.evaluation.class_measures import SIGNIFICANT, holm
from tlkit.evaluation.curves import metric
from tlkit.evaluation.evaluate import WITHOUT_SPLIT, group_codes
from tlkit.evaluation.intervals import LEVEL, Groups, Interval, mean_interval, share_interval
from tlkit.evaluation.results import CLIP, Comparison, EvaluationResult, Metric
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import row_of
from tlkit.tasks.single import SINGLE

RESAMPLES = 2000
FLIPS = 10_000
_CHUNK = 4_000_000  # numbers drawn at once
_SMALLEST = np.finfo(np.float64).eps


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test (McNemar 1947): two-sided p-value of the discordant pairs, by the binomial."""
    fewer, pairs = sorted((only_first, only_second))[0], only_first + only_second
    return min(1.0, 2 * float(bdtr(fewer, pairs, 0.5))) if pairs else 1.0


def flipped(differences: np.ndarray, groups: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value that the sum of differences (n,) is 0, by random sign flips of whole groups.

    The sign-flip test (Fisher 1935), the counterpart of McNemar's for images that are not independent.
    """
    _, codes = np.unique(groups, return_inverse=True)
    sums = np.bincount(codes, weights=differences)
    sums = sums[sums != 0]
    rng, observed, beyond = np.random.default_rng(seed), abs(sums.sum()), 0
    step = max(1, min(FLIPS, _CHUNK // max(1, len(sums))))
    for start in range(0, FLIPS, step):
        signs = rng.integers(0, 2, (min(step, FLIPS - start), len(sums))) * 2 - 1
        beyond += int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    return (beyond + 1) / (FLIPS + 1)


def paired_interval(differences: np.ndarray, groups: Groups = None, *, step: float = 0.0, seed: int = 0) -> Interval:
    """Interval of the mean difference: percentiles of a paired bootstrap (Efron 1979), over groups where given.

    Args:
        differences: float (n,), second minus first on each image.
        groups: int (n,), or None.
        step: what one more image could change; one such image (or a group that differs as much as groups do,
            but at least by that) is added on either side (Bonett and Price 2012), so that the absence of any
            difference is not mistaken for certainty.
        seed: of the resamples.
    """
    codes = np.arange(len(differences)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(codes, weights=differences), np.bincount(codes).astype(np.float64)
    if step:
        usual = max(step, float(np.sqrt((sums**2).mean())))
        sums, sizes = np.append(sums, [usual, -usual]), np.append(sizes, [sizes.mean(), sizes.mean()])
    rng, means = np.random.default_rng(seed), []
    rows = max(1, min(RESAMPLES, _CHUNK // len(sums)))
    for start in range(0, RESAMPLES, rows):
        drawn = rng.integers(0, len(sums), (min(rows, RESAMPLES - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(differences.mean())
    return min(float(low), value), max(float(high), value)


def compare(runs: Mapping[str, Predictions]) -> list[Comparison]:
    """Compare every other run with the first.

    Args:
        runs: name -> predictions of the same n labelled images in the same order, classes in the same order.

    Returns:
        One comparison for each pair; the p-values of several pairs are corrected together (Holm 1979).
    """
    first = next(iter(runs))
    return row_of(COMPARED, runs[first].task)(runs)


def _compare_classes(runs: Mapping[str, Predictions]) -> list[Comparison]:
    first, *others = runs
    pairs = [(first, other) for other in others]
    measured = [_differences(runs[first], runs[other]) for other in others]
    corrected = holm(np.array([p_value for _, p_value, _ in measured]))
    return [
        _comparison(pair, (runs[pair[0]], runs[pair[1]]), differences, float(p_value), test, len(pairs))
        for pair, (differences, _, test), p_value in zip(pairs, measured, corrected, strict=True)
    ]


def _differences(first: Predictions, second: Predictions) -> tuple[dict[str, Metric], float, str]:
    """Second minus first in accuracy, balanced accuracy and log loss; the p-value of the first, and its test.

    Where an image may have several labels, accuracy is the share with every one right, and F1 of each image replaces
    balanced accuracy.
    """
    groups, n = group_codes(first.groups), len(first)
    hits = second.correct.astype(np.float64) - first.correct
    loss = _loss(second) - _loss(first)
    found = {
        "accuracy": metric(float(hits.mean()), n, paired_interval(hits, groups, step=1.0), groups),
        **row_of(SECOND, first.task)(first, second, hits, groups),
        "log_loss": metric(float(loss.mean()), n, paired_interval(loss, groups), groups),
    }
    if groups is None:
        return found, mcnemar(int((hits < 0).sum()), int((hits > 0).sum())), "McNemar's exact test"
    return found, flipped(hits, groups), f"sign flips of {found['accuracy'].groups} groups"


def _samples_f1(first: Predictions, second: Predictions, hits: np.ndarray, groups: Groups) -> dict[str, Metric]:
    f1 = image_scores(second.logits, second.truth) - image_scores(first.logits, first.truth)
    return {"samples_f1": metric(float(f1.mean()), len(first), paired_interval(f1, groups, step=1.0), groups)}


def _balanced(first: Predictions, second: Predictions, hits: np.ndarray, groups: Groups) -> dict[str, Metric]:
    n = len(first)
    # Each image of a class with m of n images counts n / (K m): the mean is that of the classes' means.
    _, place, support = np.unique(first.labels, return_inverse=True, return_counts=True)
    balanced = hits * (n / (len(support) * support))[place]
    return {"balanced_accuracy": metric(float(balanced.mean()), n, paired_interval(balanced, groups, step=1.0), groups)}


def _grades(first: Predictions, second: Predictions, hits: np.ndarray, groups: Groups) -> dict[str, Metric]:
    apart = [np.abs(rows.predicted - rows.labels).astype(np.float64) for rows in (first, second)]
    change = apart[1] - apart[0]
    interval = paired_interval(change, groups, step=1.0)
    return {"mean_absolute_error": metric(float(change.mean()), len(first), interval, groups)}


SECOND = {SINGLE.name: _balanced, MULTI.name: _samples_f1, ORDINAL.name: _grades}
"""What is compared besides accuracy and log loss; one row for each task with classes."""


# -- Numbers: mean absolute errors on the same images ---

ERROR = "mean absolute error"


def _compare_numbers(runs: Mapping[str, Predictions]) -> list[Comparison]:
    """Compare every other run with the first by its mean absolute error; of several numbers in standard deviations."""
    first, *others = runs
    groups = group_codes(runs[first].groups)
    unit = runs[first].truth.std(axis=0) if len(runs[first].classes) > 1 else np.ones(1)
    apart = {
        name: np.abs((rows.logits - rows.truth) / np.maximum(unit, 1e-12)).mean(axis=1) for name, rows in runs.items()
    }
    units = np.arange(len(runs[first])) if groups is None else groups
    corrected = holm(np.array([flipped(apart[other] - apart[first], units) for other in others]))
    measure = ERROR if len(unit) == 1 else f"{ERROR} in standard deviations"
    found = []
    for other, p_value in zip(others, corrected.tolist(), strict=True):
        change = apart[other] - apart[first]
        gained = metric(float(change.mean()), len(change), paired_interval(change, groups), groups)
        errors = [
            metric(float(one.mean()), len(one), mean_interval(one, groups), groups)
            for one in (apart[first], apart[other])
        ]
        significant = p_value < SIGNIFICANT and not gained.low <= 0 <= gained.high  # type: ignore[operator]
        more = f" after Holm's correction for {len(others)} pairs" if len(others) > 1 else ""
        test = f"sign flips of {'images' if groups is None else f'{gained.groups} groups'}"
        found.append(
            Comparison(
                first=first,
                second=other,
                n=len(change),
                accuracy=(errors[0], errors[1]),
                differences={measure.replace(" ", "_"): gained},
                only_first=(),
                only_second=(),
                p_value=p_value,
                test=test,
                significant=significant,
                sentence=_number_sentence(
                    (first, other), gained, measure, significant, f"{test}, p = {p_value:.2g}{more}"
                ),
                measure=measure,
            )
        )
    return found


def _number_sentence(names: tuple[str, str], gained: Metric, measure: str, significant: bool, tested: str) -> str:
    """`B has a mean absolute error lower by 1.2 than A, 95 % interval 0.3 to 2.1, on 312 images: significant (...)`."""
    low, value, high = ((number or 0.0) for number in (gained.low, gained.value, gained.high))
    better, worse = (names[1], names[0]) if value < 0 else (names[0], names[1])
    if value < 0:
        low, value, high = -high, -value, -low
    images = f"{gained.n} images" + (f" in {gained.groups} groups" if gained.groups else "")
    verdict = f"{'significant' if significant else 'not significant'} ({tested})"
    return (
        f"{better} has a {measure} lower by {value:.4g} than {worse}, 95 % interval {low:.4g} to {high:.4g}, on {images}: "
        f"{verdict}."
    )


COMPARED = {
    SINGLE.name: _compare_classes,
    MULTI.name: _compare_classes,
    ORDINAL.name: _compare_classes,
    NUMBER.name: _compare_numbers,
}
"""One row for each task."""


def _loss(rows: Predictions) -> np.ndarray:
    """-log p(truth) of each image, float64 (n,), at most that of the smallest float above 0 (as scikit-learn clips)."""
    return np.minimum(image_losses(rows.logits, rows.truth, rows.temperature), -np.log(_SMALLEST))


def _comparison(
    names: tuple[str, str],
    runs: tuple[Predictions, Predictions],
    differences: dict[str, Metric],
    p_value: float,
    test: str,
    pairs: int,
) -> Comparison:
    groups, gained = group_codes(runs[0].groups), differences["accuracy"]
    right = [rows.correct for rows in runs]
    accuracy = [metric(float(hits.mean()), len(hits), share_interval(hits, groups), groups) for hits in right]
    significant = p_value < SIGNIFICANT and not gained.low <= 0 <= gained.high  # type: ignore[operator]
    tested = f"{test}, p = {p_value:.2g}" + (f" after Holm's correction for {pairs} pairs" if pairs > 1 else "")
    return Comparison(
        first=names[0],
        second=names[1],
        n=gained.n,
        accuracy=(accuracy[0], accuracy[1]),
        differences=differences,
        only_first=tuple(runs[0].paths[i] for i in np.flatnonzero(right[0] & ~right[1]).tolist()),
        only_second=tuple(runs[1].paths[i] for i in np.flatnonzero(right[1] & ~right[0]).tolist()),
        p_value=p_value,
        test=test,
        significant=significant,
        sentence=_sentence(names, gained, significant, tested),
    )


def _sentence(names: tuple[str, str], gained: Metric, significant: bool, tested: str) -> str:
    """`B is better by 1.4 points, 95 % interval -0.3 to 3.1, on 312 images: not significant (...)`."""
    low, value, high = (100 * (number or 0.0) for number in (gained.low, gained.value, gained.high))
    better, worse = (names[1], names[0]) if value >= 0 else (names[0], names[1])
    if value < 0:
        low, value, high = -high, -value, -low
    images = f"{gained.n} images" + (f" in {gained.groups} groups" if gained.groups else "")
    verdict = f"{'significant' if significant else 'not significant'} ({tested})"
    if value == 0:
        return f"{better} and {worse} have the same accuracy, 95 % interval {low:.1f} to {high:.1f} points, on {images}: {verdict}."
    return f"{better} is better than {worse} by {value:.1f} points, 95 % interval {low:.1f} to {high:.1f}, on {images}: {verdict}."


# -- Does order matter? What a classifier of clips gains over the mean over time, and over its own answers to shuffled frames ---

MEASURED = {"mean": "accuracy_of_mean", "shuffled": "accuracy_shuffled"}  # metrics of a split
MAIN = ("test", WITHOUT_SPLIT, "val")  # the sentence is about the first one present


def with_order(
    evaluation: EvaluationResult, predictions: Predictions, others: dict[str, np.ndarray], clip: ClipFacts | None
) -> EvaluationResult:
    """The evaluation with the accuracy of both in every split, and one sentence on the main one.

    Args:
        evaluation: of the predictions.
        predictions: of N clips.
        others: from `judgement.said_otherwise`.
        clip: what reads the frames; None for images, to which this does not apply.
    """
    if clip is None:
        return evaluation
    splits, notes = {name: replace(result, sample=CLIP) for name, result in evaluation.splits.items()}, []
    evaluation = replace(evaluation, splits=splits)
    if not predictions.task.can("balance"):  # several labels and numbers have no accuracy
        return evaluation
    splits = dict(splits)
    for name, result in evaluation.splits.items():
        rows = _rows(predictions, name)
        if rows is None or "accuracy" not in result.metrics:
            continue
        truth, groups = predictions.truth[rows], _groups(predictions, rows)
        right = {kind: _right(predictions, logits[rows], truth) for kind, logits in others.items()}
        shares = {MEASURED[kind]: _share(scores, groups) for kind, scores in right.items()}
        splits[name] = replace(result, metrics={**result.metrics, **shares})
        if name == next((one for one in MAIN if one in evaluation.splits), ""):
            own = _right(predictions, predictions.logits[rows], truth)
            ships = _ships(predictions, others, clip)
            notes.append(sentence(ships, result.metrics["accuracy"], shares, _gains(own, right, groups)))
    return replace(evaluation, splits=splits, notes=(*notes, *evaluation.notes))


def _ships(predictions: Predictions, others: dict[str, np.ndarray], clip: ClipFacts) -> str:
    """What ships, in words: the head that reads the frames in order, or the mean where that was chosen."""
    if "mean" in others and np.allclose(predictions.logits, others["mean"], atol=1e-3):
        return "mean" if clip.time == "mean" else f"the mean ships, not {clip.time}"
    return clip.time


def sentence(time: str, accuracy: Metric, shares: dict[str, Metric], gains: dict[str, Metric]) -> str:
    """Whether order matters, in words: it does where the interval of a paired difference lies above zero."""
    beside = [f"{words} {_shown(shares[MEASURED[kind]])}" for kind, words in WORDS.items() if kind in gains]
    surely = [kind for kind, gain in gains.items() if (gain.low or 0.0) > 0]
    against = "; ".join(
        f"{100 * (gain.value or 0):+.1f} points against {AGAINST[kind]}{_between(gain)}" for kind, gain in gains.items()
    )
    head = "Does order matter? "
    if len(surely) == len(gains) and gains:
        head += "Yes"
    elif "shuffled" in surely:
        head += "What ships uses the order of frames, but is not shown to gain by it"
    else:
        head += f"Not as far as these {accuracy.n} clips show"
    return f"{head}: accuracy {_shown(accuracy)} ({time}), {', '.join(beside)}; {against}."


WORDS = {"mean": "of the mean over time", "shuffled": "with frames shuffled"}
AGAINST = {"mean": "the mean", "shuffled": "shuffled frames"}


def _rows(predictions: Predictions, split: str) -> np.ndarray | None:
    codes = {**{name: code for code, name in enumerate(SPLITS)}, WITHOUT_SPLIT: -1}
    if split not in codes:
        return None
    return np.flatnonzero((predictions.splits == codes[split]) & predictions.labelled)


def _groups(predictions: Predictions, rows: np.ndarray) -> np.ndarray | None:
    return group_codes(None if predictions.groups is None else [predictions.groups[i] for i in rows.tolist()])


def _right(predictions: Predictions, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float64 (n,), 1 where the accuracy of the predictions would count such logits (n, K) as right."""
    return predictions.task.correct(logits, truth, predictions.temperature).astype(np.float64)


def _share(right: np.ndarray, groups: np.ndarray | None) -> Metric:
    return metric(float(right.mean()), len(right), share_interval(right > 0, groups), groups)


def _gains(own: np.ndarray, others: dict[str, np.ndarray], groups: np.ndarray | None) -> dict[str, Metric]:
    found = {}
    for kind, right in others.items():
        change = own - right
        found[kind] = metric(float(change.mean()), len(change), paired_interval(change, groups, step=1.0), groups)
    return found


def _shown(share: Metric) -> str:
    value = f"{share.value or 0:.3f}"
    return value if share.low is None or share.high is None else f"{value} [{share.low:.3f}, {share.high:.3f}]"


def _between(gain: Metric) -> str:
    return "" if gain.low is None or gain.high is None else f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
