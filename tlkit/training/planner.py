"""Making the plan: what was asked for is kept, what was left open is chosen by cost, disk and memory.

Costs are estimated from the network's operations, which takes no time. Where that leaves two ways close to each other
and the run is long enough for it to matter, the network itself is timed on a batch of noise.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import keras

from tlkit.backbones.build import Backbone
from tlkit.backbones.runtime import gpus
from tlkit.base.errors import TlkitError
from tlkit.base.machine import bytes_text, multiplies_bfloat16
from tlkit.classifier.model import Classifier
from tlkit.options.commands import FinetuneConfig
from tlkit.tasks.registry import row_of
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task
from tlkit.training import plan
from tlkit.training.balance import SOLVERS
from tlkit.training.costs import (
    HEAD_EPOCHS,
    TRIAL_COST,
    TRIAL_PARTS,
    TRIAL_SHARE,
    VIEWS_MOST,
    Way,
    Ways,
    briefer,
    estimate,
    is_convex,
    is_tried,
    nth,
    parts_that_fit,
    room,
    settle_depth,
    stage_epochs,
)
from tlkit.training.examples import MEMORY_BYTES, pixel_bytes
from tlkit.training.optimizer import Updates, is_centralized, unfreeze_and_compile
from tlkit.training.plan import (
    PRECISION_OF,
    TRAINING_PASSES,
    UPDATES,
    Anatomy,
    Decision,
    Pace,
    Plan,
    Sizes,
    Stage,
    parameters,
    work,
)
from tlkit.training.probe import solving_seconds

# Peak learning rates where none are asked for; docs/log.md compares them with others.
RATES = {"head": 1e-3, "time": 3e-3, "top": 3e-4, "all": 1e-4}
CLOSE = 2.0  # estimates this near to each other are measured ...
# Seconds of a stage from which a trial of bfloat16, up to 3 in 100 of it and compiling, may pay
WORTH_TRYING = 180.0
WORTH_MEASURING = 300.0  # ... where the cheaper way takes so many seconds; measuring takes up to 15
SHARES = {
    "middle": "the middle third",
    "first": "the first third",
    "all": "all of them",
}
EARLY = 0.25  # of its epochs; before, a stage is not checked for whether anything is left to learn
COMPILING, CHECKPOINT = 3.0, 0.05  # seconds: the training step, once; the checkpoint of each epoch
LOSS_WORDS = {"crossentropy": "cross-entropy", "mse": "squared error"}  # losses of solved heads
SOLVER_PASSES = 200  # over the views, that solving a convex head takes


def build_plan(
    options: FinetuneConfig,
    backbone: Backbone,
    classifier: Classifier,
    head_reads: str,
    sizes: Sizes,
    *,
    pace: Pace | None = None,
    measure: bool = True,
    why_blocks: str = "asked for",
) -> Plan:
    """Plan the stages.

    Args:
        options: what was asked for; None in them means "plan it".
        backbone: the network.
        classifier: backbone and head composed.
        head_reads: "pooled" or "grid".
        sizes: how many images there are, and what the store may hold.
        pace: from timing the network before; by default estimated, and measured where it matters.
        measure: whether it may be timed.
        why_blocks: the reason for the number of blocks in `options`.

    Raises:
        TlkitError: more blocks asked for than there are.
    """
    asked, train, task = options, sizes.train, classifier.facts.task
    options, decisions = settle(options, train, classifier.facts.classes, task)
    options, why = settle_depth(options, backbone, train)
    most = VIEWS_MOST
    if tried := is_tried(asked, sizes, task):
        options, most = briefer(options, train)
    anatomy = Anatomy(options, backbone, classifier, head_reads)
    ways = Ways(anatomy, sizes, most)
    pace = pace or _estimated(anatomy)
    ranked = ways.ranked(pace)
    if (
        measure
        and not pace.measured
        and len(ranked) > 1
        and ranked[0].seconds > WORTH_MEASURING
        and ranked[1].seconds < CLOSE * ranked[0].seconds
    ):
        pace = _measured(anatomy)
        ranked = ways.ranked(pace)
    planner = _Planner(options, anatomy, ways, ranked[0], pace, why or why_blocks, tried)
    stages = tuple(planner.stage(number, name) for number, name in enumerate(options.in_stages))
    decisions = (*ways.decisions(ranked, pace), *decisions, *_of_stages(asked, options, stages, why, sizes))
    return Plan(
        stages=stages,
        extraction_seconds=ways.extraction_seconds(ranked[0], pace),
        decisions=decisions,
        augment=options.augment,
    )


def _of_stages(
    asked: FinetuneConfig, options: FinetuneConfig, stages: Sequence[Stage], why_blocks: str, sizes: Sizes
) -> Iterator[Decision]:
    """Decisions about stages: depth, length, rate, whether gradients are centralized, precision."""
    if why_blocks:
        yield Decision("blocks", str(options.blocks), why_blocks)
    trained = [stage for stage in stages if stage.method == "gradient"]
    if not trained:
        return
    if asked.epochs is None:
        size = options.batch_size * options.accumulate
        tried = any(stage.tried for stage in trained)
        updates, (least, most) = plan.TRIED if tried else (UPDATES, plan.EPOCHS)
        why = f"about {updates} updates of {size} images in {least} to {most} epochs"
        why += f", {HEAD_EPOCHS} for a head that is not solved" * (trained[0].name == "head")
        if ending := [stage for stage in trained if stage.least]:
            why += f"; after {_each(ending, 'least')} a stage may end early, where the training images are fitted and"
            why += " validation is no better than at its start"
        yield Decision("epochs", _each(trained, "epochs"), why)
    if asked.learning_rate is None:
        how = "the peak rate of such a stage"
        if any(stage.tried for stage in trained):
            longer = plan.planned_epochs(sizes.train, options.batch_size * options.accumulate)
            how = f"where a trial of {TRIAL_PARTS * TRIAL_SHARE:.0%} of the updates bears it; else {RATES['top']:g} in {longer} epochs"
        yield Decision("learning_rate", _each(trained, "learning_rate"), how)
    centralize, why = is_centralized(options, sizes.train)
    yield Decision("centralize", "on" if centralize else "off", why)
    for stage in trained:
        precision, why = planned_precision(options, stage, sizes.val)
        if why:
            yield Decision(PRECISION_OF.format(stage.name), "by trial" if precision == "auto" else precision, why)


def planned_precision(options: FinetuneConfig, stage: Stage, val: int) -> tuple[str, str]:
    """The precision of a stage, `auto` where it is to be tried, and why; no reason where nothing was left open.

    Args:
        options: what was asked for.
        stage: as planned otherwise.
        val: validation images.

    Raises:
        TlkitError: it was asked for where it is not available.
    """
    if stage.method != "gradient" or stage.name == "head":
        return "float32", ""
    summed_roughly = keras.backend.backend() == "jax" and not gpus()  # findings/keras_bfloat16_bias.sh
    if summed_roughly and options.precision == "bfloat16":
        raise TlkitError(
            f"--precision bfloat16: stage {stage.name} cannot train in it with JAX on a processor, which sums the gradients of biases in bfloat16.",
            "--precision auto uses bfloat16 for features only; KERAS_BACKEND=tensorflow trains in it as well.",
        )
    if options.precision != "auto":
        return options.precision, ""
    if summed_roughly:
        return "float32", "JAX on a processor sums the gradients of biases in bfloat16"
    if not val:
        return "float32", "no validation images to compare decisions on"
    if stage.seconds < WORTH_TRYING:
        return "float32", f"{plan.duration(stage.seconds)} of training are too little for a trial of bfloat16 to pay"
    if not gpus() and not multiplies_bfloat16():
        return "float32", "this processor has no instructions for bfloat16"
    return (
        "auto",
        "bfloat16 if a few updates of this stage are 1.2 times as fast in it, and losses and decisions agree",
    )


def _each(stages: Sequence[Stage], name: str) -> str:
    return ", ".join(f"{stage.name} {getattr(stage, name):g}" for stage in stages)


def _estimated(anatomy: Anatomy) -> Pace:
    """From operations."""
    speed = plan.seconds_per_operation()
    forward, suffix = work(anatomy.backbone.model.layers), work(anatomy.suffix)
    return Pace(
        forward=forward * speed,
        prefix=(forward - suffix) * speed,
        step=((TRAINING_PASSES - 1) * suffix + work(anatomy.learning)) * speed,
        operation=speed,
        disk=plan.DISK,
        measured=False,
    )


def _measured(anatomy: Anatomy) -> Pace:
    """The pace, timed on a batch of noise."""
    model = anatomy.backbone.model
    forward = plan.measure_forward(model)
    prefix = step = 0.0
    if "top" in anatomy.options.in_stages:
        step = measured_step(anatomy, forward)
        prefix = (
            plan.measure_forward(keras.Model(model.input, model.get_layer(anatomy.cut).output)) if anatomy.cut else 0.0
        )
    operation = forward / max(work(model.layers), 1.0)
    disk = plan.measure_disk()
    return Pace(forward=forward, prefix=prefix, step=step, operation=operation, disk=disk, measured=True)


def measured_step(anatomy: Anatomy, forward: float) -> float:
    """Seconds for each image of a step of the top stage, timed on a batch of noise.

    Args:
        anatomy: what learns.
        forward: seconds for each image of a pass through the whole network.
    """
    model, options = anatomy.backbone.model, anatomy.options

    def prepare(suffix: keras.Model) -> None:
        unfreeze_and_compile(
            suffix,
            options,
            blocks=anatomy.backbone.blocks,
            learn=anatomy.blocks,
            skipped=anatomy.skipped,
            updates=Updates(1e-3, 1),
        )

    start = model.get_layer(anatomy.cut).output if anatomy.cut else model.input
    suffix = keras.Model(start, anatomy.classifier.model.output)
    return plan.measure_step(suffix, prepare, options.batch_size, forward)


@dataclass(frozen=True)
class _Planner:
    """What the plan of every stage is made from."""

    options: FinetuneConfig
    anatomy: Anatomy
    ways: Ways
    way: Way
    pace: Pace
    why_blocks: str
    tried: bool

    def stage(self, number: int, name: str) -> Stage:
        """Plan stage `name`, the `number`-th."""
        epochs = stage_epochs(self.options, name, self.ways.sizes.train)
        rate = float(nth(self.options.learning_rate, number, RATES[name]))
        stage = {"head": self._head, "top": self._top, "all": self._all}[name](epochs, rate)
        stage = replace(stage, least=self._least(stage))
        if self.tried and name == "top":
            seconds = COMPILING + (stage.seconds - COMPILING) * (1 + TRIAL_COST)
            stage = replace(
                stage, seconds=seconds, learning_rate=plan.TRIED_RATE, warm_up=plan.TRIED_WARM_UP, tried=True
            )
        precision, _ = planned_precision(self.options, stage, self.ways.sizes.val)
        return replace(stage, precision=precision, reason=stage.reason + "; in bfloat16" * (precision == "bfloat16"))

    def _least(self, stage: Stage) -> int:
        """Epochs after which the stage may end early; 0 where it may not, because the length was asked for."""
        options = self.options
        asked = options.epochs or options.patience or options.stages is not None
        asked = asked and not self.tried
        return 0 if asked or stage.name == "head" or not self.ways.sizes.val else math.ceil(EARLY * stage.epochs)

    def _head(self, epochs: int, rate: float) -> Stage:
        """Train the head on features: exactly if convex, else by gradient descent."""
        stored, views = "features" in self.way.stored, self.way.views
        solved = stored and views > 0 and is_convex(self.options)
        forward = 0.0 if stored and views else self.pace.forward
        step = TRAINING_PASSES * work(self.anatomy.head) * self.pace.operation
        passes = (SOLVER_PASSES * views if solved else epochs) * self.ways.sizes.train
        task = self.anatomy.classifier.facts.task
        seconds = 1 + passes * (forward + step)
        if solved and row_of(SOLVERS, task) is None:
            seconds = 1 + self._solving(views)
        where = "on stored features" if stored else "on features computed every epoch"
        exactly = f"; a linear head under {LOSS_WORDS[task.trained_by[0]]} is convex, so it is solved, its penalty cross-validated"
        stage = Stage(
            name="head",
            method=task.solver if solved else "gradient",
            source="features" if stored else "pixels",
            blocks=0,
            cut="",
            views=views,
            epochs=epochs,
            learning_rate=rate,
            parameters=parameters(self.anatomy.head),
            stored_bytes=self._bytes("features") if stored else 0,
            seconds=seconds,
            reason=where + exactly * solved,
        )
        return stage if solved else self._with_memory(stage, self.anatomy.head, pixels=forward > 0)

    def _solving(self, views: int) -> float:
        """Seconds of solving the head of one class per image, from its loss timed here."""
        classes = len(self.anatomy.classifier.facts.classes)
        width = parameters(self.anatomy.head) // classes - 1
        return solving_seconds(self.ways.sizes.train, width, classes, views, chosen=not self.options.l2)

    def _top(self, epochs: int, rate: float) -> Stage:
        """Train the last blocks on the stored output at the cut, or on pixels through what is frozen."""
        stored = "cut" in self.way.stored
        forward = 0.0 if stored and self.way.views else self.pace.prefix
        layers = [*self.anatomy.learning, *self.anatomy.head]
        count, of = self.anatomy.blocks, len(self.anatomy.backbone.blocks)
        share = self.why_blocks if self.options.blocks else SHARES[self.options.third]
        stage = Stage(
            name="top",
            method="gradient",
            source="cut" if stored else "pixels",
            blocks=count,
            skipped=self.anatomy.skipped,
            cut=self.anatomy.cut,
            views=self.way.views if stored else 0,
            epochs=epochs,
            learning_rate=rate,
            parameters=parameters(layers),
            stored_bytes=self._bytes("cut") if stored else 0,
            seconds=self._seconds(epochs, self.pace.step, forward),
            reason=f"{count} of {of} blocks, {share}; {self._where(stored)}{self._norms(layers)}",
        )
        return self._with_memory(
            stage, [*self.anatomy.suffix, *self.anatomy.head], pixels=not (stored and self.way.views)
        )

    def _seconds(self, epochs: int, step: float, before: float = 0.0) -> float:
        """Seconds of a stage after the head: compiling, and epochs, each with its validation and its checkpoint.

        Args:
            epochs: how many.
            step: seconds of a training step, for each image.
            before: seconds of passing each through what is frozen, where that is not stored.
        """
        train, val = self.ways.sizes.train, self.ways.sizes.val
        return COMPILING + epochs * (CHECKPOINT + (step + before) * train + (step / TRAINING_PASSES + before) * val)

    def _norms(self, layers: Sequence[keras.Layer]) -> str:
        """The mode of BatchNorm, where there is any: transformers have none."""
        found = any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
        return f"; BatchNorm {self.options.batchnorm}" if found else ""

    def _where(self, stored: bool) -> str:
        """Where the top stage reads its input, and why."""
        if not self.anatomy.cut:
            return "from pixels, fresh every epoch: nothing before the first block could be stored"
        held, cut = self._bytes("cut"), self.anatomy.cut
        if stored:
            return f"on the stored output of {cut} ({bytes_text(held)})"
        if held + self._bytes("features") > self.ways.sizes.disk:
            return f"from pixels: the output of {cut} would take {bytes_text(held)}"
        return f"from pixels: cheaper here than {bytes_text(held)} on disk for the output of {cut}"

    def _all(self, epochs: int, rate: float) -> Stage:
        """Train everything from pixels."""
        layers = self.anatomy.classifier.model.layers
        step = TRAINING_PASSES * work(layers) * self.pace.operation
        stage = Stage(
            name="all",
            method="gradient",
            source="pixels",
            blocks=len(self.anatomy.backbone.blocks),
            cut="",
            views=0,
            epochs=epochs,
            learning_rate=rate,
            parameters=parameters(layers),
            stored_bytes=0,
            seconds=self._seconds(epochs, step),
            reason=f"from pixels, augmentation {self.options.augment}, fresh every epoch{self._norms(layers)}",
        )
        return self._with_memory(stage, layers, pixels=True)

    def _bytes(self, name: str) -> int:
        return self.ways.bytes(replace(self.way, stored=(name,)))

    def _with_memory(self, stage: Stage, layers: list[keras.layers.Layer], *, pixels: bool) -> Stage:
        """The stage with the memory it needs, and its updates in enough parts to fit into the memory available."""
        held = min(pixel_bytes(self.ways.sizes.train, *self.anatomy.backbone.image_size), MEMORY_BYTES) if pixels else 0
        model, options, averaged = self.anatomy.classifier.model, self.options, self.options.ema > 0
        memory = estimate(model, layers, stage.parameters, options.optimizer, held, averaged=averaged)
        asked = self.options.accumulate
        rows = min(self.options.batch_size * asked, max(1, self.ways.sizes.train))
        most, whose = room()
        parts = parts_that_fit(memory, rows, asked, most)
        needed, reason = memory.total(-(-rows // parts)), stage.reason
        mix = self._mix(stage)
        if mix != self.options.mix:
            reason += "; not mixed, because pooled features have no regions to cut out"
        if parts > asked:
            whole = bytes_text(memory.total(-(-rows // asked)))
            reason += (
                f"; each update of {rows} images in {parts} parts, because in {asked} they would need {whole} of memory"
            )
        if most is not None and needed > most:
            reason += f"; WARNING: {whose} has no more than {bytes_text(most)} of memory to give"
        centralize, _ = is_centralized(options, self.ways.sizes.train)
        return replace(stage, parts=parts, memory_bytes=needed, reason=reason, mix=mix, centralize=centralize)

    def _mix(self, stage: Stage) -> str:
        """How the rows of a stage are mixed: pieces cannot be cut out of pooled features."""
        pooled = stage.name == "head" and self.anatomy.head_reads == "pooled"
        return "none" if pooled and self.options.mix == "cutmix" else self.options.mix


# -- How training images are augmented where that is left to tlkit: by how many there are, with the reason ---

# From so many training images per class, on average; docs/training.md has the sources, docs/log.md the measurements.
STRENGTH_FROM = ((20, "light"), (0, "medium"))
MIXING = {"none": "none", "light": "none", "medium": "mixup", "strong": "mixup"}


def settle(
    options: FinetuneConfig, train: int, classes: tuple[str, ...], task: Task = SINGLE
) -> tuple[FinetuneConfig, tuple[Decision, ...]]:
    """Replace `auto` in the options, and say why.

    Args:
        options: what was asked for.
        train: training images.
        classes: names.
        task: what is predicted of the images; some answers do not hold for a view.

    Returns:
        The options without `auto`, and the decisions.
    """
    if not task.can("views") and options.augment == "auto":
        mix = "none" if options.mix == "auto" else options.mix
        why = f"a view {task.lacks('views')}; --augment light if these do not"
        return replace(options, augment="none", mix=mix), (Decision("augment", "none", why),)
    images = train / max(len(classes), 1)
    least, chosen = next(row for row in STRENGTH_FROM if images >= row[0])
    strength = chosen if options.augment == "auto" else options.augment
    mix = MIXING[strength] if options.mix == "auto" else options.mix
    bounds = f"{least} or more" if least else f"fewer than {min(row[0] for row in STRENGTH_FROM if row[0])}"
    why = f"{images:.1f} training images a class, {bounds}" if options.augment == "auto" else "asked for"
    how = f"as with {strength} augmentation" if options.mix == "auto" else "asked for"
    decisions = (Decision("augment", strength, why), Decision("mix", mix, how))
    doubts = _doubts(options.flip and strength != "none", classes)
    return replace(options, augment=strength, mix=mix), (*decisions, *doubts)


def _doubts(flips: bool, classes: tuple[str, ...]) -> tuple[Decision, ...]:
    """A warning where views are mirrored and the classes look like digits or letters."""
    if not flips or not all(len(name) == 1 for name in classes):
        return ()
    named = ", ".join(classes[:5]) + ", ..." * (len(classes) > 5)
    why = f"WARNING: classes are single characters ({named}); if the images show them, views must not be mirrored"
    return (Decision("flip", "on", f"{why}: --no-flip"),)
