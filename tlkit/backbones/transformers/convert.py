"""Convert a vision transformer of KerasHub to the same one in Keras's own layers, weight by weight.

KerasHub is only needed to read its preset, not for the result. A family is a module with
`read(body, size) -> (architecture, Values)` and a row here for each class that it reads.
"""

import importlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tlkit.backbones.transformers import windows
from tlkit.backbones.transformers.network import Architecture, build

# class of KerasHub -> module here
CONVERTERS = {
    "ViTBackbone": "vit",
    "DeiTBackbone": "vit",
    "DINOV2Backbone": "dinov2",
    "DINOV3Backbone": "dinov3",
    "SigLIPVisionEncoder": "siglip",
    "SwinTransformerBackbone": "swin",
}
NETWORKS: dict[type, Callable[..., keras.Model]] = {
    Architecture: build,
    windows.Stages: windows.build,
}  # class of the architecture -> its builder

Values = dict[str, list[np.ndarray]]  # layer -> its weights


def family_module(body: Any) -> Any:
    """The module that reads a network of KerasHub; None where there is none."""
    name = CONVERTERS.get(type(body).__name__)
    return importlib.import_module(f"tlkit.backbones.transformers.{name}") if name else None


def convert(body: Any, size: tuple[int, int], scale: Any, offset: Any) -> keras.Model:
    """A network of KerasHub in Keras's own layers.

    Args:
        body: one that `family_module` knows.
        size: (height, width) of images, a multiple of its patches; additive positions are interpolated for it.
        scale: factor of the pixels: a number, or one for each colour.
        offset: added afterwards.

    Returns:
        As `build`, with the weights of `body`.

    Raises:
        TlkitError: patches or windows do not suit the image.
    """
    kind, values = family_module(body).read(body, size)
    model = NETWORKS[type(kind)](kind, size, scale, offset)
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if unmatched := set(layers) ^ set(values):
        raise AssertionError(f"layers without weights, or weights without a layer: {sorted(unmatched)}")
    for name, layer in layers.items():
        layer.set_weights(values[name])
    return model


# -- Functions with which families read the weights of layers ---


def number(variable: Any) -> np.ndarray:
    """The values of a variable, float32."""
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def tokens(projection: Any, prefix: list[np.ndarray], positions: np.ndarray) -> list[np.ndarray]:
    """Weights of the patch embedding: kernel (patch * patch * 3, C) and a bias for each token (prefix + patches, C).

    Args:
        projection: the convolution that embeds patches.
        prefix: rows (n, C) of the tokens before them, in order, positions included.
        positions: (rows * columns, C), added to the patches.
    """
    kernel = number(projection.kernel)
    bias = number(projection.bias) if projection.use_bias else 0.0
    return [kernel.reshape(-1, kernel.shape[-1]), np.concatenate([*prefix, positions + bias])]


def dense(layer: Any, scale: np.ndarray | float = 1.0) -> list[np.ndarray]:
    """Kernel (in, out) and bias of a dense layer, zero where it has none; times a scale for each output (LayerScale)."""
    kernel = number(layer.kernel)
    bias = number(layer.bias) if layer.bias is not None else np.zeros(kernel.shape[-1], np.float32)
    return [kernel * scale, bias * scale]


def norm(layer: Any) -> list[np.ndarray]:
    """Scale and offset of a layer normalisation."""
    return [number(layer.gamma), number(layer.beta)]


def attention(layer: Any, scale: np.ndarray | float = 1.0) -> list[np.ndarray]:
    """Weights of Keras's MultiHeadAttention, its output times a scale for each channel (LayerScale)."""
    parts = (layer.query_dense, layer.key_dense, layer.value_dense)
    values = [array for part in parts for array in (number(part.kernel), _bias(part, part.kernel.shape[1:]))]
    output = layer.output_dense
    return [*values, number(output.kernel) * scale, _bias(output, output.kernel.shape[-1:]) * scale]


def _bias(part: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32) if part.bias is None else number(part.bias)


def block(name: str, norms: tuple[Any, Any], attended: list[np.ndarray], hidden: tuple[Any, Any]) -> Values:
    """The layers of a block that all families share, with the given attention.

    Args:
        name: of the block.
        norms: before attention, and before the dense layers.
        attended: weights of the attention.
        hidden: weights of the two dense layers.
    """
    return {
        f"{name}_norm1": norm(norms[0]),
        f"{name}_attention": attended,
        f"{name}_norm2": norm(norms[1]),
        f"{name}_expand": hidden[0],
        f"{name}_contract": hidden[1],
    }
