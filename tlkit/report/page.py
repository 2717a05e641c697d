"""The parts of a report: plain data, each of which may be missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tlkit.auditing.findings import AuditResult
from tlkit.classifier.answers import Predictions
from tlkit.data.dataset import Problem
from tlkit.evaluation.choice import Choice
from tlkit.evaluation.portrait import Portrait
from tlkit.evaluation.results import EvaluationResult

Thumbnail = Callable[[str], bytes | None]
Overlays = Callable[[Sequence[str]], Mapping[str, bytes]]


@dataclass(frozen=True, kw_only=True)
class NearestImage:
    """A training image like another image.

    Args:
        path: as in the predictions.
        label: name of its class, "" where it has none.
        similarity: cosine of the features, -1..1.
    """

    path: str
    label: str
    similarity: float


Neighbours = Callable[[Sequence[str]], Mapping[str, Sequence[NearestImage]]]


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The classifier, for its card.

    Args:
        backbone: its name.
        weights: where its first weights come from, in words.
        licence: of those weights, "" where it is not known.
        head: in words.
        parameters: parameters of the whole classifier, None where they were not counted.
        image_size: height and width in pixels of what it sees.
        fit: how an image is fitted to that size.
        temperature: its logits are divided by it.
        threshold: lowest confidence at which it answers, None where it always does.
        intervals: whether the numbers that it predicts have intervals.
    """

    backbone: str
    weights: str
    licence: str
    head: str
    image_size: tuple[int, int]
    fit: str
    parameters: int | None = None
    temperature: float = 1.0
    threshold: float | None = None
    intervals: bool = False


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images a run worked on.

    Args:
        classes: K class names.
        counts: split -> K counts, in class order.
        rule: one sentence saying how the split came about.
        set_aside: files that could not be used, with the reason.
        ignored: how many files are not images at all.
        notes: plain sentences worth knowing.
        fixes: what fixes changed, and of which splits; "" where there were none.
        images: split -> images, where one may have several labels, so that the counts sum to more.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]
    rule: str = ""
    set_aside: Sequence[Problem] = ()
    ignored: int = 0
    notes: Sequence[str] = ()
    fixes: str = ""
    images: Mapping[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One stage: what was planned and, where it has been trained, what it took and gained.

    Args:
        stage: head, top or all.
        learns: the layers that it trains, in words.
        epochs: planned or done.
        learning_rate: of the stage.
        seconds: wall time, None while unknown.
        reason: why it is planned this way, or why it ended.
        val_accuracy: on the validation images at its end, 0..1.
        gained: change of that against the stage before, -1..1; None for the first one.
    """

    stage: str
    learns: str
    epochs: int
    learning_rate: float | None = None
    seconds: float | None = None
    reason: str = ""
    val_accuracy: float | None = None
    gained: float | None = None


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One epoch of the history; None where nothing was measured."""

    stage: str
    epoch: int
    loss: float | None = None
    accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a page comes from: what its last section shows, and what reproduces it.

    Args:
        title: heading, and the name in the browser's tab.
        command: the command line that reproduces it.
        created: when, as text.
        versions: package -> version.
        hardware: part -> description.
        fingerprints: what -> hex digest.
        seeds: what -> seed.
        config: the resolved options as TOML text.
    """

    title: str
    command: str = ""
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    config: str = ""


@dataclass(frozen=True, kw_only=True)
class Page(Provenance):
    """One report. Parts that are None or empty do not appear.

    Args:
        data: the images.
        plan: the stages.
        decisions: what was left to tlkit: option, what was chosen, why.
        history: the epochs of all stages, in order.
        choice: which weights ship.
        evaluation: what was measured.
        predictions: of the evaluated images; the galleries are chosen from them.
        audit: what the audit of the images found.
        synthesis: features drawn for rare classes beside real ones.
        model: the classifier.
        thumbnail: path as in `predictions` -> JPEG bytes of at most 160 pixels a side, or None.
        overlays: paths -> JPEG or PNG bytes of the evidence for the predicted class, where there is any.
        neighbours: paths -> the training images most like each, the most alike first.
    """

    data: Data | None = None
    plan: Sequence[PlanRow] = ()
    decisions: Sequence[tuple[str, str, str]] = ()
    history: Sequence[EpochRow] = ()
    choice: Choice | None = None
    evaluation: EvaluationResult | None = None
    predictions: Predictions | None = None
    audit: AuditResult | None = None
    synthesis: Portrait | None = None
    model: ModelSection | None = None
    thumbnail: Thumbnail | None = None
    overlays: Overlays | None = None
    neighbours: Neighbours | None = None
