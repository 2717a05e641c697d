"""A Swin transformer (Liu et al. 2021) in Keras's own layers: raw pixels in, the last stage's tokens as a grid out.

Tokens stay a grid of rows and columns. Windows are cut out of it by reshaping; a shifted window is one of a grid that was
rolled by two slices and a concatenation along each axis. The terms added to scores (relative positions, and -100 between
parts of a rolled window that are not neighbours) are constants and do not learn.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tlkit.backbones.transformers.network import GRID
from tlkit.base.errors import TlkitError

EPSILON = 1e-5  # of every layer normalisation
APART = -100.0  # added to scores of tokens that are not neighbours


@dataclass(frozen=True)
class Stages:
    """The architecture of a Swin transformer.

    Args:
        patch: side of a patch in pixels.
        width: C, channels of a token in the first stage; each later one has twice as many, and half as many rows and columns.
        blocks: of each stage.
        heads: of each stage.
        window: rows and columns of tokens that attend to each other.
        hidden: units between the two dense layers of a block, for each channel.
        normed: whether embedded patches are normalised.
        positions: float (heads, window^2, window^2) for each block, added to the scores of query and key.
    """

    patch: int
    width: int
    blocks: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    hidden: float
    normed: bool
    positions: tuple[np.ndarray, ...]

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in an image of (height, width).

        Raises:
            TlkitError: a stage cannot be halved, or the last one is smaller than a window.
        """
        unit = self.patch * 2 ** (len(self.blocks) - 1)
        least = unit * self.window
        if any(side % unit or side < least for side in size):
            fitting = " by ".join(str(max(least, round(side / unit) * unit)) for side in size)
            raise TlkitError(
                f"images of {size[0]} by {size[1]} pixels do not suit windows of {self.window} by {self.window} tokens: sides "
                f"have to be multiples of {unit}, and {least} at least.",
                f"give such an --image-size; the nearest is {fitting}.",
            )
        return size[0] // self.patch, size[1] // self.patch


def build(kind: Stages, size: tuple[int, int], scale: Any = 1 / 127.5, offset: Any = -1.0) -> keras.Model:
    """The network with random weights.

    Args:
        kind: its architecture.
        size: (height, width) of images, as `Stages.cells` requires.
        scale: of its preprocessing, factor of pixels of 0..255: a number, or one for each colour.
        offset: added afterwards.

    Returns:
        Functional model, `images` float32 (B, H, W, 3) -> grid (B, h, w, C), h and w those of the last stage.
    """
    rows, columns = kind.cells(size)
    images = keras.Input((*size, 3), dtype="float32", name="images")
    tensor = keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocess_scale")(images)
    tensor = _regrouped(tensor, (rows, kind.patch, columns, 3 * kind.patch), "patch")
    tensor = keras.layers.Reshape((rows, columns, 3 * kind.patch**2), name="patches")(tensor)
    tensor = keras.layers.Dense(kind.width, name="tokens")(tensor)
    if kind.normed:
        tensor = _normalised(tensor, "tokens_norm")
    count = 0
    for stage, (blocks, heads) in enumerate(zip(kind.blocks, kind.heads, strict=True)):
        if stage:
            tensor = _merged(tensor, f"block{count + 1}_merge")
        for place in range(blocks):
            count += 1
            shift = kind.window // 2 if place % 2 and min(tensor.shape[1:3]) > kind.window else 0
            tensor = _block(kind, tensor, heads, shift, count)
    return keras.Model(images, keras.layers.LayerNormalization(epsilon=EPSILON, name=GRID)(tensor))


def _normalised(tensor: Any, name: str) -> Any:
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(tensor)


def _regrouped(tensor: Any, shape: tuple[int, int, int, int], name: str) -> Any:
    """(B, ...) as (B, rows, a, columns, b) and then (B, rows, columns, a, b): pieces of a grid, or a grid of pieces."""
    tensor = keras.layers.Reshape(shape, name=f"{name}_rows")(tensor)
    return keras.layers.Permute((1, 3, 2, 4), name=f"{name}_order")(tensor)


def _block(kind: Stages, tensor: Any, heads: int, shift: int, number: int) -> Any:
    """Attention in windows and dense layers, each with a skip connection and after a normalisation."""
    layers, name = keras.layers, f"block{number}"
    _, rows, columns, width = tensor.shape
    side = kind.window
    frame = ((0, -rows % side), (0, -columns % side))
    inner = _normalised(tensor, f"{name}_norm1")
    if any(map(any, frame)):
        inner = layers.ZeroPadding2D(frame, name=f"{name}_padded")(inner)
    inner = _rolled(inner, shift, f"{name}_shift")
    high, wide = inner.shape[1] // side, inner.shape[2] // side
    inner = _regrouped(inner, (high, side, wide, side * width), f"{name}_cut")
    inner = layers.Reshape((high * wide, side**2, width), name=f"{name}_windows")(inner)
    offsets = [kind.positions[number - 1], *([_apart((high, wide), side, shift)] if shift else [])]
    inner = _attended(inner, heads, offsets, name)
    inner = _regrouped(inner, (high, wide, side, side * width), f"{name}_joined")
    inner = layers.Reshape((high * side, wide * side, width), name=f"{name}_grid")(inner)
    inner = _rolled(inner, -shift, f"{name}_back")
    if any(map(any, frame)):
        inner = layers.Cropping2D(frame, name=f"{name}_cropped")(inner)
    tensor = layers.Add(name=f"{name}_attended")([tensor, inner])
    inner = layers.Dense(int(width * kind.hidden), activation="gelu", name=f"{name}_expand")(
        _normalised(tensor, f"{name}_norm2")
    )
    inner = layers.Dense(width, name=f"{name}_contract")(inner)
    return layers.Add(name=f"{name}_output")([tensor, inner])


def _attended(tensor: Any, heads: int, offsets: list[np.ndarray], name: str) -> Any:
    """Attention of (B, windows, tokens, C) in each window; the kernel of the queries includes 1 / sqrt(channels of a head)."""
    layers = keras.layers
    _, windows, tokens, width = tensor.shape

    def projected(part: str, order: tuple[int, ...]) -> Any:
        made = layers.Dense(width, name=f"{name}_{part}")(tensor)
        made = layers.Reshape((windows, tokens, heads, width // heads), name=f"{name}_{part}_heads")(made)
        return layers.Permute(order, name=f"{name}_{part}_order")(made)

    query, key = projected("query", (1, 3, 2, 4)), projected("key", (1, 3, 4, 2))
    scores = keras.ops.matmul(query, key)
    for place, offset in enumerate(offsets, start=1):
        scores = layers.Rescaling(1.0, offset.tolist(), name=f"{name}_scores{place}")(scores)
    shares = layers.Softmax(axis=-1, name=f"{name}_shares")(scores)
    mixed = keras.ops.matmul(shares, projected("value", (1, 3, 2, 4)))
    mixed = layers.Permute((1, 3, 2, 4), name=f"{name}_mixed")(mixed)
    mixed = layers.Reshape((windows, tokens, width), name=f"{name}_mixed_heads")(mixed)
    return layers.Dense(width, name=f"{name}_attention")(mixed)


def _rolled(tensor: Any, shift: int, name: str) -> Any:
    """The grid rolled up and left by `shift`, down and right if negative."""
    if not shift:
        return tensor
    for axis, label in ((1, "rows"), (2, "columns")):
        at = shift % tensor.shape[axis]
        parts = []
        for part, ends in (("rest", (at, 0)), ("first", (0, tensor.shape[axis] - at))):
            crop = (ends, (0, 0)) if axis == 1 else ((0, 0), ends)
            parts.append(keras.layers.Cropping2D(crop, name=f"{name}_{label}_{part}")(tensor))
        tensor = keras.layers.Concatenate(axis=axis, name=f"{name}_{label}")(parts)
    return tensor


def _apart(windows: tuple[int, int], side: int, shift: int) -> np.ndarray:
    """(windows, 1, tokens, tokens): the mask that separates, in a rolled grid, tokens from different ends of the image."""
    high, wide = windows
    parts = []
    for length in (high * side, wide * side):
        place = np.arange(length)
        parts.append((place >= length - side).astype(int) + (place >= length - shift))
    groups = 3 * parts[0][:, None] + parts[1]
    own = groups.reshape(high, side, wide, side).transpose(0, 2, 1, 3).reshape(high * wide, 1, side**2)
    return np.where(own[:, :, :, None] != own[:, :, None, :], APART, 0.0)


def _merged(tensor: Any, name: str) -> Any:
    """Four neighbours become one token of twice the channels."""
    _, rows, columns, width = tensor.shape
    tensor = _regrouped(tensor, (rows // 2, 2, columns // 2, 2 * width), name)
    tensor = keras.layers.Reshape((rows // 2, columns // 2, 4 * width), name=f"{name}_neighbours")(tensor)
    return keras.layers.Dense(2 * width, use_bias=False, name=f"{name}_halved")(_normalised(tensor, f"{name}_norm"))
