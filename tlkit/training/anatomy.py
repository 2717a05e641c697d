"""What each stage of a plan trains: which blocks, after which cut, which layers; and what a stored row takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from tlkit.backbones.blocks import Block
from tlkit.backbones.build import Backbone
from tlkit.classifier import Classifier
from tlkit.core.config import FinetuneConfig
from tlkit.core.errors import TlkitError
from tlkit.training.cost import parameters

TOP_SHARE = 1 / 3  # of the backbone's parameters that learn in the top stage, at least
NUMBER_BYTES = {"float32": 4, "float16": 2}


def planned_blocks(blocks: Sequence[Block], backbone: Backbone) -> int:
    """The fewest last blocks that hold a third of the parameters."""
    sizes = [parameters(backbone.model.get_layer(name) for name in block.layers) for block in blocks]
    held = np.cumsum(sizes[::-1])
    return int(np.searchsorted(held, TOP_SHARE * held[-1])) + 1


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
        """What the stages before the last read: `features`, and `cut` where there is a top stage."""
        return ("features", "cut") if "top" in self.options.stages else ("features",)

    @cached_property
    def blocks(self) -> int:
        """How many last blocks learn in the top stage; 0 without one.

        Raises:
            TlkitError: more asked for than there are.
        """
        if "top" not in self.options.stages:
            return 0
        blocks = self.backbone.blocks
        count = self.options.blocks or planned_blocks(blocks, self.backbone)
        if count >= len(blocks):
            raise TlkitError(
                f"--blocks {count}: {self.backbone.name} has {len(blocks)} blocks, and the first stays frozen in the top stage.",
                f"give at most {len(blocks) - 1}, or use --stages head,all.",
            )
        return count

    @property
    def cut(self) -> str:
        """The layer whose output is the top stage's input."""
        return self.backbone.blocks[-self.blocks - 1].output

    @cached_property
    def learning(self) -> list[keras.layers.Layer]:
        """Layers of the blocks that learn in the top stage."""
        blocks = self.backbone.blocks[len(self.backbone.blocks) - self.blocks :]
        return [self.backbone.model.get_layer(name) for block in blocks for name in block.layers]

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
