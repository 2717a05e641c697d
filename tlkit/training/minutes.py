"""`--minutes`: what fits into them is planned before anything is computed; how many epochs, when the time comes.

Time buys depth first: a stage cut short by half loses the probe, one of few blocks gains little on it, so the deepest
that has its epochs, or most of them, is taken (docs/log.md). Where many images train that is every block, on views made
afresh, which a run without a limit does not do unless asked; then what such a run plans; then less. Then time buys views,
then epochs. More of them than a stage can use are not trained: the run ends early. The network itself is the user's
choice and stays.
"""

import itertools
from dataclasses import dataclass, replace

from tlkit.backbones.build import Backbone
from tlkit.classifier import Classifier
from tlkit.core.config import FinetuneConfig
from tlkit.training import cost
from tlkit.training.anatomy import Anatomy
from tlkit.training.budget import PASSES_BACK, Budget, slowness
from tlkit.training.cost import TRAINING_PASSES, Pace, operations
from tlkit.training.depth import DEEP, planned_blocks, planned_epochs, useful_epochs
from tlkit.training.plan import duration
from tlkit.training.planner import measured_step
from tlkit.training.ways import HEAD_EPOCHS, Ways, planned_views

EVERY = 0  # stands for every block; they learn from pixels, for nothing before the first could be stored
EVERY_FROM = 2000  # training images; of fewer they learnt nothing more than the last blocks did
ENOUGH = (1.0, 0.6)  # of the epochs planned without a limit, tried in this order
FRESH = 2.0  # times what a multiply-add takes where every block learns: early ones move more bytes, views are made
EPOCHS_A_VIEW = 2  # a stored view is worth computing for so many epochs
WORTH_MEASURING = 1.0  # minutes from which on a training step is timed, too
STEP_RATIO = 2.0  # seconds of a multiply-add in training over one in the frozen engine, where it is not timed
SOLVING = (1.0, 2e-3)  # seconds of a machine like budget.py's, and for each training image: the head, cross-validated
AUDITING = (2.0, 2e-3)  # seconds likewise, and for each image, which is decoded once more


@dataclass(frozen=True)
class Fitted:
    """What fits.

    Args:
        options: with stages, blocks, views and epochs planned.
        pace: as measured.
        notes: what was measured and chosen.
    """

    options: FinetuneConfig
    pace: Pace
    notes: tuple[str, ...]


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
        """From the file to features; both parts want the same cores."""
        return self.forward + self.decode


def fit_into(
    budget: Budget,
    options: FinetuneConfig,
    backbone: Backbone,
    classifier: Classifier,
    head_reads: str,
    *,
    train: int,
    val: int,
    total: int,
    decode: float,
    disk: tuple[int, str],
) -> Fitted:
    """Plan stages, blocks, views and epochs for the time that is left; what was asked for stays as it is.

    Args:
        budget: the promise; what follows training is set aside in it.
        options: what was asked for; None in them means "plan it".
        backbone: the network.
        classifier: backbone and head composed.
        head_reads: "pooled" or "grid".
        train: training images.
        val: validation images.
        total: images of all splits.
        decode: seconds that an image takes to become pixels.
        disk: bytes that the store may hold, and why so many.
    """
    choices = _Choices(
        _Anatomies(options, backbone, classifier, head_reads),
        budget,
        slowness(),
        train=train,
        val=val,
        total=total,
        decode=decode,
        disk=disk,
    )
    return (choices.deepest() if len(options.stages) > 1 else None) or choices.head_alone()


class _Anatomies:
    """The network cut at every depth that the options allow."""

    def __init__(self, options: FinetuneConfig, backbone: Backbone, classifier: Classifier, head_reads: str) -> None:
        self.options = options
        self._parts = backbone, classifier, head_reads
        self.free = options.blocks is None and options.unfreeze == "last" and "top" in options.stages
        self.depths = range(planned_blocks(backbone, DEEP), 0, -1) if self.free else [options.blocks]

    def of(self, blocks: int | None, views: int | None = None, epochs: int = 1) -> Anatomy:
        """With so many last blocks that learn, or `EVERY` one, views and epochs; None leaves them as asked for."""
        counts = tuple(HEAD_EPOCHS if stage == "head" else epochs for stage in self.options.stages)
        views = self.options.views if views is None else views
        which = {"blocks": None, "unfreeze": "all"} if blocks == EVERY else {"blocks": blocks}
        chosen = replace(self.options, **which, views=views, epochs=counts, minutes=None)
        return Anatomy(chosen, *self._parts)


def _measure(anatomy: Anatomy, minutes: float, decode: float) -> Throughput:
    """The network on a batch of noise; a training step too, where there is time for it."""
    forward = cost.measure_forward(anatomy.backbone.model)
    if minutes >= WORTH_MEASURING and "top" in anatomy.options.stages:
        return Throughput(forward, decode, measured_step(anatomy, forward) / _work(anatomy))
    return Throughput(forward, decode, STEP_RATIO * forward / max(operations(anatomy.backbone.model.layers), 1.0))


def _work(anatomy: Anatomy) -> float:
    """Multiply-adds of a training step for one image: forward and back through what runs, and for what learns."""
    if "all" in anatomy.options.stages:
        return max(TRAINING_PASSES * operations(anatomy.backbone.model.layers), 1.0)
    fresh = 1.0 if anatomy.cut else FRESH
    return fresh * max(PASSES_BACK * operations(anatomy.suffix) + operations(anatomy.learning), 1.0)


class _Choices:
    """What is measured once, and what is there to choose from."""

    def __init__(
        self,
        anatomies: _Anatomies,
        budget: Budget,
        machine: float,
        *,
        train: int,
        val: int,
        total: int,
        decode: float,
        disk: tuple[int, str],
    ) -> None:
        self.anatomies, self.options, self.budget, self.machine = anatomies, anatomies.options, budget, machine
        self.train, self.val, self.total, self.disk = train, val, total, disk
        self.batch = self.options.batch_size * self.options.accumulate
        self.speed = _measure(anatomies.of(anatomies.depths[0]), budget.minutes, decode)
        solving = machine * (SOLVING[0] + SOLVING[1] * train)
        auditing = machine * (AUDITING[0] + AUDITING[1] * total) + decode * total
        self.before = solving + self.options.audit * auditing  # from extraction to the stage that follows the head
        self.told = f"minutes  {budget.minutes:g}: {1 / self.speed.extraction:.0f} images/s from file to features"

    def deepest(self) -> Fitted | None:
        """As many blocks as have time for enough epochs, then views, then epochs; None where not one block has.

        Every block has to have all of its epochs and as many views as planned: otherwise fewer blocks are the better.
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
        if "all" not in self.options.stages:
            least = max(least, EPOCHS_A_VIEW * views)
        anatomy = self.anatomies.of(blocks, views, least)
        step = self.speed.step * _work(anatomy)
        self._set_aside(step)
        pace = _pace(anatomy, self.speed, step)
        seconds = Ways(anatomy, self.train, self.total, *self.disk).ranked(pace)[0].seconds
        seconds += least * step * self.train * ("all" in self.options.stages)  # the others are in it
        spare = self.budget.left - self.before - self.budget.compiling - seconds
        if spare < 0:
            return None
        epochs = min(useful_epochs(self.train, self.batch), least + int(spare / (step * self.train)))
        how = "measured" if self.budget.minutes >= WORTH_MEASURING else "estimated"
        told = (
            f"{self.told}, {1 / step:.0f} in training ({how}); {duration(self.budget.after)} kept for what follows it"
        )
        told += "; there is time for every block" * (blocks == EVERY)
        told += f"; about {epochs} epochs, settled again after each"
        return Fitted(self.anatomies.of(blocks, views, epochs).options, pace, (told,))

    def head_alone(self) -> Fitted:
        """The head, with as many views as there is time for."""
        self._set_aside(0.0)
        options, forward = self.options, self.speed.extraction
        left = self.budget.left - self.before - forward * self.total
        more = int(max(left, 0.0) / (forward * self.train))
        views = min(planned_views(options, self.train), 1 + more) if options.views is None else options.views
        why = ": there is no time to train blocks for long enough" if len(options.stages) > 1 else ""
        needed = duration(60 * self.budget.minutes - left)
        few = f"; WARNING: too little even for that, which takes about {needed}" if left < 0 else ""
        chosen = replace(options, stages=("head",), unfreeze="last", blocks=None, views=views, minutes=None)
        anatomy = self.anatomies.of(None, views)
        return Fitted(chosen, _pace(anatomy, self.speed, 0.0), (f"{self.told}; the head alone{why}{few}",))

    def _set_aside(self, step: float) -> None:
        self.budget.set_aside(
            step=step, forward=self.speed.extraction, val=self.val, total=self.total, pace=self.machine
        )


def _pace(anatomy: Anatomy, speed: Throughput, step: float) -> Pace:
    whole = max(operations(anatomy.backbone.model.layers), 1.0)
    prefix = speed.forward * (1 - operations(anatomy.suffix) / whole)
    operation = speed.forward / whole
    return Pace(forward=speed.extraction, prefix=prefix, step=step, operation=operation, disk=cost.DISK, measured=True)
