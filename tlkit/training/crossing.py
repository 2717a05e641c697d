"""Too few images to hold any out: what validation would decide is cross-validated, and every image trains.

    checkpoints/folds/1.npz         what the candidates of a fold say of the images it held out
                     /1/STAGE/      its stages while they train

In each fold the whole of the training is done without the images held out, which the candidates are then asked about:
the probe, what each stage ends with, what lies between. Every training image is held out once, so that together they
are a validation set as large as the training set; what wins on it is trained anew on all images. No epoch is chosen in
a fold and none in the end: each stage runs all its epochs, at the end of which its rate is zero.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlkit.base.files import reading, replacing
from tlkit.base.story import Silence, Story
from tlkit.classifier.answers import image_scores
from tlkit.data.dataset import SPLITS, UNASSIGNED, Dataset, Splits
from tlkit.data.folds import strata, stratified
from tlkit.evaluation.choice import KINDS, Choice, Entry
from tlkit.evaluation.choice import choose as decide
from tlkit.options.commands import FinetuneConfig
from tlkit.options.groups import VALIDATION_IMAGES
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
from tlkit.training.plan import SOLVED, Decision, Plan, duration
from tlkit.training.stages import Material, Traced, groups_of_all, held_out, run_stage

FEWEST = 30  # images to choose by; below, a standard error of accuracy is 5 points and more
FEWEST_IN_ALL = 50  # likewise, all folds together: chosen on 40, fine-tuning cost points on two of five draws
SECONDS_MOST = 600.0  # expected of all folds together; above, fine-tuning is left out
PHASE = "cross-validating"
OVERHEAD = 10.0  # seconds that a stage takes to begin with, however few its images: steps are traced and compiled


@dataclass(frozen=True)
class Crossed:
    """What cross-validation found.

    Args:
        choice: what ships; None where there was nothing to choose from.
        logits: float32 (n, K) of what ships, of the training images, each from a network that had not seen it; n is 0
            where none could be held out.
        labels: their truth, one row an image.
        note: what the report says of it.
    """

    choice: Choice | None
    logits: np.ndarray
    labels: np.ndarray
    note: str


def join_few(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> Splits:
    """The split without validation images where they would be too few to choose by: then they train.

    They stay where the images came with them, where an option needs them, and with several labels an image.

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
    why = f"{len(held)} validation images would be too few to choose by (fewer than {FEWEST}): they train"
    why = "Nothing is held out for validation, as asked" if config.validate == "folds" else why
    why = why if len(held) else "No image can be spared for validation"
    counts = ", ".join(f"{name} {(codes == code).sum()}" for code, name in enumerate(SPLITS) if (codes == code).any())
    origin = splits.rule.partition(": ")[2]
    why = f"{why}, and what validation would decide is cross-validated"
    return Splits(codes, f"{counts}: {origin} {why}.", f"{splits.origin}. {why}")


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
    """Why nothing could check what fine-tuning does, so that it is left out; "" where something can, or need not."""
    if not _replaces_validation(config, dataset, splits) or not gradient_stages(plan):
        return ""
    train, folds = len(splits.indices("train")), folds_of(config, dataset, splits)
    seconds = _seconds(plan, len(folds))
    if not folds:
        why = "a class has a single image (or group), so nothing can be held out"
    elif train < FEWEST_IN_ALL and config.validate == "auto":
        few = f"{train} training images are too few to choose by (fewer than {FEWEST_IN_ALL})"
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
        return Decision("validate", "split", f"{held} validation images decide what ships")
    if not _replaces_validation(config, dataset, splits):
        return Decision("validate", "nothing", "no images are held out: the last stage ships unchecked")
    folds = folds_of(config, dataset, splits)
    if not folds:
        return Decision("validate", "nothing", "a class has a single image (or group), so nothing can be held out")
    which = (
        "as asked" if config.validate == "folds" else f"fewer than {FEWEST} validation images are too few to choose by"
    )
    expected = f", about {duration(_seconds(plan, len(folds)))}" if gradient_stages(plan) else ""
    how = f"{which}: {train} training images, each held out once{expected}; what wins is trained anew on all of them"
    return Decision("validate", f"{len(folds)} folds", how)


def folds_of(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> list[np.ndarray]:
    """Bool (n,) masks of the training images that each fold holds out; none where a class has a single unit."""
    rows = splits.indices("train")
    return stratified(strata(dataset.truth[rows]), groups_of_all(dataset)[rows], config.seed)


def _replaces_validation(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> bool:
    return not len(splits.indices("val")) and _allowed(config, dataset)


def seconds(plan: Plan, config: FinetuneConfig, dataset: Dataset, splits: Splits) -> float:
    """That cross-validation is expected to take; 0 where there is none."""
    replaced = _replaces_validation(config, dataset, splits)
    return _seconds(plan, len(folds_of(config, dataset, splits))) if replaced else 0.0


def _seconds(plan: Plan, folds: int) -> float:
    return folds * sum(stage.seconds + OVERHEAD for stage in gradient_stages(plan))


def cross_validated(plan: Plan, sink: Sink, material: Material, story: Story) -> tuple[Plan, Crossed | None]:
    """Where there are no validation images but should be: choose what ships by cross-validation.

    Returns:
        The plan, with the head's stage alone where the probe ships; and what was found, None where there is
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
        return plan, Crossed(None, np.empty((0, material.classes), np.float32), np.empty(0, np.int32), why)
    expected = f", about {duration(_seconds(plan, len(folds)))}" if gradient_stages(plan) else ""
    story.begin(PHASE)
    story.say(f"cross-validation in {len(folds)} folds of {len(rows)} training images{expected}")
    found = _chosen(_given(plan, sink.folder / "checkpoints", material, folds, story), material, folds)
    if found.choice is not None:
        sink.write("choice", found.choice.as_json())
        story.say(describe_choice(found.choice))
        if found.choice.taken.kind == "probe":
            plan = replace(plan, stages=plan.stages[:1])
    return plan, replace(found, note=f"{why} {found.note}".strip())


def _given(
    plan: Plan, checkpoints: Path, material: Material, folds: Sequence[np.ndarray], story: Story
) -> list[list[Entry]]:
    """What the candidates of each fold say of the images it held out; the layers are as before afterwards."""
    model, traced, found = material.classifier.model, Traced(), []
    start = [np.array(weight) for weight in model.get_weights()]
    for number, held in enumerate(folds, start=1):
        folder = checkpoints / "folds" / str(number)
        if not folder.with_suffix(".npz").is_file():
            began = time.monotonic()
            model.set_weights(start)
            given = _fold(plan, material, traced, held, folder)
            _write(folder.with_suffix(".npz"), given)
            labels = material.labels("train")[held]
            ends = [one for one in given if one.kind in KINDS[:2]]
            shares = ", ".join(f"{one.name} {image_scores(one.logits, labels).mean():.3f}" for one in ends)
            story.say(f"  fold {number}, {held.sum()} held out: {shares} ({time.monotonic() - began:.1f} s)")
        found.append(_read(folder.with_suffix(".npz")))
        shutil.rmtree(folder, ignore_errors=True)
        story.reach(number, len(folds))
    model.set_weights(start)
    return found


def _fold(plan: Plan, material: Material, traced: Traced, held: np.ndarray, folder: Path) -> list[Entry]:
    """Train without the images held out, bool over the training images, and ask the candidates about them."""
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
        reading(path, "delete it and run the same command again: it is computed once more."),
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
    where = f"{len(rows)} training images, each held out of one of {len(folds)} folds"
    groups, balanced = groups_of(material.dataset, rows), is_balanced(material)
    made = replace(decide(together, labels, groups=groups, balanced=balanced), held_out=where)
    logits = next(one.logits for one in together if one.name == made.chosen)
    accuracy = made.taken.accuracy
    interval = "" if accuracy.low is None else f" [{accuracy.low:.3f}, {accuracy.high:.3f}]"
    note = f"Cross-validated {made.measure} of {made.chosen}: {accuracy.value:.4f}{interval}, on {where}."
    return Crossed(made if len(together) > 1 else None, logits, labels, note)
