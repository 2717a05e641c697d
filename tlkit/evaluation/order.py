"""What a classifier of clips answers; and whether order matters: against the mean over time, and with frames shuffled."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing
from tlkit.base.story import Story
from tlkit.classifier.answers import Answers, Predictions, image_scores
from tlkit.classifier.facts import ClipFacts
from tlkit.classifier.model import Classifier, over_time
from tlkit.data.dataset import SPLITS, Dataset
from tlkit.evaluation.compare import paired_interval
from tlkit.evaluation.curves import metric
from tlkit.evaluation.evaluate import WITHOUT_SPLIT, group_codes
from tlkit.evaluation.intervals import share_interval
from tlkit.evaluation.results import EvaluationResult, Metric
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.store import ClipFeatures, Rows
from tlkit.options.groups import EngineOptions

SHUFFLED_BY = 0  # seed of the order of shuffled frames
BATCH = 64  # clips that the head reads at once
MEASURED = {"mean": "accuracy_of_mean", "shuffled": "accuracy_shuffled"}  # metrics of a split
MAIN = ("test", WITHOUT_SPLIT, "val")  # the first that there is, is spoken of


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
        """As an NPZ file without pickles."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, kernel=self.kernel, bias=self.bias)

    @classmethod
    def read(cls, path: Path) -> "Mean":
        """What `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["kernel"], arrays["bias"])


def logits_of(classifier: Classifier, rows: Rows) -> np.ndarray:
    """float32 (N, K): what a classifier of clips says of the features (N, T, C) of their frames."""
    model = over_time(classifier)
    model.compile(jit_compile=False)
    size = max(1, min(BATCH, len(rows)))
    parts = []
    for start in range(0, len(rows), size):
        block = rows[slice(start, start + size)]
        filled = np.concatenate([block, np.repeat(block[-1:], size - len(block), axis=0)])  # one shape is traced once
        parts.append(np.asarray(model.predict_on_batch(filled))[: len(block)])
    return np.concatenate(parts)


def answer_clips(
    classifier: Classifier, dataset: Dataset, config: EngineOptions, batch_size: int, story: Story
) -> tuple[Answers, Rows]:
    """The answers for N clips, and the features (N, T, C) of their frames.

    Args:
        classifier: of clips.
        dataset: the clips, every frame of them readable.
        config: which engine computes features.
        batch_size: frames to a forward pass.
        story: hears the progress.

    Raises:
        TlkitError: a frame that can no longer be read, or an engine that clips do not have.
    """
    if config.engine == "onnx":
        raise TlkitError("--engine onnx is for single images, and this classifier takes clips.", "use --engine auto.")
    source = FeatureSource.of_classifier(classifier)
    source = replace(source, engine_name=config.engine, precision=config.precision, batch_size=batch_size)
    found = source.extract(dataset, story=story)
    if found.problems:
        lost = found.problems[0]
        raise TlkitError(f"{lost.path!r} could be read a moment ago and cannot be now: {lost.reason}.", "restore it.")
    story.say(found.sentence("features of frames"))
    known, rows = classifier.familiarity, found.rows
    far = None if known is None else known.unfamiliarity(Rows(rows.pooled()))
    return Answers(logits_of(classifier, rows), far), rows


def said_otherwise(classifier: Classifier, rows: Rows, mean: Mean | None) -> dict[str, np.ndarray]:
    """Logits (N, K) by what they are: of the `mean` over time, where it is known; of frames `shuffled` within each clip."""
    held = rows.held
    found = {} if mean is None else {"mean": mean.logits(rows)}
    if isinstance(held, ClipFeatures):
        found["shuffled"] = logits_of(classifier, Rows(held.shuffled(SHUFFLED_BY)))
    return found


def with_order(
    evaluation: EvaluationResult, predictions: Predictions, others: dict[str, np.ndarray], clip: ClipFacts | None
) -> EvaluationResult:
    """The evaluation with the accuracy of both in every split, and one sentence on the main one.

    Args:
        evaluation: of the predictions.
        predictions: of N clips.
        others: as of `said_otherwise`.
        clip: what reads the frames; None for images, of which there is nothing to say.
    """
    if clip is None or not predictions.task.can("balance"):  # of several labels, or numbers, there is no accuracy
        return evaluation
    splits, notes = dict(evaluation.splits), []
    for name, result in evaluation.splits.items():
        rows = _rows(predictions, name)
        if rows is None or "accuracy" not in result.metrics:
            continue
        truth, groups = predictions.truth[rows], _groups(predictions, rows)
        right = {kind: image_scores(logits[rows], truth) for kind, logits in others.items()}
        shares = {MEASURED[kind]: _share(scores, groups) for kind, scores in right.items()}
        splits[name] = replace(result, metrics={**result.metrics, **shares})
        if name == next((one for one in MAIN if one in evaluation.splits), ""):
            own = image_scores(predictions.logits[rows], truth)
            ships = _ships(predictions, others, clip)
            notes.append(sentence(ships, result.metrics["accuracy"], shares, _gains(own, right, groups)))
    return replace(evaluation, splits=splits, notes=(*notes, *evaluation.notes))


def _ships(predictions: Predictions, others: dict[str, np.ndarray], clip: ClipFacts) -> str:
    """What answers: what reads the frames in order, or the mean where that was chosen."""
    if "mean" in others and np.allclose(predictions.logits, others["mean"], atol=1e-3):
        return "mean" if clip.time == "mean" else f"the mean ships, {clip.time} was no better on validation"
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
