"""Heads over time: the frames of a clip in, logits out. The mean over time, and what the order of frames adds to it.

A head over time reads `(B, T, C)`, the pooled features of each frame; a row of zeros is no frame.
Its logits are linear in the mean over time and, beside it, in what one of the functions here makes of the frames in order.
The mean alone is solved; the rest begins with a kernel of zeros, so that training starts from the solved mean.
"""

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.process import seeded
from tlkit.classifier.heads.attention import LARGEST_KEY
from tlkit.classifier.heads.build import Head, activated, dense, dropped, normalized, penalty
from tlkit.classifier.heads.recurrent import CELLS
from tlkit.options.catalog import TIMES
from tlkit.options.groups import HeadOptions

UNROLLED = (
    32  # frames up to which recurrent layers are written out step by step, which runs and exports as plain operations
)
WIDTH = 3  # frames that a convolution over time sees
LEAST = -1e30  # below any feature


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
    if classes < fewest:
        raise TlkitError(f"a classifier needs two classes or more, not {classes}.", "add clips of another class.")
    with seeded(seed):
        features = keras.Input(frames, dtype="float32", name="head_features")
        there = keras.ops.any(keras.ops.not_equal(features, 0.0), axis=-1)
        parts = [keras.layers.GlobalAveragePooling1D(dtype="float32", name="head_time_mean")(features, mask=there)]
        if TIMES[time].function:
            body = getattr(sys.modules[__name__], TIMES[time].function)
            parts.append(dropped(body(normalized(features, "head_norm"), there, options), options, "head_dropout"))
        read = parts[0] if len(parts) == 1 else keras.layers.Concatenate(dtype="float32", name="head_time")(parts)
        logits = dense(classes, options, "logits", dtype="float32", kernel_initializer="zeros")(read)
    return Head("pooled", options.pooling, keras.Model(features, logits, name="head"))


def put_mean(head: Head, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Put the solved head of the mean, (C, K) and (K,), into the last layer; what reads the order has no say there."""
    last = head.model.get_layer("logits")
    whole = np.zeros(last.kernel.shape, np.float32)
    whole[: len(kernel)] = kernel
    last.set_weights([whole, bias])


# -- What reads the frames: (B, T, C), normalised, and bool (B, T), which are there -------------------
#
# The mask is handed to every layer that needs it: what Keras passes along by itself is lost at layers such as EinsumDense.


def largest(tensor: Any, there: Any, options: HeadOptions) -> Any:
    """The largest value of each feature over the frames: (B, C)."""
    del options
    return keras.ops.max(keras.ops.where(_aligned(there), tensor, LEAST), axis=1)


def recurrent(kind: str) -> Callable[[Any, Any, HeadOptions], Any]:
    """Stacked recurrent layers of one kind of cell, of `options.hidden` units."""

    def build(tensor: Any, there: Any, options: HeadOptions) -> Any:
        """The state after the last frame that is there: (B, last units)."""
        for number, units in enumerate(options.hidden, start=1):
            tensor = CELLS[kind](
                units,
                return_sequences=number < len(options.hidden),
                kernel_regularizer=penalty(options),
                unroll=tensor.shape[1] <= UNROLLED,
                name=f"head_{kind}_{number}",
            )(tensor, mask=there)
        return tensor

    return build


rnn, lstm, gru = map(recurrent, CELLS)


def transformer(tensor: Any, there: Any, options: HeadOptions) -> Any:
    """Pre-norm encoder layers (Vaswani et al. 2017) with learned positions, then the mean over frames: (B, width).

    As many layers as `options.hidden` has entries, of the width of the first.
    """
    width = options.hidden[0]
    tensor = keras.layers.EinsumDense(
        "btc,cd->btd",
        output_shape=(tensor.shape[1], width),
        bias_axes="td",
        bias_initializer=keras.initializers.RandomNormal(stddev=0.02),
        kernel_regularizer=penalty(options),
        name="head_embedding",
    )(tensor)
    for number in range(1, len(options.hidden) + 1):
        tensor = _encoder_layer(tensor, there, width, options, f"head_layer_{number}")
    last = normalized(tensor, "head_norm_last")
    return keras.layers.GlobalAveragePooling1D(dtype="float32", name="head_mean")(last, mask=there)


def _encoder_layer(tensor: Any, there: Any, width: int, options: HeadOptions, name: str) -> Any:
    """Self-attention among the frames that are there, and a hidden layer of twice the width, each with its skip connection."""
    heads = max(1, width // LARGEST_KEY)
    query = normalized(tensor, f"{name}_attention_norm")
    attended = keras.layers.MultiHeadAttention(
        heads, width // heads, kernel_regularizer=penalty(options), name=f"{name}_attention"
    )(query, query, attention_mask=keras.ops.expand_dims(there, 1))
    tensor = keras.layers.Add(name=f"{name}_attention_add")([tensor, attended])
    inner = dense(2 * width, options, f"{name}_dense_1")(normalized(tensor, f"{name}_dense_norm"))
    inner = dense(width, options, f"{name}_dense_2")(activated(inner, options, f"{name}_activation"))
    return keras.layers.Add(name=f"{name}_dense_add")([tensor, inner])


def conv1d(tensor: Any, there: Any, options: HeadOptions) -> Any:
    """Convolutions over three frames with `options.hidden` filters each, then the mean over frames: (B, last filters).

    Frames that are not there are zeros to every layer, as what lies before the first frame is.
    """
    for number, filters in enumerate(options.hidden, start=1):
        tensor = keras.ops.where(_aligned(there), tensor, 0.0)
        tensor = keras.layers.Conv1D(
            filters, WIDTH, padding="same", kernel_regularizer=penalty(options), name=f"head_conv_{number}"
        )(tensor)
        tensor = activated(tensor, options, f"head_activation_{number}")
    return keras.layers.GlobalAveragePooling1D(dtype="float32", name="head_mean")(tensor, mask=there)


def _aligned(there: Any) -> Any:
    """(B, T) as (B, T, 1)."""
    return keras.ops.expand_dims(there, -1)
