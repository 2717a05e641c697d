"""`train`: images and a network in, a trained classifier out; the same function for the command and for Python.

    parts = build_parts(options, dataset, story)
    trained = train(dataset, splits, parts, options, FolderSink(Path("work")))

Every step leaves its result with the sink, whole or not at all, and is skipped where that result already exists.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from tlkit.base.machine import ran_out
from tlkit.base.story import Silence, Story
from tlkit.classifier.heads.build import ORDER
from tlkit.classifier.model import Classifier
from tlkit.data.dataset import Dataset, Splits
from tlkit.evaluation.calibration import fit_temperature
from tlkit.evaluation.choice import Choice
from tlkit.extraction.engine import AGREE, FASTER
from tlkit.options.commands import FinetuneConfig
from tlkit.tasks.task import Scale
from tlkit.training import balance, choosing, crossing, minutes
from tlkit.training.checkpoint import Checkpoint, Sink, State
from tlkit.training.costs import CHOOSING, TRIAL_COST, TRIAL_PARTS, TRIAL_SHARE
from tlkit.training.crossing import Crossed
from tlkit.training.examples import Examples, Reader
from tlkit.training.fit import Epoch
from tlkit.training.minutes import Budget
from tlkit.training.optimizer import WARM_UP
from tlkit.training.passes import predict
from tlkit.training.plan import PRECISION_OF, Decision, Plan, Stage, planned_epochs
from tlkit.training.planner import COMPILING, EARLY, RATES
from tlkit.training.settle import settle
from tlkit.training.stages import (
    Material,
    Parts,
    Ready,
    compiled_epoch,
    examples_of,
    gather,
    logits,
    made_ready,
    plain_reader,
    run_stage,
    stage_model,
)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The result of training.

    Args:
        plan: as it was carried out.
        material: the images, and the layers, which hold what ships.
        states: what became of each stage.
        logits: float32 (N, K) of every image, from what ships.
        choice: of the weights; None where there was nothing to choose from, or no image to choose by.
        crossed: what cross-validation found, where it replaced validation images.
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
        """The classifier with its temperature, fitted on held-out images, and with facts of its training data."""
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
    """Train in stages, and put the best weights by held-out images into the layers.

    Args:
        dataset: the images, every one of them readable.
        splits: which of them train, and which decide.
        source: the network, whose layers are trained.
        options: as asked for; paths among them are ignored.
        sink: where results go, and where those of an earlier call are found.
        plan: by default that of `settle` for the same arguments.
        budget: of the minutes that the whole may take.
        story: reports what happens.

    Raises:
        TlkitError: the options are impossible with these images, or a file is missing.
    """
    story = story or Silence()
    plan = plan or settle(options, source, dataset, splits, budget=budget)
    scale = dataset.task.scale(dataset.truth[splits.indices("train")])
    material = gather(plan.settles(options), source, plan, dataset, splits, story)
    sink.prepared(material)
    material = balance.settled(replace(material, dataset=dataset.in_units(scale)), sink, story)
    if options.balance in balance.MEASURED:
        settled = balance.BalanceChoice(**sink.read("balance"))
        plan = plan.deciding(Decision("balance", settled.balance, settled.reason))
        sink.write("plan", plan.as_json())
    plan, crossed = crossing.cross_validated(plan, sink, material, story)
    if budget:
        minutes.set_aside(budget, plan, splits)
    states: list[State] = []
    for number, stage in enumerate(plan.stages):
        story.begin(stage.doing)
        story.say(f"stage {stage.name}: {stage.learns}")
        plan, ready = settle_rate(plan, number, material, sink, story)
        plan = settle_precision(plan, number, material, sink, story)
        stage, folder = plan.stages[number], sink.folder / "checkpoints" / stage.name
        states.append(run_stage(stage, material, Checkpoint(folder), story, budget, ready))
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
    """Convert what was learned in other units to those of the images: the last layer of the network, and its logits.

    The layers are changed once, after everything learned has been read from its checkpoints.
    """
    for last in (layer for layer in material.head.model.layers if layer.name in ("logits", ORDER)):
        kernel, *bias = (np.asarray(weight, np.float64) * scale.unit for weight in last.get_weights())
        last.set_weights([kernel, *(each + scale.centre for each in bias)])
    if crossed is not None:
        judged, truth = scale.restore(crossed.logits), crossed.labels * scale.unit + scale.centre
        crossed = replace(crossed, logits=judged, labels=truth)
    return material, scale.restore(scores), crossed


# -- The peak rate of a stage, where it is left open: the beginning of its warm-up is tried ---

RISEN = 1.2  # times the loss at the start: beyond it, recovering takes longer than training at a lower rate


def settle_rate(plan: Plan, number: int, material: Material, sink: Sink, story: Story) -> tuple[Plan, Ready | None]:
    """The plan with the peak rate of a stage: a high one where training tolerates it, else that of a longer stage.

    Its layers go through the first updates of the stage at the high rate, warm-up included, until these are over or the loss
    has risen too far (the range test of Smith 2017), and are restored. What was compiled for the trial is ready for the stage;
    where the rate is rejected, only if the backend's steps follow a change of the schedule.

    Args:
        plan: whose stage may have a rate that is still to be tried.
        number: of the stage.
        material: left as it is.
        sink: keeps the plan, so that a resumed run continues with what was found.
        story: reports what was found.
    """
    stage, ready = plan.stages[number], None
    if not stage.tried:
        return plan, None
    try:
        borne, ready, reason = _bearing(stage, material)
    except Exception as error:
        if not ran_out(error):
            raise
        borne, reason = False, "there is no memory for a trial"
    steps = max(0.0, stage.seconds - COMPILING) / (1 + TRIAL_COST)  # the trial is over, and what it compiled is reused
    settled = replace(stage, tried=False, seconds=steps)
    if not borne:
        settled = unhurried(settled, material.config, len(material.labels("train")))
        reason += f": {settled.epochs} epochs at a lower rate instead of {stage.epochs}"
        ready = ready and steered(ready, settled, examples_of(settled, material))
    story.say(f"  {stage.name}: peak rate {settled.learning_rate:g}: {reason}")
    decision = Decision("learning_rate", f"{stage.name} {settled.learning_rate:g}", reason)
    return _kept(plan, number, settled, decision, sink), ready


def _kept(plan: Plan, number: int, stage: Stage, decision: Decision, sink: Sink) -> Plan:
    """The plan with a stage as a trial has settled it, left with the sink, so that a resumed run continues with it."""
    stages = (*plan.stages[:number], stage, *plan.stages[number + 1 :])
    plan = replace(plan, stages=stages).deciding(decision)
    sink.write("plan", plan.as_json())
    return plan


def _bearing(stage: Stage, material: Material) -> tuple[bool, Ready, str]:
    """Whether training tolerates the rate of the stage; the stage made ready; and what was found."""
    whole = examples_of(stage, material)
    updates = max(1, round(TRIAL_SHARE * whole.updates * stage.epochs))
    ready = made_ready(stage, material, whole)
    parts = [_drawn(whole, updates, material.config.seed, part) for part in range(TRIAL_PARTS)]
    with _put_back(ready.model):
        start = _loss(ready, parts[0])
        losses: list[float] = []
        while len(losses) < TRIAL_PARTS and all(loss <= RISEN * start for loss in losses):
            losses.append(ready.epoch(parts[len(losses)], len(losses))[0])
        reached = float(ready.model.optimizer.learning_rate)
    done, risen = len(losses) * updates, losses[-1] / start
    found = (
        f"{done} updates into its warm-up, at {reached:.1g}, the training loss is {risen:.2f} times that at the start"
    )
    ready = ready._replace(epoch=replace(ready.epoch, compiling=0.0, known=True))
    borne = bool(risen <= RISEN)
    return borne, ready, found + f", more than the tolerated {RISEN}" * (not borne)


def steered(ready: Ready, stage: Stage, examples: Examples) -> Ready | None:
    """A stage made ready for another schedule, with its own one; None where the steps would not follow."""
    if not ready.epoch.follows:
        return None
    ready.model.optimizer.follow(stage.learning_rate, examples.updates * stage.epochs, stage.warm_up)
    return ready


@contextmanager
def _put_back(model: keras.Model) -> Iterator[None]:
    """Restore the state of the model and its optimizer on exit."""
    variables = [*model.variables, *model.optimizer.variables]
    held = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    try:
        yield
    finally:
        for variable, values in zip(variables, held, strict=True):
            variable.assign(values)


def _loss(ready: Ready, examples: Examples) -> float:
    """Mean loss of the batches as in training, dropout and mixing included: by steps at a rate of zero."""
    with _put_back(ready.model):
        ready.model.optimizer.stand_still()
        return ready.epoch(examples, 0)[0]


def unhurried(stage: Stage, options: FinetuneConfig, train: int) -> Stage:
    """A top stage that did not tolerate the rate tried, as it would be planned without a trial."""
    epochs = planned_epochs(train, options.batch_size * options.accumulate)
    return replace(
        stage,
        epochs=epochs,
        least=math.ceil(EARLY * epochs),
        learning_rate=RATES[stage.name],
        warm_up=WARM_UP,
        seconds=stage.seconds * epochs / stage.epochs,
    )


# -- The precision of a stage, where it is left open: tried on some of its steps ---

TRIED = ("float32", "bfloat16")
TRIAL_UPDATES = 2  # of each precision in each round; the first round compiles, and is not timed
TRIAL_ROUNDS = 3
LOSSES = (0.02, 0.005)  # tolerated difference of the losses: relative and absolute
JUDGED = 256  # most held-out images whose decisions are compared


@dataclass
class Trial:
    """A copy of the model of a stage, in one precision.

    Args:
        model: the copy, compiled.
        epoch: of a few updates.
        examples: of these.
        seconds: of each round.
        losses: mean of each round.
    """

    model: keras.Model
    epoch: Epoch
    examples: Examples
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def train(self) -> None:
        """Another round."""
        started = time.perf_counter()
        self.losses.append(self.epoch(self.examples, len(self.losses))[0])
        self.seconds.append(time.perf_counter() - started)


def settle_precision(plan: Plan, number: int, material: Material, sink: Sink, story: Story) -> Plan:
    """The plan with the precision of a stage, tried on a few of its own updates where the plan leaves it open.

    Args:
        plan: whose stage may have the precision `auto`.
        number: of the stage.
        material: with validation images; left as it is, since copies train.
        sink: keeps the plan, so that a resumed run continues with what was found.
        story: reports what was found.
    """
    stage = plan.stages[number]
    if stage.precision != "auto":
        return plan
    try:
        few = _drawn(examples_of(stage, material), TRIAL_UPDATES, material.config.seed)
        exact, half = (_trial(stage, material, few, precision) for precision in TRIED)
        for _ in range(TRIAL_ROUNDS):
            exact.train()
            half.train()
    except Exception as error:
        if not ran_out(error):
            raise
        taken, gain, reason = False, 1.0, "there is no memory for a trial"
    else:
        taken, gain, reason = _compared(exact, half, stage, material)
    precision = TRIED[taken]
    story.say(f"  {stage.name}: training in {precision}: {reason}")
    settled = replace(stage, precision=precision, seconds=stage.seconds / (gain if taken else 1.0))
    return _kept(plan, number, settled, Decision(PRECISION_OF.format(stage.name), precision, reason), sink)


def _drawn(whole: Examples, updates: int, seed: int, part: int = 0) -> Examples:
    """So many updates of images drawn at random, every image once before any is drawn again; the `part`-th such draw.

    They have the size of the original updates, so a step traced with them can be reused for these.
    """
    each = min(whole.batch_size, whole.part_size * whole.parts)
    size, random = updates * each, np.random.default_rng((seed, 5))
    times = -(-(part + 1) * size // len(whole.labels))
    order = np.concatenate([random.permutation(len(whole.labels)) for _ in range(times)])
    chosen = order[part * size : (part + 1) * size]
    read: Reader = lambda positions, epoch: whole.read(chosen[positions], epoch)  # noqa: E731 - a reader is one line
    drawn = {"labels": whole.labels[chosen], "weights": whole.weights[chosen]}
    return replace(whole, read=read, batch_size=each, equally=False, **drawn)


def _trial(stage: Stage, material: Material, few: Examples, precision: str) -> Trial:
    model = stage_model(stage, material)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return Trial(copy, compiled_epoch(copy, stage, material, few, precision), few)


def _compared(exact: Trial, half: Trial, stage: Stage, material: Material) -> tuple[bool, float, str]:
    """Whether bfloat16 is taken, how many times as fast it is, and why."""
    gain = min(exact.seconds[1:]) / min(half.seconds[1:])
    if gain < FASTER:
        return (
            False,
            gain,
            f"a step in bfloat16 is {gain:.2f} times as fast here, less than the {FASTER} that would pay",
        )
    last, other = exact.losses[-1], half.losses[-1]
    if not np.isclose(other, last, rtol=LOSSES[0], atol=LOSSES[1]):
        return False, gain, f"after these steps the loss is {other:.4f} in bfloat16 and {last:.4f} in float32"
    rows = material.rows("val")[:: max(1, len(material.rows("val")) // JUDGED)][:JUDGED]
    read = plain_reader(stage, material, rows)
    logits = [predict(trial.model, read, len(rows)) for trial in (exact, half)]
    agree = float(material.dataset.task.same(*logits).mean())
    if agree < AGREE:
        return False, gain, f"after these steps {1 - agree:.0%} of the decisions on {len(rows)} held-out images differ"
    updates = TRIAL_ROUNDS * TRIAL_UPDATES
    alike = f"after {updates} updates losses within {LOSSES[0]:.0%} and {agree:.0%} of the decisions on {len(rows)} held-out images agree"
    return True, gain, f"a step is {gain:.2f} times as fast, {alike}"
