"""`--minutes`: what fits into them is planned before anything is computed, except the epochs, which are settled on the way.

Time goes to depth first: a stage cut to half its epochs is worse than the probe, and one of few blocks gains little on it,
so the deepest stage that has its epochs, or most of them, is taken (docs/log.md). With many training images that is every
block, on fresh views, which a run without a limit does not do unless asked; then what such a run plans; then less. Then
time goes to views, then to epochs. No more are trained than a stage can use: the run ends early. The network itself is
the user's choice and stays.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median

from tlkit.backbones.build import Backbone
from tlkit.base import process
from tlkit.classifier.model import Classifier
from tlkit.data.dataset import Splits
from tlkit.options.commands import FinetuneConfig
from tlkit.training import plan
from tlkit.training.costs import EPOCHS_A_VIEW, HEAD_EPOCHS, Ways, planned_views
from tlkit.training.plan import (
    DEEP,
    TRAINING_PASSES,
    Anatomy,
    Decision,
    Pace,
    Plan,
    Sizes,
    duration,
    planned_blocks,
    planned_epochs,
    useful_epochs,
    work,
)
from tlkit.training.planner import measured_step

EPOCHS_FEWEST = 3  # fewer leave no room to complete the schedule, and make the network worse
WORTH_MORE = 1.1  # times as many epochs; a smaller increase is noise
SLACK = 0.02  # of the promise, in case an epoch ends late
COMPILING = 4.0  # seconds of a machine of `slowness` 1: the training step, for the first epoch
TRACING = 1.5  # seconds likewise: a network that is read, for the first batch
FINISHING = 4.0  # seconds likewise: calibration, evaluation, saving, the report
FINISHING_IMAGE = 1e-3  # seconds likewise, for each image
PASSES_BACK = 2.0  # the time of a training step beyond its forward pass, in forward passes
CANDIDATES = 8  # passes over the validation images for the choice of what ships
PLAIN_WORK = 0.00055  # seconds that the work of `slowness` takes on a machine of `slowness` 1


def slowness() -> float:
    """Seconds of this machine, now, for each second of the machine that the constants of this file are from; at least 0.5."""

    def work() -> float:
        started = time.perf_counter()
        sum(number * number for number in range(10_000))
        return time.perf_counter() - started

    return max(0.5, median(work() for _ in range(9)) / PLAIN_WORK)


@dataclass
class Budget:
    """The time that is left of the promise.

    Args:
        minutes: promised.
        began: when, by `clock`.
        clock: a monotonic clock, in seconds.
        after: seconds to keep for what follows training.
        compiling: seconds that the first epoch takes in addition.
    """

    minutes: float
    began: float
    clock: Callable[[], float] = time.monotonic
    after: float = 0.0
    compiling: float = 0.0
    _marks: list[float] = field(default_factory=list)
    _most: int = 0
    _expected: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds for training, from now on."""
        return 60 * self.minutes - self.spent - self.after

    def set_aside(self, *, step: float, forward: float, val: int, total: int, pace: float) -> None:
        """Reserve the time that the end of a run takes.

        Args:
            step: seconds of a training step, for each image.
            forward: seconds of a pass through the whole network, for each image.
            val: images used to choose what ships.
            total: images.
            pace: this machine's `slowness`.
        """
        self.compiling = COMPILING * pace
        passes = step / (1 + PASSES_BACK) * (CANDIDATES * val + total) + forward * total
        self.after = passes + pace * (FINISHING + FINISHING_IMAGE * total + 3 * TRACING)

    def begin(self, epoch_seconds: float, most: int) -> int:
        """Epochs of a stage that fit into the time left now, 0 where hardly any does.

        Args:
            epoch_seconds: expected of each.
            most: epochs that the stage can use.
        """
        self._marks, self._most, self._expected = [self.clock()], most, epoch_seconds
        fitting = self._fitting(self.left - self.compiling, epoch_seconds)
        return fitting if fitting >= EPOCHS_FEWEST else 0

    def again(self, done: int, planned: int) -> int:
        """Epochs in all, by the time that those since `begin` took; called after each.

        The first one compiles, and shows only whether there is hardly time for more. After the last one the rate is zero,
        and further epochs would change nothing, even if there is time for them.

        Args:
            done: epochs so far, those before an interruption included.
            planned: epochs in all, as last settled.
        """
        self._marks.append(self.clock())
        took = [end - start for start, end in zip(self._marks, self._marks[1:], strict=False)]
        if done >= planned:
            return planned
        if len(took) > 1:
            fits = min(self._most, done + self._fitting(self.left, median(took[1:])))
            return planned if planned < fits <= WORTH_MORE * planned else fits
        hardly = self._fitting(self.left, max(self._expected, took[0] - self.compiling))
        return min(planned, done + hardly) if hardly <= 2 else planned

    def _fitting(self, seconds: float, epoch_seconds: float) -> int:
        late = SLACK * 60 * self.minutes if seconds > 0 else 0.0
        return max(0, min(self._most, int((seconds + late) / max(epoch_seconds, 1e-6))))

    def summary(self) -> str:
        """What was promised and what it took, in a sentence."""
        return f"minutes: {self.minutes:g} promised, {self.spent / 60:.2f} taken"


# -- `--minutes`: what fits into them is planned before anything is computed, except the epochs ---

EVERY = 0  # stands for every block; they learn from pixels, since nothing before the first could be stored
EVERY_FROM = 2000  # training images; with fewer, every block gained nothing over the last ones
ENOUGH = (1.0, 0.6)  # of the epochs planned without a limit, tried in this order
FRESH = (
    2.0  # times the cost of a multiply-add where every block learns: early ones move more bytes, and views are computed
)
WORTH_MEASURING = 1.0  # minutes from which a training step is also timed
STEP_RATIO = 2.0  # seconds of a multiply-add in training over one in the frozen engine, where it is not timed
DECODING = 4e-3  # seconds of an image from the file to pixels, where it is not timed
SOLVING = (1.0, 2e-3)  # seconds of a machine of `slowness` 1, and for each training image: the head, cross-validated
AUDITING = (2.0, 2e-3)  # seconds likewise, and for each image, which is decoded again


@dataclass(frozen=True)
class Fitted:
    """The plan that fits.

    Args:
        options: with stages, blocks, views and epochs planned.
        pace: as measured.
        decision: what was measured and chosen.
    """

    options: FinetuneConfig
    pace: Pace
    decision: Decision


@dataclass(frozen=True)
class Throughput:
    """What was measured, in seconds for each image.

    Args:
        forward: through the backbone.
        decode: from the file to pixels.
        step: of a training step, for each multiply-add that `_work` counts.
    """

    forward: float
    decode: float
    step: float

    @property
    def extraction(self) -> float:
        """From the file to features; both parts use the same cores."""
        return self.forward + self.decode


def fit_into(
    budget: Budget,
    options: FinetuneConfig,
    backbone: Backbone,
    classifier: Classifier,
    head_reads: str,
    sizes: Sizes,
    decode: float | None,
) -> Fitted:
    """Plan stages, blocks, views and epochs for the time that is left; what was asked for is kept.

    Args:
        budget: the promise; the time of what follows training is reserved in it.
        options: what was asked for; None in them means "plan it".
        backbone: the network.
        classifier: backbone and head composed.
        head_reads: "pooled" or "grid".
        sizes: how many images there are, and what the store may hold.
        decode: seconds that an image takes to become pixels; None to time nothing, and estimate all of it.
    """
    choices = _Choices(_Anatomies(options, backbone, classifier, head_reads), budget, slowness(), sizes, decode)
    return (choices.deepest() if len(options.in_stages) > 1 else None) or choices.head_alone()


class _Anatomies:
    """The network cut at every depth that the options allow."""

    def __init__(self, options: FinetuneConfig, backbone: Backbone, classifier: Classifier, head_reads: str) -> None:
        self.options = options
        self._parts = backbone, classifier, head_reads
        self.free = options.blocks is None and options.third == "last" and "top" in options.in_stages
        self.depths = range(planned_blocks(backbone, DEEP), 0, -1) if self.free else [options.blocks]

    def of(self, blocks: int | None, views: int | None = None, epochs: int = 1) -> Anatomy:
        """The network with so many last blocks that learn, or `EVERY` one, views and epochs; None leaves them as asked for."""
        counts = tuple(HEAD_EPOCHS if stage == "head" else epochs for stage in self.options.in_stages)
        views = self.options.views if views is None else views
        which = {"blocks": None, "unfreeze": "all"} if blocks == EVERY else {"blocks": blocks}
        chosen = replace(self.options, **which, views=views, epochs=counts, minutes=None)
        return Anatomy(chosen, *self._parts)


def _measure(anatomy: Anatomy, minutes: float, decode: float | None) -> Throughput:
    """The network on a batch of noise; a training step too, where there is time for it."""
    if decode is None:
        speed = plan.seconds_per_operation()
        return Throughput(speed * work(anatomy.backbone.model.layers), DECODING, STEP_RATIO * speed)
    forward = plan.measure_forward(anatomy.backbone.model)
    if minutes >= WORTH_MEASURING and "top" in anatomy.options.in_stages:
        return Throughput(forward, decode, measured_step(anatomy, forward) / _work(anatomy))
    return Throughput(forward, decode, STEP_RATIO * forward / max(work(anatomy.backbone.model.layers), 1.0))


def _work(anatomy: Anatomy) -> float:
    """Multiply-adds of a training step for one image: forward and backward through what runs, and for what learns."""
    if "all" in anatomy.options.in_stages:
        return max(TRAINING_PASSES * work(anatomy.backbone.model.layers), 1.0)
    fresh = 1.0 if anatomy.cut else FRESH
    return fresh * max(PASSES_BACK * work(anatomy.suffix) + work(anatomy.learning), 1.0)


class _Choices:
    """The measurements, made once, and the possible choices."""

    def __init__(
        self, anatomies: _Anatomies, budget: Budget, machine: float, sizes: Sizes, decode: float | None
    ) -> None:
        self.anatomies, self.options, self.budget, self.machine = anatomies, anatomies.options, budget, machine
        self.sizes, self.train = sizes, sizes.train
        self.batch = self.options.batch_size * self.options.accumulate
        self.speed = _measure(anatomies.of(anatomies.depths[0]), budget.minutes, decode)
        solving = machine * (SOLVING[0] + SOLVING[1] * sizes.train)
        auditing = machine * (AUDITING[0] + AUDITING[1] * sizes.total) + self.speed.decode * sizes.total
        self.measured = decode is not None and budget.minutes >= WORTH_MEASURING
        self.before = solving + self.options.audit * auditing  # between extraction and the stage that follows the head
        self.rate = f"{1 / self.speed.extraction:.0f} images/s from file to features"

    def deepest(self) -> Fitted | None:
        """As many blocks as have time for enough epochs, then views, then epochs; None where not even one block has.

        Training every block requires all of its epochs and as many views as planned: otherwise fewer blocks are better.
        """
        options, epochs = self.options, planned_epochs(self.train, self.batch)
        views = range(planned_views(options, self.train), 0, -1) if options.views is None else [options.views]
        afresh = options.views is None and options.augment != "none" and self.train >= EVERY_FROM
        every = [(EVERY, views[0], ENOUGH[0])] * (self.anatomies.free and afresh)
        for blocks, number, share in (*every, *itertools.product(self.anatomies.depths, views, ENOUGH)):
            if fitted := self._fitted(blocks, number, round(share * epochs)):
                return fitted
        return None

    def _fitted(self, blocks: int | None, views: int, least: int) -> Fitted | None:
        if "all" not in self.options.in_stages:
            least = max(least, EPOCHS_A_VIEW * views)
        anatomy = self.anatomies.of(blocks, views, least)
        step = self.speed.step * _work(anatomy)
        self._set_aside(step)
        pace = _pace(anatomy, self.speed, step)
        seconds = Ways(anatomy, self.sizes).ranked(pace)[0].seconds
        seconds += least * step * self.train * ("all" in self.options.in_stages)  # the others are in it
        spare = self.budget.left - self.before - self.budget.compiling - seconds
        if spare < 0:
            return None
        epochs = min(useful_epochs(self.train, self.batch), least + int(spare / (step * self.train)))
        how = "measured" if self.measured else "estimated"
        how_planned = (
            f"{self.rate}, {1 / step:.0f} in training ({how}); {duration(self.budget.after)} kept for what follows it"
        )
        how_planned += "; there is time for every block" * (blocks == EVERY)
        how_planned += f"; about {epochs} epochs, revised after each"
        return Fitted(self.anatomies.of(blocks, views, epochs).options, pace, self._decision(how_planned))

    def head_alone(self) -> Fitted:
        """Only the head, with as many views as there is time for."""
        self._set_aside(0.0)
        options, forward = self.options, self.speed.extraction
        left = self.budget.left - self.before - forward * self.sizes.total
        more = int(max(left, 0.0) / (forward * self.train))
        views = min(planned_views(options, self.train), 1 + more) if options.views is None else options.views
        why = ": there is no time to train blocks for long enough" if len(options.in_stages) > 1 else ""
        needed = duration(60 * self.budget.minutes - left)
        few = f"; WARNING: too little even for that, which takes about {needed}" if left < 0 else ""
        chosen = replace(options, stages=("head",), unfreeze="last", blocks=None, views=views, minutes=None)
        anatomy = self.anatomies.of(None, views)
        return Fitted(chosen, _pace(anatomy, self.speed, 0.0), self._decision(f"{self.rate}; the head alone{why}{few}"))

    def _decision(self, how_planned: str) -> Decision:
        return Decision("minutes", f"{self.budget.minutes:g}", how_planned)

    def _set_aside(self, step: float) -> None:
        self.budget.set_aside(
            step=step, forward=self.speed.extraction, val=self.sizes.val, total=self.sizes.total, pace=self.machine
        )


def _pace(anatomy: Anatomy, speed: Throughput, step: float) -> Pace:
    whole = max(work(anatomy.backbone.model.layers), 1.0)
    prefix = speed.forward * (1 - work(anatomy.suffix) / whole)
    operation = speed.forward / whole
    return Pace(forward=speed.extraction, prefix=prefix, step=step, operation=operation, disk=plan.DISK, measured=True)


def budget(config: FinetuneConfig) -> Budget | None:
    """The promise of `--minutes`, counted from the start of this process; None without one.

    A resumed run has all its minutes again.
    """
    return None if config.minutes is None else Budget(config.minutes, time.monotonic() - process.age())


def set_aside(budget: Budget, plan: Plan, splits: Splits) -> None:
    """Reserve the time of what follows training, according to the plan."""
    train, val, total = len(splits.indices("train")), len(splits.indices("val")), len(splits.codes)
    last = plan.stages[-1]
    step = last.seconds / (last.epochs * max(train, 1)) if last.name != "head" else 0.0
    viewed = total + train * (max(stage.views for stage in plan.stages) - 1)
    forward = plan.extraction_seconds / viewed if plan.extraction_seconds else step / (1 + PASSES_BACK)
    budget.set_aside(step=step, forward=forward, val=val, total=total, pace=slowness())
