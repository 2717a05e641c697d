"""The blocks of a network, and which of them learn.

A *cut* is a layer through whose single output everything later depends: an articulation point of the graph. Between
two neighbouring cuts lies either one layer (a *plain* step) or several in branches (a *branching* step, such as the
body of a residual or inception block). `find_blocks` joins these steps into blocks:

1. Names show what belongs together: `conv5_block1_add` and `conv5_block1_out` do, `conv5_block1_out` and
   `conv5_block2_1_conv` do not (`_glued`).
2. Steps without kernels (normalisation, activation, pooling, padding, dropout) go with the block before them.
3. A branching step with kernels is a block of its own; plain steps with kernels at one resolution are one block.

So VGG's blocks are its five stages, ResNet's its residual blocks, Inception's its `mixed` modules, DenseNet's its dense
layers and transitions, MobileNetV2's and EfficientNet's their inverted-residual blocks. NASNet's cells each read the
two before them, which leaves no cut among them: NASNet is a stem and one block of all its cells.
"""

import functools
import itertools
import math
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import keras

from tlkit.backbones.graph import calls, cuts, is_automatic
from tlkit.base.errors import TlkitError


@dataclass(frozen=True)
class Block:
    """Neighbouring layers between two cuts.

    Args:
        name: the common part of their names, or the name of the last.
        layers: layer names from input to output.
        output: the layer whose output is the cut after this block.
    """

    name: str
    layers: tuple[str, ...]
    output: str


@dataclass
class _Step:
    """Layers between two cuts, or several such segments that belong together."""

    layers: list[Any]
    branching: bool
    level: int | None  # how often the resolution was halved after its last kernel; None without kernels

    def __add__(self, other: "_Step") -> "_Step":
        level = self.level if other.level is None else other.level
        return _Step(self.layers + other.layers, self.branching or other.branching, level)


def find_blocks(model: keras.Model) -> tuple[Block, ...]:
    """The blocks of a flat functional model, from input to output; every layer is in exactly one.

    Args:
        model: one input, layers only at its top level.
    """
    units: list[_Step] = []
    for step in _steps(model):
        tail = len(units)  # of units without name or kernel, which could belong to either side
        while tail and units[tail - 1].level is None and _telling_name(units[tail - 1].layers) is None:
            tail -= 1
        if tail and _glued(units[tail - 1].layers, step.layers):
            units[tail - 1 :] = [functools.reduce(operator.add, [*units[tail - 1 :], step])]
        else:
            units.append(step)
    return _named(_grouped(units))


def _grouped(units: list[_Step]) -> list[_Step]:
    """Units joined into blocks."""
    groups: list[_Step] = []
    held: _Step | None = None  # padding belongs to the convolution after it
    for position, unit in enumerate(units):
        if unit.level is None and groups and _is_padding(unit) and position < len(units) - 1:
            held = unit if held is None else held + unit
            continue
        joins = bool(groups) and _joins(groups[-1], unit)
        unit, held = (unit if held is None else held + unit), None
        if joins:
            groups[-1] += unit
        else:
            groups.append(unit)
    return groups


def _steps(model: keras.Model) -> list[_Step]:
    """The graph as segments that each end at a cut."""
    graph = calls(model)
    height = graph[0].outputs[0].shape[1]
    steps, start = [], 0
    for end in cuts(graph, model.outputs):
        stretch = graph[start : end + 1]
        layers = list(dict.fromkeys(call.operation for call in stretch if isinstance(call.operation, keras.Layer)))
        kernels = [call for call in stretch if _has_kernel(call.operation)]
        level = _level(height, kernels[-1].outputs[0].shape) if kernels else None
        steps.append(_Step(layers, branching=len(stretch) > 1 and bool(kernels), level=level))
        start = end + 1
    return steps


def _level(height: int | None, shape: tuple[int | None, ...]) -> int:
    """How often the resolution was halved; unpadded convolutions that lose a pixel or two do not count."""
    return round(math.log2(height / shape[1])) if height and len(shape) == 4 and shape[1] else 0


def _has_kernel(operation: Any) -> bool:
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))


def _is_padding(unit: _Step) -> bool:
    return all(isinstance(layer, keras.layers.ZeroPadding2D) for layer in unit.layers)


def _joins(group: _Step, unit: _Step) -> bool:
    """Whether a unit continues the block before it."""
    if unit.level is None or group.level is None:
        return not (unit.branching and unit.level is not None)
    return not unit.branching and not group.branching and unit.level == group.level


def _glued(before: list[Any], after: list[Any]) -> bool:
    """Whether the names on both sides of a cut show that they belong to one block.

    They do when they share leading words with a number among them, unless what follows is the
    next number: `block6a_activation` and `block6a_se_squeeze` are one block, `block5_conv1` and
    `block5_conv2`, or `conv5_block1_out` and `conv5_block2_1_conv`, are siblings.
    """
    names = _telling_name(reversed(before)), _telling_name(after)
    if names[0] is None or names[1] is None:
        return False
    left, right = (name.split("_") for name in names if name)
    shared = len(_shared_words([left, right]))
    if not any(character.isdigit() for word in left[:shared] for character in word):
        return False
    stems = [re.sub(r"\d+", "", words[shared]) if shared < len(words) else "" for words in (left, right)]
    return stems[0] != stems[1]


def _telling_name(layers: Iterable[Any]) -> str | None:
    """The first name that was given by hand, skipping activations and norms without one, but not kernels."""
    for layer in layers:
        if not is_automatic(layer):
            return layer.name
        if _has_kernel(layer):
            return None
    return None


def _shared_words(names: list[list[str]]) -> list[str]:
    """The words that all names begin with."""
    columns = itertools.takewhile(lambda words: len(set(words)) == 1, zip(*names, strict=False))
    return [words[0] for words in columns]


def _named(groups: list[_Step]) -> tuple[Block, ...]:
    """Blocks with unique names."""
    blocks: list[Block] = []
    taken: set[str] = set()
    for group in groups:
        names = tuple(layer.name for layer in group.layers)
        own = [layer.name.split("_") for layer in group.layers if _has_kernel(layer) and not is_automatic(layer)]
        words = _shared_words(own)
        if len(own) == 1 and len(words) > 1 and words[-1].isalpha():
            words = words[:-1]  # `pool4_conv` -> `pool4`
        stem = name = "_".join(words) or names[-1]
        count = 1
        while name in taken:
            count += 1
            name = f"{stem}.{count}"
        taken.add(name)
        blocks.append(Block(name, names, names[-1]))
    return tuple(blocks)


def set_trainable(
    model: keras.Model,
    blocks_that_learn: int | Literal["all"],
    batchnorm: str = "frozen",
    *,
    blocks: tuple[Block, ...] | None = None,
    skipped: int = 0,
) -> None:
    """Set which backbone layers learn; compile afterwards, or nothing changes.

    Works on a backbone, on a classifier that contains one and on the suffix after a cut: layers are
    found by name, those of no block (a head's) are left as they are, and blocks whose layers are
    not in the model are skipped.

    Args:
        model: flat functional model; changed in place.
        blocks_that_learn: how many of the last blocks; 0 for none, "all" for every one.
        batchnorm: "frozen" keeps statistics and scales of every BatchNorm layer, also in blocks that learn:
            `training=False` would not (keras#20285), only `trainable = False` on each layer does. "train" lets
            both move in blocks that learn.
        blocks: of the backbone, from input to output; by default those of `model` itself.
        skipped: how many blocks after those that learn stay frozen; gradients only pass through them.

    Raises:
        TlkitError: more blocks than there are.
    """
    blocks = find_blocks(model) if blocks is None else blocks
    count = len(blocks) if blocks_that_learn == "all" else blocks_that_learn
    if not 0 <= count <= len(blocks) - skipped:
        raise TlkitError(
            f"{count} blocks cannot learn: {model.name} has {len(blocks)}.",
            f"give --blocks between 0 and {len(blocks)}; --stages all trains everything.",
        )
    end = len(blocks) - skipped
    learning = {name for block in blocks[end - count : end] for name in block.layers}
    known = {name for block in blocks for name in block.layers}
    if not model.trainable:
        model.trainable = True
    for layer in model.layers:
        if layer.name in known:
            frozen_norm = batchnorm == "frozen" and isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = layer.name in learning and not frozen_norm
