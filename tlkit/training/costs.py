"""What a run will cost: memory, estimated from the graph; the ways to provide the input of stages; everything besides stages."""

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import keras
import numpy as np

from tlkit.backbones.arithmetic import held_inside
from tlkit.backbones.build import Backbone
from tlkit.backbones.graph import calls
from tlkit.backbones.runtime import gpus
from tlkit.base.machine import available_memory, bytes_text, usable_cores
from tlkit.base.story import percent
from tlkit.classifier.answers import too_many
from tlkit.extraction.engine import spared_by
from tlkit.options.commands import FinetuneConfig
from tlkit.tasks.registry import row_of
from tlkit.tasks.task import Task
from tlkit.training.optimizer import FREE_FROM
from tlkit.training.plan import (
    DEEP,
    TRAINING_PASSES,
    TRIED,
    Anatomy,
    Decision,
    Pace,
    Sizes,
    duration,
    planned_blocks,
    planned_epochs,
    seconds_per_operation,
    work,
)

FLOAT = 4
SLOTS = {"sgd": 1, "adam": 2, "adamw": 2, "rmsprop": 2, "lion": 1}  # numbers an optimizer keeps for each weight
PROCESS_BYTES = 48 * 2**20  # that the first steps take with any network: traced graphs, threads, primitives
# Layers that overwrite their input or only reshape it; none of their output is kept.
_IN_PLACE = (
    keras.layers.InputLayer,
    keras.layers.ReLU,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Dropout,
)
# The gradient of these needs neither their input ...
_PASSING = (keras.layers.Add, keras.layers.ZeroPadding2D, keras.layers.AveragePooling2D, keras.layers.Rescaling)
# ... nor that of these their output.
_LINEAR = (keras.layers.BatchNormalization, *_PASSING)


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes.

    Args:
        fixed: independent of the batch: weights, gradients and the state of the optimizer.
        per_image: activations of one image, kept for the gradients, and its input.
    """

    fixed: int
    per_image: int

    def total(self, rows: int) -> int:
        """Bytes with batches of so many images."""
        return self.fixed + self.per_image * rows


def estimate(
    model: keras.Model,
    layers: Iterable[keras.layers.Layer],
    learning: int,
    optimizer: str,
    held: int = 0,
    *,
    averaged: bool = False,
) -> Memory:
    """The memory of training some layers of a model.

    Every output that a gradient is computed from is kept until then, and the largest exists twice while its own
    gradient is computed. Gradients exist three times: as computed, as clipped, and in the update. The estimate leaves
    out the workspace of the backend's convolutions; benchmarks/memory.py compares it with what processes took.

    Args:
        model: flat functional model.
        layers: of it that the stage runs forward and backward.
        learning: weights that may change.
        optimizer: its name.
        held: further bytes that stay in memory, such as decoded images.
        averaged: whether it keeps an average of every weight.
    """
    graph, chosen = calls(model), {id(layer): layer for layer in layers}
    weights = sum(int(np.prod(weight.shape)) for layer in chosen.values() for weight in layer.weights)
    readers: dict[int, list[object]] = {}
    for call in graph:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call.operation)
    kept = largest = 0
    for call in graph:
        if id(call.operation) in chosen:
            size = sum(int(np.prod(output.shape[1:])) for output in call.outputs)
            largest = max(largest, size)
            reading = [reader for out in call.outputs for reader in readers.get(id(out), [])]
            kept += size * _kept(call.operation, reading) + held_inside(call.operation, call.outputs[0].shape[1:])
    fixed = FLOAT * (weights + (3 + SLOTS[optimizer] + averaged) * learning) + held + PROCESS_BYTES
    return Memory(fixed=fixed, per_image=FLOAT * (kept + largest))


def _kept(layer: keras.layers.Layer, readers: list[object]) -> bool:
    """Whether a layer's output is still there when gradients are computed."""
    if isinstance(layer, _IN_PLACE):
        return False
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if isinstance(layer, keras.layers.Activation):
        return activation not in ("relu", "relu6", "linear")
    passed_on = bool(readers) and all(isinstance(reader, _PASSING) for reader in readers)
    return not (passed_on and isinstance(layer, _LINEAR))


def room() -> tuple[int | None, str]:
    """Bytes that training may take here, None where unknown, and of which device."""
    return (_gpu_memory(), "the GPU") if gpus() else (available_memory(), "this machine")


def _gpu_memory() -> int | None:
    """Bytes of the smallest GPU: what JAX may take of it, or all of it according to its driver."""
    if keras.backend.backend() == "jax":
        import jax

        limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
        return min((limit for limit in limits if limit), default=None)
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return min((int(number) * 2**20 for number in found if number.isdigit()), default=None)


def parts_that_fit(memory: Memory, rows: int, parts: int, most: int | None) -> int:
    """`parts`, doubled until an update of `rows` images fits into `most` bytes or has parts of one image."""
    while most is not None and parts < rows and memory.total(-(-rows // parts)) > most:
        parts *= 2
    return min(parts, rows)


# -- The ways to provide the input of the head and top stages: views stored or fresh, the frozen part stored or not ---
#
# Each has its bytes on disk and its seconds; the cheapest that the disk has room for is taken.

HEAD_EPOCHS = 30  # of a head that is not solved
WORTH_COMPUTING_AGAIN = 10.0  # seconds that it must save, for each output that is not stored
STARTING, VIEWING = 2.0, 0.8e-3  # seconds: the engine, once; making another view of an image, on one core
VIEWS_MOST = 8
VIEWED_IMAGES = 12_000  # views are added until about this many images go through the network


def planned_views(options: FinetuneConfig, train: int, most: int = VIEWS_MOST) -> int:
    """Stored views of each training image, `most` at most where that is left open; 0 for fresh ones."""
    if options.augment == "none":
        return 1
    if options.views is not None:
        return options.views
    return int(np.clip(VIEWED_IMAGES // max(train, 1), 1, most))


CONVEX = (None, "crossentropy", "mse")  # losses of a linear head with a single minimum; None is one of them


def is_convex(options: FinetuneConfig) -> bool:
    """Whether the head's problem is convex and so is solved: linear, cross-entropy or squared error, no dropout."""
    return options.head == "linear" and options.loss in CONVEX and not options.dropout


def stage_epochs(options: FinetuneConfig, stage: str, train: int) -> int:
    """Most epochs of a stage, over so many training images; 0 where it is not among those asked for."""
    if stage not in options.in_stages:
        return 0
    planned = HEAD_EPOCHS if stage == "head" else planned_epochs(train, options.batch_size * options.accumulate)
    return int(nth(options.epochs, options.in_stages.index(stage), planned))


def nth(values: Sequence[float] | None, number: int, planned: float) -> float:
    """The value for stage `number`: planned, the only one, or its own."""
    if values is None:
        return planned
    return values[0] if len(values) == 1 else values[number]


# -- How deep, and how long where a high rate is tried ---

LONG = 900.0  # estimated seconds above which training deep is left to those who ask for it
TRIAL_PARTS, TRIAL_SHARE = (
    4,
    0.04,
)  # of a trial; and the share of the stage's updates in each, after which the loss is checked
TRIAL_COST = (TRIAL_PARTS + 1) * TRIAL_SHARE  # of the stage's steps: the loss at the start takes as many as a part
EPOCHS_A_VIEW = 3  # a stored view pays for itself over so many epochs


def settle_depth(options: FinetuneConfig, backbone: Backbone, train: int) -> tuple[FinetuneConfig, str]:
    """Settle how many last blocks learn in the top stage, where that is left open.

    Args:
        options: what was asked for.
        backbone: the network.
        train: training images.

    Returns:
        The options with `blocks`, and the reason in words; the options unchanged and "" where nothing is open.
    """
    if options.blocks or options.third != "last" or "top" not in options.in_stages:
        return options, ""
    deep, shallow = planned_blocks(backbone, DEEP), planned_blocks(backbone)
    count = len(backbone.blocks)
    epochs = planned_epochs(train, options.batch_size * options.accumulate)
    seconds = TRAINING_PASSES * work(backbone.layers_of(count - deep, count)) * seconds_per_operation()
    seconds *= train * epochs
    if deep == shallow or seconds <= LONG:
        return replace(options, blocks=deep), f"the fewest that hold {percent(DEEP)} of the parameters"
    why = (
        f"the fewest that hold a third of the parameters; {deep} blocks, {percent(DEEP)} of them, would train for about"
    )
    return replace(options, blocks=shallow), f"{why} {seconds / 60:.0f} min here: --blocks {deep} does"


# Options that decide how a stage is trained, with their values where that is left to tlkit.
LEFT_OPEN: dict[str, object] = {
    "learning_rate": None,
    "epochs": None,
    "patience": None,
    "minutes": None,
    "stages": None,
    "optimizer": "adamw",
    "loss": None,
    "label_smoothing": None,
}
# Tasks whose loss, with smoothed labels, shows how much was forgotten; others were not measured.
TELLS_LOSSES = {"single": True, "ordinal": False, "multi": False, "number": False}


def is_tried(asked: FinetuneConfig, sizes: Sizes, task: Task) -> bool:
    """Whether a high rate is tried in the top stage: with few images, where nothing was asked for and it saves epochs."""
    batch = asked.batch_size * asked.accumulate
    few = 0 < sizes.train < FREE_FROM and sizes.val > 0
    saves = planned_epochs(sizes.train, batch, *TRIED) < planned_epochs(sizes.train, batch)
    asks_nothing = all(getattr(asked, name) == value for name, value in LEFT_OPEN.items())
    return few and saves and asks_nothing and row_of(TELLS_LOSSES, task)


def briefer(options: FinetuneConfig, train: int) -> tuple[FinetuneConfig, int]:
    """The options with the epochs of a stage whose rate is tried, and the most views that pay over these."""
    epochs = planned_epochs(train, options.batch_size * options.accumulate, *TRIED)
    return replace(options, epochs=(HEAD_EPOCHS, epochs)), min(VIEWS_MOST, -(-epochs // EPOCHS_A_VIEW))


@dataclass(frozen=True)
class Way:
    """One way.

    Args:
        views: stored views of each training image; 0 for fresh ones every epoch.
        stored: which of `features` and `cut` are kept on disk; the rest is computed every epoch.
        bytes: on disk.
        seconds: of extraction and of both stages, as far as they depend on the way.
    """

    views: int
    stored: tuple[str, ...]
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Ways:
    """The possible ways.

    Args:
        anatomy: of the classifier; its options say what is asked for.
        sizes: how many images there are, and what the store may hold.
        most: views of each training image.
    """

    anatomy: Anatomy
    sizes: Sizes
    most: int = VIEWS_MOST

    @property
    def _views(self) -> int:
        """The planned number of views."""
        return planned_views(self.anatomy.options, self.sizes.train, self.most)

    @property
    def _free(self) -> bool:
        """Whether the number of views is left to the plan."""
        return self.anatomy.options.views is None and self.anatomy.options.augment != "none"

    def ranked(self, pace: Pace) -> list[Way]:
        """The ways that the options and the disk allow, the cheapest first; the smallest where none fits."""
        ways = [self._priced(self._shrunk(way), pace) for way in self._possible()]
        fitting = (way for way in ways if way.bytes <= self.sizes.disk)
        return sorted(fitting, key=self._rank) or [min(ways, key=lambda way: way.bytes)]

    def _rank(self, way: Way) -> float:
        """Seconds, plus a charge for what is computed repeatedly, since the next run can reuse what is stored."""
        again = (way.views == 0) + len(self.anatomy.inputs) - len(way.stored)
        return way.seconds + WORTH_COMPUTING_AGAIN * again

    def _possible(self) -> list[Way]:
        names, options = self.anatomy.inputs, self.anatomy.options
        least = 0 if self.anatomy.head_reads == "grid" else 1  # pooled features take hardly any space
        views = [self._views]
        # A convex head is solved on a fixed set of views; fresh ones are used only if asked for.
        if self._free and not is_convex(options):
            views.append(0)
        return [
            Way(number, names[:kept])
            for kept in range(len(names), least - 1, -1)
            for number in (views if kept else [0])
        ]

    def _shrunk(self, way: Way) -> Way:
        """The way with as many views as the disk can hold, unless their number was asked for."""
        while self._free and way.views > 1 and self.bytes(way) > self.sizes.disk:
            way = replace(way, views=way.views - 1)
        return replace(way, bytes=self.bytes(way))

    def bytes(self, way: Way) -> int:
        """On disk."""
        return sum(self.anatomy.row_bytes(name) for name in way.stored) * self._images(way)

    def _images(self, way: Way) -> int:
        return self.sizes.total + max(0, way.views - 1) * self.sizes.train

    def extraction_seconds(self, way: Way, pace: Pace) -> float:
        """Seconds of computing what is stored, from an empty store."""
        if not way.stored:
            return 0.0
        total, images = self.sizes.total, self._images(way)
        viewing = VIEWING * (images - total) / usable_cores()
        forward = pace.forward - spared_by(self.anatomy.backbone.model, images) * pace.operation
        return STARTING + forward * images + self.sizes.reading * total + viewing

    def _priced(self, way: Way, pace: Pace) -> Way:
        """The way with the seconds of extraction, and of what the head and top stages compute and read."""
        options = self.anatomy.options
        seconds = self.extraction_seconds(way, pace) + way.bytes * pace.disk
        seconds += stage_epochs(options, "top", self.sizes.train) * pace.step * self.sizes.train
        head = 0 if is_convex(options) and way.views else stage_epochs(options, "head", self.sizes.train)
        for name, forward, epochs in (
            ("features", pace.forward, head),
            ("cut", pace.prefix, stage_epochs(options, "top", self.sizes.train)),
        ):
            if name not in way.stored:
                seconds += epochs * forward * self.sizes.total
            elif way.views == 0:
                seconds += epochs * forward * self.sizes.train
            elif way.bytes > (available_memory() or 2 * way.bytes) // 2:  # too much to stay in memory between epochs
                seconds += epochs * self.sizes.train * self.anatomy.row_bytes(name) * pace.disk
        return replace(way, seconds=seconds)

    def decisions(self, ways: list[Way], pace: Pace) -> tuple[Decision, ...]:
        """The chosen way, which is the first, compared with the others; and its size on disk."""
        chosen, *others = ways
        how = "measured" if pace.measured else "estimated"
        views = f"about {duration(chosen.seconds)} in all ({how})"
        views += "".join(f"; {self._in_words(way)}: {duration(way.seconds)}" for way in others)
        most = f"the store may hold {bytes_text(self.sizes.disk)} ({self.sizes.disk_reason})"
        return (
            Decision("views", self._in_words(chosen), views),
            Decision("store", f"up to {bytes_text(chosen.bytes)}", most),
        )

    def _in_words(self, way: Way) -> str:
        text = f"{way.views} stored view{'s' * (way.views > 1)} of each training image"
        if self._free and way.views == self._views:
            enough = f"as many as bring {self.sizes.train:,} near {VIEWED_IMAGES:,}"
            text += f", {enough if self._views < self.most else f'{self.most} at most'}"
        text = text if way.views else "fresh views every epoch"
        missing = {"cut": f"the output of {self.anatomy.cut}", "features": "the grid"}
        computed = [missing[name] for name in self.anatomy.inputs if name not in way.stored]
        return text + (f", {' and '.join(computed)} computed every epoch" if computed else "")


# -- What a run takes besides extraction and its stages: the audit, the choice of what ships, the answering file, evaluation,
# report. Seconds are those of a machine on which `minutes.slowness` is 1; benchmarks/results/scale.md has the
# measurements ---

# Phases of a run
AUDITING, CHOOSING, EVALUATING = "auditing", "choosing what ships", "evaluating"


class Cost(NamedTuple):
    """Seconds of a part of a run.

    Args:
        fixed: independent of the images.
        image: more for each image.
        pair: more for each two images, of which the audit compares all.
        answer: more for each image and class.
        label: more for each class.
        judges: whether it fits classifiers, which is skipped where there are too many answers for that.
    """

    fixed: float
    image: float = 0.0
    pair: float = 0.0
    answer: float = 0.0
    label: float = 0.0
    judges: bool = False

    def seconds(self, images: int, classes: int) -> float:
        """Seconds for so many images in so many classes."""
        pairs = images * (images - 1) / 2
        answers = 0 if self.judges and too_many(images, classes) else images * classes
        each = self.image * images + self.pair * pairs + self.answer * answers
        return self.fixed + each + self.label * classes


COSTS = {
    AUDITING: Cost(3.0, image=6e-4, pair=5e-9, answer=1e-6, judges=True),
    CHOOSING: Cost(0.3, image=3e-5),
    EVALUATING: Cost(3.5, image=2e-4, answer=2e-7, label=4e-3),
}
"""A row for each part that takes noticeable time."""


def parts(names: Iterable[str], images: int, classes: int, slowness: float) -> tuple[tuple[str, float], ...]:
    """The expected seconds of these parts of a run, with the name of each.

    Args:
        names: among `COSTS`.
        images: of all splits.
        classes: K.
        slowness: seconds of this machine for each second of the table's.
    """
    return tuple((name, slowness * COSTS[name].seconds(images, classes)) for name in names)
