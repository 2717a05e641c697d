"""Which weights a run ships: the candidates, their results on held-out images, and the reason for the choice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from tlkit.classifier.answers import image_losses, image_scores
from tlkit.evaluation.calibration import likeliest_temperature
from tlkit.evaluation.compare import paired_interval
from tlkit.evaluation.curves import metric
from tlkit.evaluation.intervals import Groups, mean_interval, share_interval, spread
from tlkit.evaluation.results import CLIP, IMAGE, Metric
from tlkit.tasks.registry import of_truth

CHOICE_FORMAT = 1
KINDS = ("probe", "fine-tuned", "interpolated", "soup")
"""From simple to complex: the head alone, an epoch of a stage, between the two, the mean of several epochs."""
NOT_GAINED = {
    IMAGE: "Fine-tuning did not help here: the backbone keeps its pretrained weights, and only the head was trained.",
    CLIP: "Reading the frames in order did not help here: the mean over time ships.",
}
"""The note where the simplest candidate ships, by the word for a sample."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One set of weights that might be shipped, measured on the held-out images.

    Args:
        name: in words.
        kind: one of `KINDS`.
        accuracy: share right, 0..1; what counts as right is `Choice.measure`.
        log_loss: of the probabilities, at the best temperature for this candidate.
        gained: accuracy minus that of the simplest candidate, with its paired interval; None for that one itself.
        lowered: log loss of the simplest candidate minus this one's, likewise: positive is better.
    """

    name: str
    kind: str
    accuracy: Metric
    log_loss: Metric
    gained: Metric | None = None
    lowered: Metric | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and why.

    Args:
        candidates: the simplest first.
        chosen: name of the one that ships.
        reason: one sentence.
        held_out: the images used for the choice, in words: "37 validation images".
        measure: what `accuracy` is: "accuracy", "balanced accuracy" or what the task calls its score.
        loss: what `log_loss` is.
        gained: split -> accuracy of what ships minus that of the simplest candidate, there; measured afterwards.
    """

    candidates: tuple[Candidate, ...]
    chosen: str
    reason: str
    held_out: str
    measure: str = "accuracy"
    loss: str = "log loss"
    gained: dict[str, Metric] | None = None

    @property
    def taken(self) -> Candidate:
        """The one that ships."""
        return next(one for one in self.candidates if one.name == self.chosen)

    def as_json(self) -> dict[str, Any]:
        """The content of choice.json; `from_json` restores it."""
        return {"format": CHOICE_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Choice":
        """Restore the value of `as_json`."""
        own = {name: value for name, value in content.items() if name != "format"}
        candidates = tuple(
            Candidate(**row | {name: row[name] and Metric(**row[name]) for name in _METRICS})
            for row in own["candidates"]
        )
        gained = own["gained"] and {split: Metric(**found) for split, found in own["gained"].items()}
        return cls(**own | {"candidates": candidates, "gained": gained})


_METRICS = ("accuracy", "log_loss", "gained", "lowered")


# -- Which of several sets of weights to ship, by their predictions for the same held-out images ---
#
# The one-standard-error rule (Breiman et al. 1984, Classification and Regression Trees), paired: whatever is more
# complex has to be better than what is simpler by more than one standard error of the difference on the same images.
# Accuracy decides. Few images make it coarse, though: with 37 of them the standard error of a difference is three
# points, and gains of that size would be missed. So where accuracies are within one standard error, the log loss of
# temperature-scaled probabilities decides by the same rule: it depends on every image, not only on those at the boundary.
#
# A single candidate that is no better is ahead by more than one standard error one time in six. The best of m would be so
# much more often, so it has to be further ahead, by the margin that makes it one time in six again (Šidák 1967): 1.6
# standard errors for the best of three, 2.6 for an epoch that these images picked among 40. And a mean of epochs is only
# considered where fine-tuning, or an interpolation, has already beaten the simplest: the best epochs of worse training
# are chance maxima.

TOLERANCE = 1 + 1e-9  # a difference of one standard error is none
_MOST = -float(np.log(np.finfo(np.float64).eps))  # of a loss


class Entry(NamedTuple):
    """A candidate and its logits on the held-out images.

    Args:
        name: in words.
        kind: one of `tlkit.evaluation.choice.KINDS`.
        logits: float (n, K), of the same images in the same order for all candidates.
        tried: the number of which these images picked it, or what it is made of, as the best; 1 where they did not.
    """

    name: str
    kind: str
    logits: np.ndarray
    tried: int = 1


@dataclass(frozen=True)
class JudgedCandidate:
    """How a candidate did on each image.

    Args:
        entry: the candidate.
        right: float64 (n,), 1 where it is right, times the weight of the image; the mean is its accuracy.
        loss: float64 (n,), -ln of the probability of the truth at its best temperature, times the weight.
    """

    entry: Entry
    right: np.ndarray
    loss: np.ndarray

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: accuracy first, then the smaller loss."""
        return float(self.right.mean()), -float(self.loss.mean())


def judge(entry: Entry, labels: np.ndarray, balanced: bool = False) -> JudgedCandidate:
    """Score a candidate on each image.

    Args:
        entry: the candidate.
        labels: int (n,), 0..K-1; n at least 1. Where an image may have several, (n, K) of 0 and 1: then `right` is F1
            of its labels.
        balanced: every class weighs the same, so that the mean of `right` is balanced accuracy; not for several labels.
    """
    weights = np.ones(len(labels))
    if balanced:
        _, place, support = np.unique(of_truth(labels).strata(labels), return_inverse=True, return_counts=True)
        weights = (len(labels) / (len(support) * support))[place]
    # Of all candidates alike; what ships is calibrated with more care for few errors.
    temperature = likeliest_temperature(entry.logits, labels)
    loss = np.minimum(image_losses(entry.logits, labels, temperature), _MOST)
    return JudgedCandidate(entry, image_scores(entry.logits, labels, temperature) * weights, loss * weights)


def choose(entries: Sequence[Entry], labels: np.ndarray, *, groups: Groups = None, balanced: bool = False) -> Choice:
    """Choose, by the rule above.

    Of candidates of one kind, only the best (accuracy, then log loss) is considered. From simple to complex, each
    has to beat the one chosen so far; a soup is not compared with the first.

    Args:
        entries: candidates; the first is the simplest.
        labels: int (n,), 0..K-1, of held-out images; n at least 1.
        groups: int (n,); images of a group are not independent.
        balanced: every class weighs the same.
    """
    verdicts, task = [judge(entry, labels, balanced) for entry in entries], of_truth(labels)
    first = taken = verdicts[0]
    better = ""
    for kind in KINDS:
        own = [verdict for verdict in verdicts[1:] if verdict.entry.kind == kind]
        if own and (kind != "soup" or taken is not first):
            best = max(own, key=lambda verdict: verdict.rank)
            tried = sum(verdict.entry.tried for verdict in own)
            why = why_better(taken, best, groups, tried=tried, loss=task.loss_name)
            if why:
                better, taken = f"{best.entry.name} {why} {taken.entry.name}", best
    measure = "balanced accuracy" if balanced and task.can("balance") else task.score_name
    reason = (
        better or f"no candidate is better than {first.entry.name}, the simplest, by more than chance would explain"
    )
    return Choice(
        candidates=tuple(_candidate(verdict, first, groups, balanced) for verdict in verdicts),
        chosen=taken.entry.name,
        reason=f"{reason}.",
        held_out="",
        measure=measure,
        loss=task.loss_name,
    )


def why_better(
    simple: JudgedCandidate, other: JudgedCandidate, groups: Groups = None, tried: int = 1, loss: str = "log loss"
) -> str:
    """The reason, in words, to take the more complex of two candidates, the best of `tried`; "" where there is none."""
    least = chance_bound(tried)
    bar = (
        "the standard error"
        if tried == 1
        else f"{least:.1f} standard errors, which the best of {tried} may reach by chance,"
    )
    gained, error = difference(other.right - simple.right, groups)
    if gained > least * error * TOLERANCE:
        return f"is more accurate by {100 * gained:.1f} points, more than {bar} of {100 * error:.1f}, than"
    lowered, loss_error = difference(simple.loss - other.loss, groups)
    if gained >= -error and lowered > least * loss_error * TOLERANCE:
        return (
            f"is about as accurate and has a {loss} lower by {lowered:.3f}, more than {bar} of {loss_error:.3f}, than"
        )
    return ""


def chance_bound(tried: int) -> float:
    """The quantile, in standard errors, that the best of `tried` equally good candidates exceeds by chance with probability 0.16.

    That is the probability with which one candidate exceeds one standard error (Šidák 1967).
    """
    normal = NormalDist()
    return normal.inv_cdf(normal.cdf(1.0) ** (1 / tried))


def difference(values: np.ndarray, groups: Groups = None) -> tuple[float, float]:
    """Mean of float (n,) and its standard error, by group where images are not independent; 0 and infinite for one."""
    mean, n = float(values.mean()), len(values)
    independent = n if groups is None else len(np.unique(groups))
    if independent < 2:
        return mean, float("inf")
    error = spread((values - mean) / n, groups)
    return mean, error * (float(np.sqrt(n / (n - 1))) if groups is None else 1.0)


def _candidate(verdict: JudgedCandidate, first: JudgedCandidate, groups: Groups, balanced: bool) -> Candidate:
    """Its results with intervals; differences are to the simplest candidate."""
    n, gained, lowered = len(verdict.right), None, None
    if verdict is not first:
        right, loss = verdict.right - first.right, first.loss - verdict.loss
        gained = metric(float(right.mean()), n, paired_interval(right, groups, step=1.0), groups)
        lowered = metric(float(loss.mean()), n, paired_interval(loss, groups), groups)
    whole = np.isin(verdict.right, (0.0, 1.0)).all()  # right or wrong, nothing between
    interval = share_interval(verdict.right > 0, groups) if whole and not balanced else None
    return Candidate(
        name=verdict.entry.name,
        kind=verdict.entry.kind,
        accuracy=metric(float(verdict.right.mean()), n, interval, groups),
        log_loss=metric(float(verdict.loss.mean()), n, mean_interval(verdict.loss, groups), groups),
        gained=gained,
        lowered=lowered,
    )


def gain(before: np.ndarray, after: np.ndarray, labels: np.ndarray, groups: Groups = None) -> Metric:
    """Accuracy of logits (n, K) minus that of others on the same images, with its paired interval."""
    right = [image_scores(logits, labels) for logits in (before, after)]
    change = right[1] - right[0]
    return metric(float(change.mean()), len(labels), paired_interval(change, groups, step=1.0), groups)
