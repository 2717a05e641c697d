"""Too few images to hold any out: cross-validation decides in place of validation, and every image trains.

    checkpoints/folds/1.npz         logits of the candidates of a fold for the images it held out
                     /1/STAGE/      its stages while they train

In each fold the whole training is done without the images held out, and the candidates (the probe, the end of each
stage, interpolations) then predict these. Every training image is held out once, so that together they are a
validation set as large as the training set; what wins on it is retrained on all images. No epoch is chosen, in the
folds or at the end: each stage runs all its epochs, after which its rate is zero.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.base.files import reading, replacing
from tlkit.base.process import scratch
from tlkit.base.story import Silence, Story
from tlkit.classifier.answers import image_scores
from tlkit.data.dataset import SPLITS, UNASSIGNED, Dataset, Splits
from tlkit.data.folds import strata, stratified
from tlkit.evaluation.choice import KINDS, Choice, Entry
from tlkit.evaluation.choice import choose as decide
from tlkit.extraction.executors import opened
from tlkit.options.commands import FinetuneConfig
from tlkit.options.groups import VALIDATION_IMAGES
from tlkit.training.balance import ADJUSTING, log_prior
from tlkit.training.checkpoint import Checkpoint, Sink
from tlkit.training.choosing import (
    PROBE,
    Tuned,
    describe_choice,
    entries,
    gradient_stages,
    groups_of,
    is_balanced,
    offers,
)
from tlkit.training.fit import Epoch
from tlkit.training.optimizer import Layerwise
from tlkit.training.plan import SOLVED, Decision, Plan, Stage, duration
from tlkit.training.planner import COMPILING
from tlkit.training.stages import Material, Ready, examples_of, groups_of_all, held_out, made_ready, run_stage

FEWEST = 30  # images to choose by; below, a standard error of accuracy is 5 points and more
FEWEST_IN_ALL = 50  # likewise, all folds together: chosen on 40, fine-tuning cost points on two of five draws
SECONDS_MOST = 600.0  # expected of all folds together; above, fine-tuning is left out
PHASE = "cross-validating"
BEGINNING = 4.0  # seconds that a stage takes to start, once for all folds: its step is traced and compiled
AROUND = 1.5  # seconds of each stage of each fold besides its steps: the solved head, saving weights, predictions of candidates


@dataclass(frozen=True)
class Crossed:
    """What cross-validation found.

    Args:
        choice: what ships; None where there was nothing to choose from.
        logits: float32 (n, K) of what ships, of the training images, each from a network that had not seen it; n is 0
            where none could be held out.
        labels: their truth, one row for each image.
        note: what the report says of it.
    """

    choice: Choice | None
    logits: np.ndarray
    labels: np.ndarray
    note: str


def join_few(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> Splits:
    """The split, with the validation images moved to training where they would be too few to choose by.

    They stay where the images came with a split, where an option needs them, and with several labels per image.

    Raises:
        TlkitError: cross-validation was asked for, and an image may have several labels.
    """
    held, given = splits.indices("val"), (dataset.given == SPLITS.index("val")).any()
    if config.validate == "folds":
        dataset.task.refuse("folds", "--validate folds:")
    if dataset.drawn:  # it was done when the split was drawn
        return splits
    if not _allowed(config, dataset) or (config.validate == "auto" and (given or len(held) >= FEWEST)):
        return splits
    codes = splits.codes.copy()
    codes[held] = SPLITS.index("train")
    why = f"{len(held)} validation {dataset.samples} would be too few to choose by (fewer than {FEWEST}): they train"
    why = "Nothing is held out for validation, as asked" if config.validate == "folds" else why
    why = why if len(held) else f"No {dataset.sample} can be spared for validation"
    counts = ", ".join(f"{name} {(codes == code).sum()}" for code, name in enumerate(SPLITS) if (codes == code).any())
    origin = splits.rule.partition(": ")[2]
    joined = Splits(codes, "", splits.origin)
    if folds_of(config, dataset, joined):
        why = f"{why}, and what validation would decide is cross-validated"
    return replace(joined, rule=f"{counts}: {origin} {why}.", origin=f"{splits.origin}. {why}")


def _allowed(config: FinetuneConfig, dataset: Dataset) -> bool:
    """Whether cross-validation may take the place of validation images."""
    needed = any(getattr(config, name) is not None for name in VALIDATION_IMAGES)
    return (
        config.validate != "split"
        and not needed
        and dataset.task.can("folds")
        and (config.val > 0 or config.validate == "folds")
    )


def unchecked(plan: Plan, config: FinetuneConfig, dataset: Dataset, splits: Splits) -> str:
    """Why nothing could check fine-tuning, so that it is left out; "" where something can, or need not."""
    if not _replaces_validation(config, dataset, splits) or not gradient_stages(plan):
        return ""
    train, folds = len(splits.indices("train")), folds_of(config, dataset, splits)
    seconds = _seconds(plan, config, len(folds))
    if not folds:
        why = _indivisible(dataset, splits)
    elif train < FEWEST_IN_ALL and config.validate == "auto":
        few = f"{train} training {dataset.samples} are too few to choose by (fewer than {FEWEST_IN_ALL})"
        why = f"{few}; --validate folds cross-validates anyway"
    elif seconds > SECONDS_MOST:
        why = f"{len(folds)} folds would take about {duration(seconds)}, more than {duration(SECONDS_MOST)}"
    else:
        return ""
    return f"Fine-tuning is left out because nothing could check it: {why}. --val 0 fine-tunes unchecked."


def validation(plan: Plan, config: FinetuneConfig, dataset: Dataset, splits: Splits) -> Decision:
    """What decides which weights ship."""
    train, held = len(splits.indices("train")), len(splits.indices("val"))
    if held:
        return Decision("validate", "split", f"{held} validation {dataset.samples} decide what ships")
    if not _replaces_validation(config, dataset, splits):
        return Decision("validate", "nothing", f"no {dataset.samples} are held out: the last stage ships unchecked")
    folds = folds_of(config, dataset, splits)
    if not folds:
        return Decision("validate", "nothing", _indivisible(dataset, splits))
    which = (
        "as asked"
        if config.validate == "folds"
        else f"fewer than {FEWEST} validation {dataset.samples} are too few to choose by"
    )
    expected = f", about {duration(_seconds(plan, config, len(folds)))}" if gradient_stages(plan) else ""
    how = f"{which}: {train} training {dataset.samples}, each held out once{expected}; what wins is trained anew on all of them"
    return Decision("validate", f"{len(folds)} folds", how)


def folds_of(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> list[np.ndarray]:
    """Bool (n,) masks of the training images that each fold holds out; none where a class has a single unit."""
    rows = splits.indices("train")
    return stratified(strata(dataset.truth[rows]), groups_of_all(dataset)[rows], config.seed)


def _indivisible(dataset: Dataset, splits: Splits) -> str:
    """Why there are no folds: the first class (or stratum) that cannot be divided."""
    rows = splits.indices("train")
    codes, units = strata(dataset.truth[rows]), groups_of_all(dataset)[rows]
    alone = [code for code in np.unique(codes).tolist() if len(np.unique(units[codes == code])) < 2]
    what = repr(dataset.task.stratum(alone[0], dataset.classes)) if alone else "every way to part them"
    return f"{what} has a single image (or group), so nothing can be held out"


def _replaces_validation(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> bool:
    return not len(splits.indices("val")) and _allowed(config, dataset)


def seconds(plan: Plan, config: FinetuneConfig, dataset: Dataset, splits: Splits) -> float:
    """Seconds that cross-validation is expected to take; 0 where there is none."""
    replaced = _replaces_validation(config, dataset, splits)
    return _seconds(plan, config, len(folds_of(config, dataset, splits))) if replaced else 0.0


def _seconds(plan: Plan, config: FinetuneConfig, folds: int) -> float:
    """Seconds of so many folds, which share one traced step of each stage and run in parallel where there are workers."""
    trained = gradient_stages(plan)
    if not trained or not folds:
        return 0.0
    with opened(config.executor) as executor:
        turns = executor.turns(folds)
    return BEGINNING * len(trained) + turns * sum(max(0.0, one.seconds - COMPILING) + AROUND for one in trained)


def cross_validated(plan: Plan, sink: Sink, material: Material, story: Story) -> tuple[Plan, Crossed | None]:
    """Choose what ships by cross-validation, where it replaces validation images.

    Returns:
        The plan, with only the head's stage where the probe ships; and what was found, None where there is
        validation or none was wanted.
    """
    rows, config = material.rows("train"), material.config
    if not _replaces_validation(config, material.dataset, material.splits):
        return plan, None
    left_out = plan.decision("stages")
    why, folds = (
        left_out.reason if left_out and left_out.value == "head" else "",
        folds_of(config, material.dataset, material.splits),
    )
    if not folds:
        return plan, Crossed(None, np.empty((0, material.classes), np.float32), material.dataset.truth[:0], why)
    expected = f", about {duration(_seconds(plan, config, len(folds)))}" if gradient_stages(plan) else ""
    story.begin(PHASE)
    story.say(f"cross-validation in {len(folds)} folds of {len(rows)} training {material.dataset.samples}{expected}")
    found = _chosen(_given(plan, sink.folder / "checkpoints", material, folds, story), material, folds)
    if found.choice is not None:
        sink.write("choice", found.choice.as_json())
        story.say(describe_choice(found.choice, material.dataset.sample))
        if found.choice.taken.kind == "probe":
            plan = replace(plan, stages=plan.stages[:1])
    return plan, replace(found, note=f"{why} {found.note}".strip())


def _given(
    plan: Plan, checkpoints: Path, material: Material, folds: Sequence[np.ndarray], story: Story
) -> list[list[Entry]]:
    """The predictions of each fold's candidates for the images it held out; the layers are unchanged afterwards."""
    places = [checkpoints / "folds" / f"{number}.npz" for number in range(1, len(folds) + 1)]
    lacking = [number for number, place in enumerate(places) if not place.is_file()]
    work = _Folds(plan, material, folds, checkpoints / "folds")
    story.reach(len(folds) - len(lacking), len(folds))
    with opened(material.config.executor) as executor:
        back = executor.each(work, lacking, story, lambda number: f"fold {number + 1}")
        for done, (place, (given, seconds)) in enumerate(back, start=1 + len(folds) - len(lacking)):
            held = folds[number := lacking[place]]
            _write(places[number], given)
            shutil.rmtree(places[number].with_suffix(""), ignore_errors=True)
            labels = material.labels("train")[held]
            ends = [one for one in given if one.kind in KINDS[:2]]
            shares = ", ".join(f"{one.name} {image_scores(one.logits, labels).mean():.3f}" for one in ends)
            story.say(f"  fold {number + 1}, {held.sum()} held out: {shares} ({seconds:.1f} s)")
            story.reach(done, len(folds))
    work.begin()
    return [_read(place) for place in places]


class _Folds:
    """Trains a fold by its number, from the weights that the layers have now; pickled, in any process.

    Args:
        folder: for checkpoints; None in another process, where they go with the fold.
    """

    def __init__(self, plan: Plan, material: Material, folds: Sequence[np.ndarray], folder: Path | None = None) -> None:
        self.plan, self.material, self.folds, self.folder = plan, material, folds, folder
        self.start, self.traced = [np.array(weight) for weight in material.classifier.model.get_weights()], Traced()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Folds, (self.plan, self.material, self.folds)

    def begin(self) -> None:
        """Put the weights back."""
        self.material.classifier.model.set_weights(self.start)

    def __call__(self, number: int) -> tuple[list[Entry], float]:
        """The predictions of its candidates for the images it held out, and the seconds it took."""
        began = time.monotonic()
        self.begin()
        with nullcontext(self.folder) if self.folder else scratch() as folder:
            given = _fold(self.plan, self.material, self.traced, self.folds[number], folder / str(number + 1))
        return given, time.monotonic() - began


class Traced:
    """Stages that are trained several times, as in each fold: they reuse what was traced the first time.

    The optimizer starts from its initial state each time. If anything that is constant in a trace differs, the stage is
    recompiled: its settings, what the loss adds, the layers that learn, and the weights of those that do not.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def ready(self, stage: Stage, material: Material) -> Ready:
        """The stage as if it had just been compiled."""
        examples, kept = examples_of(stage, material), self._kept.get(stage.name)
        held: tuple[Any, ...] = (stage, examples.updates)
        if material.config.balance in ADJUSTING:
            held += (log_prior(examples.labels, examples.classes, material.tau).tobytes(),)
        if kept is not None and kept.serves(held):
            kept.optimizer.rewind(kept.start)
            return Ready(kept.model, replace(kept.epoch, compiling=0.0, known=True))
        ready = made_ready(stage, material, examples)
        self._kept[stage.name] = _Kept.of(ready, held)
        return ready


@dataclass(frozen=True)
class _Kept:
    """A stage's model and epoch, and their state when they were compiled."""

    model: keras.Model
    epoch: Epoch
    held: tuple[Any, ...]
    learns: list[bool]
    frozen: list[np.ndarray]
    optimizer: Layerwise
    start: list[np.ndarray]

    @classmethod
    def of(cls, ready: Ready, held: tuple[Any, ...]) -> "_Kept":
        model, optimizer = ready.model, ready.model.optimizer
        learns = [layer.trainable for layer in model.layers]
        return cls(model, ready.epoch, held, learns, _frozen(model), optimizer, optimizer.state())

    def serves(self, held: tuple[Any, ...]) -> bool:
        """Whether its trace is valid for what is held now; which of its layers learn is then as when it was compiled."""
        if (
            held != self.held or self.model.optimizer is not self.optimizer
        ):  # memory ran out, so its updates have other parts
            return False
        for layer, learns in zip(self.model.layers, self.learns, strict=True):
            layer.trainable = learns
        return all(map(np.array_equal, self.frozen, _frozen(self.model)))


def _frozen(model: keras.Model) -> list[np.ndarray]:
    """The weights of the frozen layers of a model."""
    layers = [layer for layer in model.layers if not layer.trainable]
    return [np.array(keras.ops.convert_to_numpy(weight)) for layer in layers for weight in layer.weights]


def _fold(plan: Plan, material: Material, traced: Traced, held: np.ndarray, folder: Path) -> list[Entry]:
    """Train without the images held out, bool over the training images, and predict these with each candidate."""
    codes = np.full(len(material.splits.codes), UNASSIGNED, np.int8)
    codes[material.rows("train")[~held]] = SPLITS.index("train")
    kept = np.flatnonzero(~held)
    views = {name: [view.select(kept) for view in views] for name, views in material.views.items()}
    training = replace(material, splits=Splits(codes, ""), views=views)
    codes = codes.copy()
    codes[material.rows("train")[held]] = SPLITS.index("val")
    judging = replace(training, splits=Splits(codes, ""))
    states = []
    for stage in plan.stages:
        checkpoint = Checkpoint(folder / stage.name)
        begun = stage.method in SOLVED or checkpoint.read().latest
        ready = None if begun else traced.ready(stage, training)
        states.append(run_stage(stage, training, checkpoint, Silence(), None, ready))
    if not gradient_stages(plan):
        return [Entry(PROBE, "probe", held_out(plan.stages[0], judging)())]
    trained = Tuned(plan, states, judging, folder)
    return entries(offers(trained), trained.held_out())


def _write(path: Path, given: Sequence[Entry]) -> None:
    arrays = {f"{one.kind}|{one.name}": one.logits for one in given}
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> list[Entry]:
    with (
        reading(path, "delete it and run the same command again: it is then recomputed."),
        np.load(path, allow_pickle=False) as arrays,
    ):
        return [Entry(name.partition("|")[2], name.partition("|")[0], arrays[name]) for name in arrays.files]


def _chosen(given: Sequence[Sequence[Entry]], material: Material, folds: Sequence[np.ndarray]) -> Crossed:
    """The choice by all folds together, among the candidates that every fold has."""
    rows = np.concatenate([material.rows("train")[held] for held in folds])
    labels = material.dataset.truth[rows]
    names = [one.name for one in given[0] if all(one.name in {other.name for other in fold} for fold in given)]
    together = [
        Entry(name, next(one.kind for one in given[0] if one.name == name), np.concatenate(said))
        for name in names
        for said in [[one.logits for fold in given for one in fold if one.name == name]]
    ]
    where = f"{len(rows)} training {material.dataset.samples}, each held out of one of {len(folds)} folds"
    groups, balanced = groups_of(material.dataset, rows), is_balanced(material)
    made = replace(decide(together, labels, groups=groups, balanced=balanced), held_out=where)
    logits = next(one.logits for one in together if one.name == made.chosen)
    accuracy = made.taken.accuracy
    interval = "" if accuracy.low is None else f" [{accuracy.low:.3f}, {accuracy.high:.3f}]"
    note = f"Cross-validated {made.measure} of {made.chosen}: {accuracy.value:.4f}{interval}, on {where}."
    return Crossed(made if len(together) > 1 else None, logits, labels, note)
