"""A vision transformer (Dosovitskiy et al. 2021) in Keras's own layers: raw pixels in, patch tokens as a grid out.

Patches are embedded by a matrix product. Class token, registers and positions are the bias of that layer: rows of zeros
precede the patches, and the bias added to them gives these tokens. LayerScale (Touvron et al. 2021) is not a layer of its
own: it is multiplied into the dense layer before it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from tlkit.backbones.transformers.positions import rotations
from tlkit.base.errors import TlkitError

GRID, SUMMARY = "grid", "summary"  # the layers that give the two outputs


@dataclass(frozen=True)
class Architecture:
    """The architecture of a vision transformer.

    Args:
        patch: side of a patch in pixels.
        width: C, channels of a token.
        blocks: how many.
        heads: of each attention.
        hidden: units between the two dense layers of a block.
        prefix: tokens before those of the patches: class token, registers, a token for distillation.
        epsilon: of every layer normalisation.
        activation: between the dense layers: `gelu`, `gelu_tanh` (its approximation by tanh), or `silu` and its like.
        gated: whether the activated units multiply a third dense layer (SwiGLU, Shazeer 2020).
        rotary: period of rotary positions (Su et al. 2021); None where positions are added to the tokens.
        pools: the summary of the whole image: the first `token`, or `attention` with one learned query (Zhai et al. 2022).
    """

    patch: int
    width: int
    blocks: int
    heads: int
    hidden: int
    prefix: int = 1
    epsilon: float = 1e-6
    activation: str = "gelu"
    gated: bool = False
    rotary: float | None = None
    pools: Literal["token", "attention"] | None = "token"

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in an image of (height, width).

        Raises:
            TlkitError: patches do not divide the image.
        """
        if any(side % self.patch or side < self.patch for side in size):
            fitting = " by ".join(str(max(self.patch, round(side / self.patch) * self.patch)) for side in size)
            raise TlkitError(
                f"patches of {self.patch} by {self.patch} pixels do not divide images of {size[0]} by {size[1]}.",
                f"give an --image-size that they divide; the nearest is {fitting}.",
            )
        return size[0] // self.patch, size[1] // self.patch


def build(kind: Architecture, size: tuple[int, int], scale: Any = 1 / 127.5, offset: Any = -1.0) -> keras.Model:
    """The network with random weights.

    Args:
        kind: its architecture.
        size: (height, width) of images, a multiple of the patches.
        scale: of its preprocessing, factor of pixels of 0..255: a number, or one for each colour.
        offset: added afterwards.

    Returns:
        Functional model, `images` float32 (B, H, W, 3) -> grid (B, H / patch, W / patch, C); where there is a summary of the
        whole image, a second output (B, C).
    """
    rows, columns = kind.cells(size)
    images = keras.Input((*size, 3), dtype="float32", name="images")
    scaled = keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocess_scale")(images)
    tokens = _embedded(kind, scaled, rows, columns)
    for number in range(1, kind.blocks + 1):
        tokens = _block(kind, tokens, f"block{number}", (rows, columns))
    tokens = _normalised(kind, tokens, "norm")
    patches = keras.layers.Cropping1D((kind.prefix, 0), name="patch_tokens")(tokens) if kind.prefix else tokens
    grid = keras.layers.Reshape((rows, columns, kind.width), name=GRID)(patches)
    if kind.pools is None:
        return keras.Model(images, grid)
    return keras.Model(images, [grid, _summary(kind, tokens)])


def _embedded(kind: Architecture, images: Any, rows: int, columns: int) -> Any:
    """Images to tokens (B, prefix + rows * columns, C)."""
    side, layers = kind.patch, keras.layers
    tensor = layers.Reshape((rows, side, columns, side * 3), name="patch_rows")(images)
    tensor = layers.Permute((1, 3, 2, 4), name="patch_order")(tensor)
    tensor = layers.Reshape((rows * columns, side * side * 3), name="patches")(tensor)
    if kind.prefix:
        tensor = layers.ZeroPadding1D((kind.prefix, 0), name="patch_prefix")(tensor)
    shape = (kind.prefix + rows * columns, kind.width)
    return layers.EinsumDense(
        "abc,cd->abd", shape, bias_axes="bd", bias_initializer=_small(), kernel_initializer=_small(), name="tokens"
    )(tensor)


def _small() -> Any:
    return keras.initializers.TruncatedNormal(stddev=0.02)


def _block(kind: Architecture, tokens: Any, name: str, cells: tuple[int, int]) -> Any:
    """Attention and dense layers, each with a skip connection and after a normalisation."""
    inner = _normalised(kind, tokens, f"{name}_norm1")
    if kind.rotary is None:
        attention = keras.layers.MultiHeadAttention(kind.heads, kind.width // kind.heads, name=f"{name}_attention")
        inner = attention(inner, inner)
    else:
        inner = _rotary_attention(
            kind, inner, name, rotations(cells, kind.prefix, kind.width // kind.heads, kind.rotary)
        )
    tokens = keras.layers.Add(name=f"{name}_attended")([tokens, inner])
    inner = _dense_layers(kind, _normalised(kind, tokens, f"{name}_norm2"), name)
    return keras.layers.Add(name=f"{name}_output")([tokens, inner])


def _normalised(kind: Architecture, tensor: Any, name: str) -> Any:
    return keras.layers.LayerNormalization(epsilon=kind.epsilon, name=name)(tensor)


def _dense_layers(kind: Architecture, tensor: Any, name: str) -> Any:
    """Two dense layers with an activation between them, or three where they are gated."""
    plain = kind.activation != "gelu_tanh"
    inner = keras.layers.Dense(kind.hidden, activation=kind.activation if plain else None, name=f"{name}_expand")(
        tensor
    )
    if not plain:
        inner = keras.ops.gelu(inner, approximate=True)
    if kind.gated:
        beside = keras.layers.Dense(kind.hidden, name=f"{name}_gated")(tensor)
        inner = keras.layers.Multiply(name=f"{name}_gate")([inner, beside])
    return keras.layers.Dense(kind.width, name=f"{name}_contract")(inner)


def _rotary_attention(kind: Architecture, tensor: Any, name: str, angles: tuple[np.ndarray, np.ndarray]) -> Any:
    """Attention whose queries and keys are rotated by an angle for each position (Su et al. 2021).

    Queries and keys of all heads are computed together, the first halves of their channels by one dense layer and the
    second halves by another: the rotation multiplies both by constants and adds. `angles`: from `rotations`.
    """
    layers, heads = keras.layers, kind.heads
    count, depth = tensor.shape[1], kind.width // heads
    cosine, sine = angles
    halves = [layers.Dense(kind.width, name=f"{name}_{half}")(tensor) for half in ("first", "second")]
    first, second = (layers.Reshape((count, 2 * heads, depth // 2), name=f"{half.name}_heads")(half) for half in halves)

    def times(half: Any, numbers: Any, label: str) -> Any:
        return layers.Rescaling(numbers[:, None].tolist(), name=f"{name}_{label}")(half)

    turned = [
        layers.Add(name=f"{name}_turned1")([times(first, cosine, "first_cos"), times(second, -sine, "second_sin")]),
        layers.Add(name=f"{name}_turned2")([times(second, cosine, "second_cos"), times(first, sine, "first_sin")]),
    ]
    both = layers.Concatenate(name=f"{name}_turned")(turned)
    query = layers.Cropping2D(((0, 0), (0, heads)), name=f"{name}_query")(both)
    key = layers.Cropping2D(((0, 0), (heads, 0)), name=f"{name}_key")(both)
    value = layers.Dense(kind.width, name=f"{name}_value")(tensor)
    value = layers.Reshape((count, heads, depth), name=f"{name}_value_heads")(value)
    mixed = keras.ops.dot_product_attention(query, key, value)
    mixed = layers.Reshape((count, kind.width), name=f"{name}_mixed")(mixed)
    return layers.Dense(kind.width, name=f"{name}_attention")(mixed)


def _summary(kind: Architecture, tokens: Any) -> Any:
    """The summary of the whole image, (B, C)."""
    layers, count = keras.layers, tokens.shape[1]
    if kind.pools == "token":
        first = layers.Cropping1D((0, count - 1), name="class_token")(tokens)
        return layers.Reshape((kind.width,), name=SUMMARY)(first)
    # One learned query: its score of a token is one number for each head, a dense layer
    depth = kind.width // kind.heads
    asked = layers.Dense(kind.heads, name="pool1_scores")(tokens)
    shares = layers.Softmax(axis=1, name="pool1_shares")(asked)
    shares = layers.Reshape((count, kind.heads, 1), name="pool1_share_heads")(shares)
    values = layers.Dense(kind.width, name="pool1_values")(tokens)
    values = layers.Reshape((count, kind.heads, depth), name="pool1_value_heads")(values)
    mixed = layers.Multiply(name="pool1_weighted")([values, shares])
    mixed = layers.Reshape((count, kind.width), name="pool1_mixed")(mixed)
    mixed = layers.GlobalAveragePooling1D(name="pool1_mean")(mixed)  # the sum is `count` times that, in the next layer
    pooled = layers.Dense(kind.width, name="pool1_attention")(mixed)
    inner = _dense_layers(kind, _normalised(kind, pooled, "pool1_norm"), "pool1")
    return layers.Add(name=SUMMARY)([pooled, inner])
