"""The few layers that every head is made of."""

from typing import Any

import keras

from tlkit.options.groups import HeadOptions


def penalty(options: HeadOptions) -> Any:
    """The L2 regulariser of kernels, or None."""
    return keras.regularizers.L2(options.l2) if options.l2 else None


def dense(units: int, options: HeadOptions, name: str, **arguments: Any) -> keras.layers.Dense:
    """A Dense layer with the head's penalty on its kernel."""
    return keras.layers.Dense(units, kernel_regularizer=penalty(options), name=name, **arguments)


def activated(tensor: Any, options: HeadOptions, name: str) -> Any:
    """The head's activation, as a layer."""
    return keras.layers.Activation(options.activation, name=name)(tensor)


def dropped(tensor: Any, options: HeadOptions, name: str) -> Any:
    """Dropout at the head's rate; no layer where the rate is 0."""
    return keras.layers.Dropout(options.dropout, name=name)(tensor) if options.dropout else tensor


def normalized(tensor: Any, name: str) -> Any:
    """Layer normalisation over channels (Ba et al. 2016), in float32: grids of different networks differ in scale."""
    return keras.layers.LayerNormalization(epsilon=1e-6, dtype="float32", name=name)(tensor)


def sequence(grid: Any) -> Any:
    """Grid (B, h, w, C) to its positions in reading order (B, h*w, C), row by row."""
    _, height, width, channels = grid.shape
    return keras.layers.Reshape((height * width, channels), name="head_positions")(grid)
