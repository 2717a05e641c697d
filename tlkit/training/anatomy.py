"""What each stage of a plan trains: which blocks, after which cut, which layers; and what a stored row takes."""

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from tlkit.backbones.build import Backbone
from tlkit.classifier import Classifier
from tlkit.core.config import FinetuneConfig
from tlkit.core.errors import TlkitError
from tlkit.training.depth import planned_blocks

THIRDS = ("first", "middle", "last")
NUMBER_BYTES = {"float32": 4, "float16": 2}


def span(third: str, count: int, name: str) -> tuple[int, int]:
    """From which block to which, the end not included, a third of a network reaches; `all` is every block.

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
        """What the head and top stages read that can be stored: `features`, and `cut` where something is frozen below it."""
        return ("features", "cut") if "top" in self.options.stages and self.cut else ("features",)

    @cached_property
    def blocks(self) -> int:
        """How many blocks learn in the top stage, the last but for those `skipped`; 0 without one.

        Raises:
            TlkitError: more asked for than there are, or thirds of fewer than three.
        """
        if "top" not in self.options.stages:
            return 0
        blocks = self.backbone.blocks
        if self.options.unfreeze != "last":
            start, end = span(self.options.unfreeze, len(blocks), self.backbone.name)
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
        if self.options.unfreeze == "last" or not self.blocks:
            return 0
        count = len(self.backbone.blocks)
        return count - span(self.options.unfreeze, count, self.backbone.name)[1]

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
        """Layers of the backbone that the top stage runs and goes back through: those that learn and what follows."""
        return self.backbone.layers_of(self._start, len(self.backbone.blocks))

    @cached_property
    def head(self) -> list[keras.layers.Layer]:
        """Layers of the head."""
        known = {layer.name for layer in self.backbone.model.layers}
        return [layer for layer in self.classifier.model.layers if layer.name not in known]

    def row_bytes(self, name: str) -> int:
        """On disk, of one view of one image, of an entry of `inputs`."""
        shape = self.backbone.model.get_layer(self.cut).output.shape[1:] if name == "cut" else self.backbone.grid_shape
        if name == "features" and self.head_reads == "pooled":
            shape = (shape[-1] * (2 if self.options.pooling == "concat" else 1),)
        return int(np.prod(shape)) * NUMBER_BYTES[self.options.stored_as]
