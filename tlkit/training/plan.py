"""The plan of a run: which stages, what learns in each, at which rate, for how long, and what it will cost.

Made before anything is trained, printed, and kept with the run. Every choice that was left to tlkit
comes with its reason.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlkit.backbones.blocks import Block
from tlkit.backbones.build import Backbone
from tlkit.classifier import Classifier
from tlkit.core.config import FinetuneConfig
from tlkit.core.errors import TlkitError
from tlkit.training.cost import TRAINING_PASSES, operations, parameters, seconds_per_operation

# Peak learning rates and epochs where none are asked for; docs/log.md has what they were measured against.
RATES = {"head": 1e-3, "top": 3e-4, "all": 1e-4}
EPOCHS = {"head": 30, "top": 8, "all": 8}
VIEWS_MOST = 8
VIEWED_IMAGES = 4000  # views are added until about this many images go through the network
TOP_SHARE = 1 / 3  # of the backbone's parameters that learn in the top stage, at least
CUT_BYTES = 8 * 2**30  # a cut that takes more disk than this is computed again every epoch instead


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Args:
        name: `head`, `top` or `all`.
        method: `lbfgs` (convex, solved) or `gradient`.
        source: `features` (stored output of the backbone), `cut` (stored output of the frozen
            prefix) or `pixels`.
        blocks: how many last blocks of the backbone learn.
        cut: the layer whose stored output the stage trains on, "" for none.
        views: stored views of each training image.
        epochs: at most.
        learning_rate: peak.
        parameters: that may change.
        stored_bytes: that the store will hold for it.
        seconds: expected, extraction not included.
        reason: why so.
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

    @property
    def learns(self) -> str:
        """What learns, in words."""
        if self.name == "head":
            return "the head"
        return (
            "everything"
            if self.name == "all"
            else f"the head and the last {self.blocks} block{'s' * (self.blocks > 1)}"
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages, and the expected seconds of the extraction before them."""

    stages: tuple[Stage, ...]
    extraction_seconds: float

    def as_json(self) -> dict[str, Any]:
        """JSON-able; `Plan.from_json` restores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        """Restore what `as_json` gave."""
        stages = tuple(Stage(**stage) for stage in content["stages"])
        return cls(stages=stages, extraction_seconds=content["extraction_seconds"])

    def text(self) -> str:
        """The plan as lines for a reader."""
        lines = [
            "plan:",
            f"  extract  about {duration(self.extraction_seconds)}, less for what the store already holds",
        ]
        for stage in self.stages:
            how = (
                "solved by L-BFGS"
                if stage.method == "lbfgs"
                else f"up to {stage.epochs} epochs, peak rate {stage.learning_rate:g}"
            )
            lines.append(
                f"  {stage.name:<8} {stage.learns} ({stage.parameters:,} parameters), {how}, about {duration(stage.seconds)}"
            )
            lines.append(f"           {stage.reason}")
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def build_plan(
    options: FinetuneConfig, backbone: Backbone, classifier: Classifier, head_reads: str, *, train: int, total: int
) -> Plan:
    """Plan the stages.

    Args:
        options: what was asked for; None in them means "plan it".
        backbone: the network.
        classifier: backbone and head composed.
        head_reads: "pooled" or "grid".
        train: training images.
        total: images of all splits.

    Raises:
        TlkitError: more blocks asked for than there are.
    """
    speed = seconds_per_operation()
    views = planned_views(options, train)
    forward = operations(backbone.model.layers) * speed
    planner = _Planner(options, backbone, classifier, head_reads, train, total, views, speed)
    stages = tuple(planner.stage(number, name) for number, name in enumerate(options.stages))
    return Plan(stages=stages, extraction_seconds=forward * (total + (views - 1) * train))


def planned_views(options: FinetuneConfig, train: int) -> int:
    """How many stored views of each training image."""
    if options.augment == "none":
        return 1
    return options.views or int(np.clip(VIEWED_IMAGES // max(train, 1), 1, VIEWS_MOST))


def planned_blocks(blocks: Sequence[Block], backbone: Backbone) -> int:
    """The fewest last blocks that hold a third of the parameters."""
    sizes = [parameters(backbone.model.get_layer(name) for name in block.layers) for block in blocks]
    held = np.cumsum(sizes[::-1])
    return int(np.searchsorted(held, TOP_SHARE * held[-1])) + 1


@dataclass(frozen=True)
class _Planner:
    """What every stage's plan is made from."""

    options: FinetuneConfig
    backbone: Backbone
    classifier: Classifier
    head_reads: str
    train: int
    total: int
    views: int
    speed: float

    def stage(self, number: int, name: str) -> Stage:
        """Plan stage `name`, the `number`-th."""
        epochs = _nth(self.options.epochs, number, EPOCHS[name])
        rate = _nth(self.options.learning_rate, number, RATES[name])
        return {"head": self._head, "top": self._top, "all": self._all}[name](int(epochs), float(rate))

    def _head(self, epochs: int, rate: float) -> Stage:
        """Train the head on stored features: exactly if convex, else by gradient descent."""
        convex = is_convex(self.options)
        known = {layer.name for layer in self.backbone.model.layers}
        head = [layer for layer in self.classifier.model.layers if layer.name not in known]
        shape = self.backbone.grid_shape if self.head_reads == "grid" else self.backbone.grid_shape[-1:]
        steps = 200 if convex else epochs
        return Stage(
            name="head",
            method="lbfgs" if convex else "gradient",
            source="features",
            blocks=0,
            cut="",
            views=self.views,
            epochs=epochs,
            learning_rate=rate,
            parameters=parameters(head),
            stored_bytes=self._bytes(shape),
            seconds=1 + TRAINING_PASSES * operations(head) * self.speed * self.train * self.views * steps,
            reason=f"on stored features, {self._views()}"
            + (
                "; a linear head under cross-entropy is convex, so it is solved, its penalty cross-validated"
                if convex
                else ""
            ),
        )

    def _top(self, epochs: int, rate: float) -> Stage:
        """Train the last blocks on the stored output at the cut, or from pixels where that is too large."""
        blocks = self.backbone.blocks
        count = self.options.blocks or planned_blocks(blocks, self.backbone)
        if count >= len(blocks):
            raise TlkitError(
                f"--blocks {count}: {self.backbone.name} has {len(blocks)} blocks, and the first stays frozen in the top stage.",
                f"give at most {len(blocks) - 1}, or use --stages head,all.",
            )
        cut = blocks[-count - 1].output
        learning = [self.backbone.model.get_layer(name) for block in blocks[-count:] for name in block.layers]
        held = self._bytes(self.backbone.model.get_layer(cut).output.shape[1:])
        stored = held <= CUT_BYTES
        cost = TRAINING_PASSES * operations(learning)
        if not stored:
            cost += operations(self.backbone.model.layers) - operations(learning)
        share = "asked for" if self.options.blocks else "the fewest that hold a third of the parameters"
        where = (
            f"trained on the stored output of {cut} ({held / 2**20:,.0f} MB, {self._views()})"
            if stored
            else f"from pixels: the output of {cut} would take {held / 2**30:,.0f} GB"
        )
        return Stage(
            name="top",
            method="gradient",
            source="cut" if stored else "pixels",
            blocks=count,
            cut=cut if stored else "",
            views=self.views if stored else 1,
            epochs=epochs,
            learning_rate=rate,
            parameters=parameters(learning) + self._head(1, rate).parameters,
            stored_bytes=held if stored else 0,
            seconds=3 + cost * self.speed * self.train * epochs,
            reason=f"{count} of {len(blocks)} blocks, {share}; {where}; BatchNorm {self.options.batchnorm}",
        )

    def _all(self, epochs: int, rate: float) -> Stage:
        """Train everything from pixels."""
        layers = self.classifier.model.layers
        return Stage(
            name="all",
            method="gradient",
            source="pixels",
            blocks=len(self.backbone.blocks),
            cut="",
            views=1,
            epochs=epochs,
            learning_rate=rate,
            parameters=parameters(layers),
            stored_bytes=0,
            seconds=5 + TRAINING_PASSES * operations(layers) * self.speed * self.train * epochs,
            reason=f"from pixels, augmentation {self.options.augment}, fresh every epoch; BatchNorm {self.options.batchnorm}",
        )

    def _bytes(self, shape: Sequence[int]) -> int:
        return int(np.prod(shape)) * 4 * (self.total + (self.views - 1) * self.train)

    def _views(self) -> str:
        """How many views there are of each training image, and why."""
        if self.views == 1:
            return "one view of each image"
        why = "asked for" if self.options.views else f"as many as bring {self.train:,} images near {VIEWED_IMAGES:,}"
        return f"{self.views} views of each training image, {why}, augmentation {self.options.augment}"


def is_convex(options: FinetuneConfig) -> bool:
    """Whether the head's problem has one solution that L-BFGS finds: linear, plain cross-entropy, no dropout."""
    plain = options.loss == "crossentropy" and not options.label_smoothing and not options.dropout
    return options.head == "linear" and plain


def _nth(values: Sequence[float] | None, number: int, planned: float) -> float:
    """The value for stage `number`: planned, the only one, or its own."""
    if values is None:
        return planned
    return values[0] if len(values) == 1 else values[number]
