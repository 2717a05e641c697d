"""`train`: images and a network in, a trained classifier out; the same function for the command and for Python.

    parts = build_parts(options, dataset, story)
    trained = train(dataset, splits, parts, options, FolderSink(Path("work")))

Every step leaves its result with the sink, whole or not at all, and is skipped where that result already is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tlkit.base.story import Silence, Story
from tlkit.classifier.heads.build import ORDER
from tlkit.classifier.model import Classifier
from tlkit.data.dataset import Dataset, Splits
from tlkit.evaluation.calibration import fit_temperature
from tlkit.evaluation.choice import Choice
from tlkit.options.commands import FinetuneConfig
from tlkit.tasks.task import Scale
from tlkit.training import balance, choosing, crossing, minutes
from tlkit.training.checkpoint import Checkpoint, Sink, State
from tlkit.training.costs import CHOOSING, SEARCHING
from tlkit.training.crossing import Crossed
from tlkit.training.minutes import Budget
from tlkit.training.plan import Decision, Plan
from tlkit.training.settle import settle
from tlkit.training.stages import Material, Parts, gather, logits, run_stage, settle_precision


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it.

    Args:
        plan: as it was carried out.
        material: the images, and the layers, which hold what ships.
        states: what became of each stage.
        logits: float32 (N, K) of every image, by what ships.
        choice: among which weights; None where there was nothing to choose from, or no image to choose by.
        crossed: what cross-validation found, where it took the place of validation images.
    """

    plan: Plan
    material: Material
    states: Sequence[State]
    logits: np.ndarray
    choice: Choice | None
    crossed: Crossed | None

    @property
    def classifier(self) -> Classifier:
        """Images in, logits out; not calibrated yet."""
        return self.material.classifier

    def calibrated(self) -> Classifier:
        """The classifier with its temperature, fitted on what was held out, and with what it was trained on."""
        dataset, splits = self.material.dataset, self.material.splits
        held = splits.indices("val")
        found = self.crossed
        judged, truth = (found.logits, found.labels) if found else (self.logits[held], dataset.truth[held])
        return self.classifier.with_facts(
            temperature=float(fit_temperature(judged, truth)) if len(truth) else 1.0,
            margins=dataset.task.margins(judged, truth),
            trained_on=tuple(sorted(row.tobytes().hex() for row in dataset.sha256[splits.indices("train")])),
            flip=self.material.config.flip and dataset.task.can("views"),
        )


def train(
    dataset: Dataset,
    splits: Splits,
    source: Parts,
    options: FinetuneConfig,
    sink: Sink,
    *,
    plan: Plan | None = None,
    budget: Budget | None = None,
    story: Story | None = None,
) -> Trained:
    """Train in stages, and put what is the best of them on held-out images into the layers.

    Args:
        dataset: the images, every one of them readable.
        splits: which of them train, which decide.
        source: the network, whose layers are trained.
        options: as asked for; paths among them are not looked at.
        sink: where results go, and where those of an earlier call are found.
        plan: `settle`'s for the same arguments, made here unless given.
        budget: of the minutes that all of it may take.
        story: hears what happens.

    Raises:
        TlkitError: what the options ask for cannot be done with these images, or a file is gone.
    """
    story = story or Silence()
    plan = plan or settle(options, source, dataset, splits, budget=budget)
    scale = dataset.task.scale(dataset.truth[splits.indices("train")])
    material = gather(plan.settles(options), source, plan, dataset, splits, story)
    sink.prepared(material)
    material = replace(material, dataset=dataset.in_units(scale))
    material = balance.settled(material, sink, story)
    if options.balance in balance.MEASURED:
        settled = balance.BalanceChoice(**sink.read("balance"))
        plan = plan.deciding(Decision("balance", settled.balance, settled.reason))
        sink.write("plan", plan.as_json())
    plan, crossed = crossing.cross_validated(plan, sink, material, story)
    if budget:
        minutes.set_aside(budget, plan, splits)
    states: list[State] = []
    for number, stage in enumerate(plan.stages):
        if options.search and number == len(plan.stages) - 1:
            story.begin(SEARCHING)
            plan, material = _searched(plan, material, source, options, sink, story)
            stage = plan.stages[-1]
        story.begin(stage.doing)
        story.say(f"stage {stage.name}: {stage.learns}")
        stage = (plan := settle_precision(plan, number, material, sink, story)).stages[number]
        states.append(run_stage(stage, material, Checkpoint(sink.folder / "checkpoints" / stage.name), story, budget))
        story.say(f"  {states[-1].note}")
        sink.history([row for state in states for row in state.history])
    story.begin(CHOOSING)
    made = choosing.choose(sink, plan, material, states, story, crossed.choice if crossed else None)
    scores = logits(choosing.ships_from(plan, made), material, story)
    if made is not None:
        choosing.record_gain(made, sink, plan, material, scores, story)
    if scale is not None:
        material, scores, crossed = _folded(replace(material, dataset=dataset), scores, crossed, scale)
    return Trained(plan=plan, material=material, states=states, logits=scores, choice=made, crossed=crossed)


def _folded(
    material: Material, scores: np.ndarray, crossed: Crossed | None, scale: Scale
) -> tuple[Material, np.ndarray, Crossed | None]:
    """What was learned in other units, in those of the images: the last layer of the network, and what it says.

    The layers are changed once, after everything that was learned has been read from its checkpoints.
    """
    for last in (layer for layer in material.head.model.layers if layer.name in ("logits", ORDER)):
        kernel, *bias = (np.asarray(weight, np.float64) * scale.unit for weight in last.get_weights())
        last.set_weights([kernel, *(each + scale.centre for each in bias)])
    if crossed is not None:
        judged, truth = scale.restore(crossed.logits), crossed.labels * scale.unit + scale.centre
        crossed = replace(crossed, logits=judged, labels=truth)
    return material, scale.restore(scores), crossed


def _searched(
    plan: Plan, material: Material, source: Parts, options: FinetuneConfig, sink: Sink, story: Story
) -> tuple[Plan, Material]:
    """The plan and the material of the best trial of the last stage."""
    from tlkit.training import search  # of this option alone

    def prepare(tried: FinetuneConfig) -> tuple[Plan, Material]:
        other = settle(tried, source, material.dataset, material.splits, why_blocks="as this trial has it")
        return other, gather(tried, source, other, material.dataset, material.splits, story)

    return search.searched(plan, material, sink, prepare, story, augment=options.augment == "auto")
