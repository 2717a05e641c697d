"""`build_head`: from options to a small Keras model, features in, logits out; and the layers that all heads share."""

import importlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.process import seeded
from tlkit.options.catalog import CLASS_POOLINGS, HEADS, TIMES, head_reads
from tlkit.options.groups import HeadOptions

# Heads that read the class token get it as a grid of one cell
POOLS = {"avg": ("avg",), "max": ("max",), "concat": ("avg", "max"), **dict.fromkeys(CLASS_POOLINGS, ("avg",))}
ORDER = "head_order_logits"  # layer: the logits added by the order of frames to those of their mean
TIME_MEAN = "head_time_mean"  # layer: the mean of a clip's features over its existing frames
LAYERS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


@dataclass(frozen=True, eq=False)
class Head:
    """A network that maps features to logits.

    Args:
        reads: "pooled", features (B, C'), or "grid", (B, h, w, C).
        pooling: "avg", "max" or "concat" of the two (C' = 2 C), used when it reads "pooled"; "flatten"; "cls" or "cls+avg",
            for a grid of `Backbone.read_as`.
        model: input `head_features` float32, output `logits` float32 (B, K), no softmax.
    """

    reads: str
    pooling: str
    model: keras.Model


def build_head(
    options: HeadOptions, grid_shape: tuple[int, int, int], classes: int, *, seed: int = 0, fewest: int = 2
) -> Head:
    """Build a head for a backbone's grid.

    Args:
        options: kind, pooling, sizes, activation, dropout and penalty.
        grid_shape: (h, w, C) of the backbone.
        classes: K, `fewest` or more.
        seed: of the initial weights and of dropout.
        fewest: 2 of classes, 1 of numbers.

    Raises:
        TlkitError: unknown kind, options that do not fit it, or fewer than two classes.
    """
    if options.head not in HEADS:
        raise unknown_name("a head", options.head, HEADS)
    _refuse_few(classes, fewest, "images")
    row = HEADS[options.head]
    body = getattr(importlib.import_module(row.module), row.name)
    reads = head_reads(options.head, options.pooling)
    shape = grid_shape if reads == "grid" else (grid_shape[-1] * len(POOLS[options.pooling]),)
    with seeded(seed):
        features = keras.Input(shape, dtype="float32", name="head_features")
        read = flat(features) if options.pooling == "flatten" else features
        tensor = dropped(body(read, options), options, "head_dropout")
        logits = dense(classes, options, "logits", dtype="float32")(tensor)
    return Head(reads, options.pooling, keras.Model(features, logits, name="head"))


def pool(grid: Any, pooling: str) -> Any:
    """Pool a symbolic grid with plain layers, in float32.

    Args:
        grid: (B, h, w, C).
        pooling: "avg", "max", or "concat": avg, then max; for a class token, the mean of its one cell.

    Returns:
        (B, C), or (B, 2 C) for "concat".
    """
    parts = [LAYERS[kind](dtype="float32", name=f"head_pool_{kind}")(grid) for kind in POOLS[pooling]]
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(dtype="float32", name="head_pool_concat")(parts)


def _refuse_few(classes: int, fewest: int, samples: str) -> None:
    if classes < fewest:
        raise TlkitError(f"a classifier needs two classes or more, not {classes}.", f"add {samples} of another class.")


# -- Heads over time: the frames of a clip in, logits out ---
#
# A head over time reads (B, T, C), the pooled features of each frame; a row of zeros is a missing frame. Its logits are those
# of the mean over time, by the layer `logits`, plus a term that is linear in the output of a function of `heads/time.py` on
# the frames in order. The head on the mean is solved, and stays fixed while the rest is trained, from a kernel of zeros:
# trained as well, it would memorise the training clips (benchmarks/results/clips.md).


def build_time_head(
    options: HeadOptions, time: str, frames: tuple[int, int], classes: int, *, seed: int = 0, fewest: int = 2
) -> Head:
    """Build a head over time.

    Args:
        options: pooling of each frame, sizes, activation, dropout and penalty.
        time: a row of `TIMES`.
        frames: (T, C) of a clip.
        classes: K, `fewest` or more.
        seed: of the initial weights and of dropout.
        fewest: 2 of classes, 1 of numbers.

    Raises:
        TlkitError: fewer than two classes.
    """
    _refuse_few(classes, fewest, "clips")
    with seeded(seed):
        features = keras.Input(frames, dtype="float32", name="head_features")
        there = keras.ops.any(keras.ops.not_equal(features, 0.0), axis=-1)
        mean = keras.layers.GlobalAveragePooling1D(dtype="float32", name=TIME_MEAN)(features, mask=there)
        logits, row = dense(classes, options, "logits", dtype="float32", kernel_initializer="zeros")(mean), TIMES[time]
        if row.function:
            body = getattr(importlib.import_module(row.module), row.function)
            read = dropped(body(standardised(features), there, options), options, "head_dropout")
            plain = {"dtype": "float32", "kernel_initializer": "zeros", "use_bias": False}
            logits = keras.layers.Add(dtype="float32", name="head_sum")(
                [logits, dense(classes, options, ORDER, **plain)(read)]
            )
    return Head("pooled", options.pooling, keras.Model(features, logits, name="head"))


def put_mean(head: Head, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Load the solved head, of the mean over time or of images, (C, K) and (K,); the term for the order is set to zero."""
    head.model.get_layer("logits").set_weights([kernel, bias])


# -- The layers that all heads share ---


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


def standardised(frames: Any) -> Any:
    """The same without learned scales, which the linear layer after it makes redundant: their gradients would cost as much as its."""
    norm = keras.layers.LayerNormalization(epsilon=1e-6, center=False, scale=False, dtype="float32", name="head_norm")
    return norm(frames)


def flat(grid: Any) -> Any:
    """Grid (B, h, w, C) to all of its numbers (B, h*w*C), row by row, channels last."""
    return keras.layers.Flatten(name="head_flat")(grid)


def sequence(grid: Any) -> Any:
    """Grid (B, h, w, C) to its positions in reading order (B, h*w, C), row by row."""
    _, height, width, channels = grid.shape
    return keras.layers.Reshape((height * width, channels), name="head_positions")(grid)
