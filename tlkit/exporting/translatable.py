"""A network in operations that other runtimes have: the same numbers, other layers where TensorFlow's are its own."""

from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import copy_weights


def translatable(model: keras.Model) -> keras.Model:
    """The same network, written so that every format can hold it; as it is given where that is so already.

    Three layers of ConvNeXt, and whatever else has them, are written anew. GELU (Hendrycks & Gimpel 2016), which TensorFlow
    computes by `erfc`, with the error function: equal to 1e-7. A convolution with a group for each channel, which Keras
    has XLA compile, as the depthwise convolution that it is. And Normalization computes with constants, which otherwise
    become inputs of the graph.

    Args:
        model: flat, as `compose` makes it.
    """
    if not any(_is_exact_gelu(layer) or _is_depthwise(layer) or _normalizes(layer) for layer in model.layers):
        return model
    copy = keras.models.clone_model(model, clone_function=_written)
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):  # the copy's has another name
            continue
        target = copy.get_layer(layer.name)
        if _is_depthwise(layer):
            kernel, *bias = layer.weights
            target.weights[0].assign(keras.ops.reshape(kernel.value, target.weights[0].shape))
            for old, new in zip(bias, target.weights[1:], strict=True):
                new.assign(old.value)
        else:
            copy_weights(layer, target)
        if _normalizes(layer):
            target.mean, target.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    return copy


def _written(layer: keras.Layer) -> keras.Layer:
    copy = _depthwise(layer) if _is_depthwise(layer) else type(layer).from_config(layer.get_config())
    if _is_exact_gelu(layer):
        copy.activation = _gelu
    return copy


def _normalizes(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Normalization)


def _is_exact_gelu(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    approximate = getattr(activation, "keywords", {}).get("approximate", False)
    return getattr(activation, "func", activation) is keras.activations.gelu and not approximate


def _gelu(values: Any) -> Any:
    return 0.5 * values * (1.0 + keras.ops.erf(values * 0.7071067811865476))


def _is_depthwise(layer: keras.Layer) -> bool:
    """Whether each filter of a convolution sees one channel; its kernel is (h, w, 1, C * m), in the order of the channels."""
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups > 1
        and layer.kernel.shape[2] == 1
        and layer.strides[0] == layer.strides[1]
    )


def _depthwise(layer: keras.layers.Conv2D) -> keras.layers.DepthwiseConv2D:
    config = layer.get_config()
    shared = ("name", "kernel_size", "strides", "padding", "dilation_rate", "data_format", "activation", "use_bias")
    multiplier = layer.filters // layer.groups
    return keras.layers.DepthwiseConv2D(**{name: config[name] for name in shared}, depth_multiplier=multiplier)
