"""The plan of a run: its stages, what learns in each, at which rate, for how long, and at what cost.

Made before anything is trained, printed, and kept with the run. Every choice that was left to tlkit
comes with its reason.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any

import keras
import numpy as np

from tlkit.backbones.arithmetic import operations
from tlkit.backbones.build import Backbone
from tlkit.backbones.runtime import jit, sharing
from tlkit.base.errors import TlkitError
from tlkit.base.files import temporary_beside
from tlkit.base.machine import bytes_text, cache_dir
from tlkit.base.story import counted
from tlkit.classifier.model import Classifier
from tlkit.extraction.engine import build_engine
from tlkit.options.commands import FinetuneConfig
from tlkit.training.optimizer import WARM_UP

# A training step computes the outputs once and two gradients of about the same cost each.
TRAINING_PASSES = 3.0
# A number that a layer outputs takes as long to write and read as so many multiply-adds of a large convolution. With it the
# passes and training steps of three networks are estimated at 0.87 to 1.1 of what they take (docs/log.md).
MOVED = 16.0
DISK = 1 / (200 * 2**20)  # seconds a byte, where it is not measured
NOISE_IMAGES = 8
PACING = 0.4  # seconds for which a convolution is timed
STEP_PASSES = 0.5  # seconds of forward passes whose images make the batch of a timed step
DISK_SAMPLE = 32 * 2**20


@dataclass(frozen=True)
class Sizes:
    """How many images there are, and the room for their stored features.

    Args:
        train: training images.
        val: validation images.
        total: images of all splits.
        disk: bytes that the store may hold.
        disk_reason: why so many.
        reading: seconds of decoding an image.
    """

    train: int
    val: int
    total: int
    disk: int
    disk_reason: str
    reading: float = 0.8e-3


@dataclass(frozen=True)
class Pace:
    """Seconds for each image, or for the unit named.

    Args:
        forward: through the backbone.
        prefix: through the backbone up to the cut, 0 without one.
        step: a training step of what comes after the cut, 0 without one.
        operation: each multiply-add of a forward pass.
        disk: each byte written to or read from the store's disk.
        measured: whether these were timed on this network, and not only estimated from its operations.
    """

    forward: float
    prefix: float
    step: float
    operation: float
    disk: float
    measured: bool


def work(layers: Iterable[keras.layers.Layer]) -> float:
    """The cost of a forward pass of one image, in multiply-adds of a large convolution: those, and numbers moved.

    Counts the output of every layer, so that the small layers of MobileNets, which move more than they compute, are not
    taken for fast ones.
    """
    layers = list(layers)
    computing = (layer for layer in layers if not isinstance(layer, keras.layers.InputLayer))
    made = (output for layer in computing for output in keras.tree.flatten(layer.output))
    return operations(layers) + MOVED * float(sum(np.prod(output.shape[1:], dtype=float) for output in made))


@cache
def seconds_per_operation(least: float = PACING) -> float:
    """Seconds per multiply-add of a convolution here, timed once on a small one, for `least` seconds and a little more.

    The default is that long because for a tenth of a second a machine may run at half its speed: of eight passes, hand signs
    and tiles were estimated at twice what they took (benchmarks/results/time.md).
    """
    images = np.random.default_rng(0).random((8, 28, 28, 128), dtype=np.float32)
    layer = keras.layers.Conv2D(128, 3, padding="same")
    model = keras.Sequential([keras.Input(images.shape[1:]), layer])
    model.compile(jit_compile=jit())
    return fastest(lambda: model.predict_on_batch(images), least=least) / (len(images) * operations([layer]))


def fastest(work: Callable[[], object], repeats: int = 3, least: float = 0.0) -> float:
    """Seconds of the fastest of a few runs, after one that is not timed; of as many more as begin within `least` seconds."""
    work()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < repeats or time.perf_counter() - began < least:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def measure_forward(model: keras.Model) -> float:
    """Seconds for each image through the engine that extraction would use, on a batch of noise."""
    engine, noise = build_engine(model), _noise(model)
    return fastest(lambda: engine.run(noise), repeats=2) / len(noise)


def measure_step(model: keras.Model, prepare: Callable[[keras.Model], None], batch: int, forward: float) -> float:
    """Seconds for each image of a training step, on a batch of noise and on copies of the layers.

    An image of a small batch takes longer: twice as long in the last blocks of MobileNetV2-0.35 with 8 instead of 32.
    Where the network is slow the difference is small, and so is the batch, since measuring must not take minutes.

    Args:
        model: that will train; left as it is.
        prepare: compiles the copy as the stage will be compiled.
        batch: images of an update, and of the batch of noise at most.
        forward: seconds for each image of a pass through the whole network.
    """
    copy = keras.models.clone_model(model)
    prepare(copy)
    noise = _noise(copy, sharing(copy).up(min(batch, max(NOISE_IMAGES, int(STEP_PASSES / forward)))))
    labels = np.eye(copy.output_shape[-1], dtype=np.float32)[np.zeros(len(noise), int)]
    return fastest(lambda: copy.train_on_batch(noise, labels), repeats=2) / len(noise)


def _noise(model: keras.Model, images: int = NOISE_IMAGES) -> np.ndarray:
    return np.random.default_rng(0).random((images, *model.input_shape[1:]), dtype=np.float32)


def measure_disk() -> float:
    """Seconds for each byte that goes to the disk of the store, all the way (a second or less)."""
    folder = cache_dir()[0]
    folder.mkdir(parents=True, exist_ok=True)
    path, block = temporary_beside(folder / "speed"), os.urandom(DISK_SAMPLE)
    started = time.perf_counter()
    try:
        with path.open("wb") as file:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return (time.perf_counter() - started) / DISK_SAMPLE


def parameters(layers: Iterable[keras.layers.Layer]) -> int:
    """Weights of these layers, moving statistics included."""
    return sum(int(np.prod(weight.shape)) for layer in layers for weight in layer.weights)


# -- How deep and how long to train where that is left to tlkit; docs/log.md has what both were measured against ---
#
# Deep pays where it is affordable: the last ten blocks of MobileNetV2-0.35, 95 % of its parameters and 38 % of its
# operations, did at least as well on the stored output at the cut as three more, in half the time. The eleventh holds 1.4 %
# of the parameters, takes an eighth of a step and reads rows 2.7 times as large, hence the limit.

DEEP, SHALLOW = 0.94, 1 / 3  # shares of the backbone's parameters that learn in the top stage, at least

# A stage needs some hundred updates to repair what its first ones break: with 168 updates at a rate of 3e-4 it was worse
# than the probe, with 500 better. BiT takes 500 for small sets as well (Kolesnikov et al. 2020).
UPDATES = 600
EPOCHS = (10, 40)  # bounds on the epochs that so many updates make
# Half of them suffice at a rate that is tried on the images first (`settle_rate`), slowly warmed up; see docs/log.md.
TRIED = (300, (5, 40))  # updates, and fewest and most epochs
TRIED_RATE, TRIED_WARM_UP = 1e-3, 0.3
USEFUL = 2  # times the planned epochs are the most that a stage can use


def planned_blocks(backbone: Backbone, share: float = SHALLOW) -> int:
    """The fewest last blocks that hold a share of the parameters; the first block is never among them."""
    sizes = [parameters(backbone.layers_of(number, number + 1)) for number in range(len(backbone.blocks))]
    held = np.cumsum(sizes[::-1])
    return min(int(np.searchsorted(held, share * held[-1])) + 1, max(1, len(sizes) - 1))


def planned_epochs(images: int, batch: int, wanted: int = UPDATES, bounds: tuple[int, int] | None = None) -> int:
    """Epochs over so many images that make about the wanted number of updates of `batch`; within `EPOCHS` or other bounds."""
    updates = -(-max(images, 1) // batch)
    return int(np.clip(-(-wanted // updates), *(bounds or EPOCHS)))


def useful_epochs(images: int, batch: int) -> int:
    """Epochs, like `planned_epochs`, beyond which a stage does not pay: 25 instead of 10 gained nothing on flowers."""
    return USEFUL * planned_epochs(images, batch)


# -- The stages, the decisions and the plan ---


LEARNS = {"head": "the head", "time": "what reads the frames in order", "all": "everything"}
SOLVED = {"lbfgs": "solved by L-BFGS", "ridge": "solved as ridge regression"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Args:
        name: `head`, `top` or `all`.
        method: `lbfgs` or `ridge` (convex, solved), or `gradient`.
        source: where the stage reads the images: `features` (stored output of the backbone), `cut` (stored output
            of the frozen prefix) or `pixels`, through what is frozen.
        blocks: how many blocks of the backbone learn: the last ones, but for those `skipped`.
        skipped: how many blocks after those that learn stay frozen.
        cut: the layer after which the stage trains, "" for the backbone's last or the images themselves.
        views: stored views of each training image; 0 for fresh ones every epoch.
        epochs: at most.
        learning_rate: peak.
        parameters: that may change.
        stored_bytes: that the store will hold for it.
        parts: batches that an update is divided into.
        memory_bytes: expected to be needed while it trains, 0 where it does not.
        mix: how its training rows are mixed: `none`, `mixup` or `cutmix`.
        centralize: whether the gradients of filters are centralized.
        least: epochs after which it may end early, where nothing is left to learn (`checkpoint.is_exhausted`); 0 for never.
        passes: how many times an epoch goes through the images: an epoch is the unit of measuring and keeping, and where one
            pass would be very short, several make one.
        precision: of its multiplications, `float32` or `bfloat16`; `auto` until that is tried, and `float32` where it never is.
        warm_up: share of the updates in which the rate rises to its peak.
        tried: whether that rate is still to be tried.
        seconds: expected, extraction not included.
        reason: why it is planned so.
    """

    name: str
    method: str
    source: str
    blocks: int
    cut: str
    views: int
    epochs: int
    learning_rate: float
    parameters: int
    stored_bytes: int
    seconds: float
    reason: str
    parts: int = 1
    memory_bytes: int = 0
    skipped: int = 0
    mix: str = "none"
    centralize: bool = False
    least: int = 0
    passes: int = 1
    precision: str = "float32"
    warm_up: float = WARM_UP
    tried: bool = False

    @property
    def learns(self) -> str:
        """What learns, in words."""
        if self.name in LEARNS:
            return LEARNS[self.name]
        if self.skipped:
            return f"the head and {self.blocks} block{'s' * (self.blocks > 1)}, not the last {self.skipped}"
        return f"the head and the last {f'{self.blocks} blocks' if self.blocks > 1 else 'block'}"

    @property
    def doing(self) -> str:
        """What is done in it, as a phase of the run."""
        return f"training {self.learns}"


@dataclass(frozen=True)
class Decision:
    """One choice that was left to tlkit.

    Args:
        option: what was left open, by the name of its option where it has one.
        value: what was chosen; or, where that depends on what is not computed yet, how it will be.
        reason: why.
    """

    option: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.option:<10}  {self.value}: {self.reason}"


PRECISION_OF = "precision of {}"  # a stage: the option of that decision


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages, and everything that was left open, now settled.

    Args:
        stages: in order.
        extraction_seconds: expected, before the first stage.
        decisions: every automatic choice with its reason.
        augment: strength of the views, "" where a plan does not say.
        unfreeze: which third learns in the top stage, "" where a plan does not say.
        besides: what else the run does, with the seconds expected; none where a plan does not say.
    """

    stages: tuple[Stage, ...]
    extraction_seconds: float
    decisions: tuple[Decision, ...] = ()
    augment: str = ""
    unfreeze: str = ""
    besides: tuple[tuple[str, float], ...] = ()

    @property
    def seconds(self) -> float:
        """Expected from extraction to the report."""
        trained = sum(stage.seconds for stage in self.stages)
        return self.extraction_seconds + trained + sum(seconds for _, seconds in self.besides)

    def decision(self, option: str) -> Decision | None:
        """What was decided about an option, None where nothing was."""
        return next((one for one in self.decisions if one.option == option), None)

    def deciding(self, *decisions: Decision) -> "Plan":
        """The plan with further decisions; each replaces an earlier one about the same option."""
        by_option = {one.option: one for one in (*self.decisions, *decisions)}
        return replace(self, decisions=tuple(by_option.values()))

    def settles(self, options: FinetuneConfig) -> FinetuneConfig:
        """The options with what the plan has settled of them."""
        return replace(options, augment=self.augment or options.augment, unfreeze=self.unfreeze or options.third)

    def as_json(self) -> dict[str, Any]:
        """The content of plan.json; `Plan.from_json` restores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        """Restore the value of `as_json`; plans written before there were decisions have `notes`, a line for each."""
        content = dict(content)
        notes = [note.split(maxsplit=1) for note in content.pop("notes", ())]
        decisions = [Decision(**one) for one in content.pop("decisions", ())]
        decisions += [Decision(option, *text.partition(": ")[::2]) for option, text in notes]
        stages = tuple(Stage(**stage) for stage in content.pop("stages"))
        besides = tuple((name, seconds) for name, seconds in content.pop("besides", ()))
        return cls(stages=stages, decisions=tuple(decisions), besides=besides, **content)

    def text(self) -> str:
        """The plan as lines of text."""
        seconds = self.extraction_seconds
        about = f"about {duration(seconds)}, less for what the store already holds"
        lines = ["plan:", f"  extract  {about if seconds else 'nothing: the disk has no room for it'}"]
        for stage in self.stages:
            trained = f"up to {counted(stage.epochs, 'epoch')}, peak rate {stage.learning_rate:g}"
            trained += " if a trial bears it" * stage.tried
            how = SOLVED.get(stage.method, trained)
            lines.append(
                f"  {stage.name:<8} {stage.learns} ({stage.parameters:,} parameters), {how}, about {duration(stage.seconds)}"
            )
            memory = f"; about {bytes_text(stage.memory_bytes)} of memory" if stage.memory_bytes else ""
            lines.append(f"           {stage.reason}{memory}")
        if self.besides:
            named = ", ".join(f"{name} about {duration(seconds)}" for name, seconds in self.besides)
            lines.append(f"  besides  {named}; in all about {duration(self.seconds)}")
        return "\n".join([*lines, "decided:", *(f"  {one}" for one in self.decisions)])


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# -- What each stage of a plan trains: which blocks, after which cut, which layers; and what a stored row takes ---

THIRDS = ("first", "middle", "last")
NUMBER_BYTES = {"float32": 4, "float16": 2}


def span(third: str, count: int, name: str) -> tuple[int, int]:
    """The first block of a third of a network, and the one after its last; `all` is every block.

    Raises:
        TlkitError: fewer than three blocks.
    """
    if third == "all":
        return 0, count
    if count < 3:
        raise TlkitError(
            f"--unfreeze {third}: {name} has {count} block{'s' * (count > 1)}, which has no thirds.",
            "use --unfreeze last or all.",
        )
    place = THIRDS.index(third)
    return round(place * count / 3), round((place + 1) * count / 3)


@dataclass(frozen=True)
class Anatomy:
    """A classifier as its stages see it.

    Args:
        options: which stages and blocks were asked for, how rows are stored.
        backbone: the network.
        classifier: backbone and head composed.
        head_reads: "pooled" or "grid".
    """

    options: FinetuneConfig
    backbone: Backbone
    classifier: Classifier
    head_reads: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The storable inputs of the head and top stages: `features`, and `cut` where something is frozen below it."""
        return ("features", "cut") if "top" in self.options.in_stages and self.cut else ("features",)

    @cached_property
    def blocks(self) -> int:
        """How many blocks learn in the top stage, the last except those `skipped`; 0 without one.

        Raises:
            TlkitError: more asked for than there are, or thirds of fewer than three.
        """
        if "top" not in self.options.in_stages:
            return 0
        blocks = self.backbone.blocks
        if self.options.third != "last":
            start, end = span(self.options.third, len(blocks), self.backbone.name)
            return end - start
        count = self.options.blocks or planned_blocks(self.backbone)
        if count >= len(blocks):
            raise TlkitError(
                f"--blocks {count}: {self.backbone.name} has {len(blocks)} blocks, and the first stays frozen in the top stage.",
                f"give at most {len(blocks) - 1}, or use --stages head,all.",
            )
        return count

    @property
    def skipped(self) -> int:
        """How many blocks after those that learn in the top stage stay frozen."""
        if self.options.third == "last" or not self.blocks:
            return 0
        count = len(self.backbone.blocks)
        return count - span(self.options.third, count, self.backbone.name)[1]

    @property
    def _start(self) -> int:
        """The first block that learns in the top stage."""
        return len(self.backbone.blocks) - self.skipped - self.blocks

    @property
    def cut(self) -> str:
        """The layer whose output is the top stage's input; "" where it reads the images themselves."""
        return self.backbone.blocks[self._start - 1].output if self._start else ""

    @cached_property
    def learning(self) -> list[keras.layers.Layer]:
        """Layers of the blocks that learn in the top stage."""
        return self.backbone.layers_of(self._start, self._start + self.blocks)

    @cached_property
    def suffix(self) -> list[keras.layers.Layer]:
        """Layers of the backbone that the top stage runs forward and backward: those that learn and what follows."""
        return self.backbone.layers_of(self._start, len(self.backbone.blocks))

    @cached_property
    def head(self) -> list[keras.layers.Layer]:
        """Layers of the head."""
        known = {layer.name for layer in self.backbone.model.layers}
        return [layer for layer in self.classifier.model.layers if layer.name not in known]

    def row_bytes(self, name: str) -> int:
        """Bytes on disk of one view of one image, for an entry of `inputs`."""
        shape = self.backbone.model.get_layer(self.cut).output.shape[1:] if name == "cut" else self.backbone.grid_shape
        if name == "features" and self.head_reads == "pooled":
            shape = (shape[-1] * (2 if self.options.pooling == "concat" else 1),)
        return int(np.prod(shape)) * NUMBER_BYTES[self.options.stored_as]
