"""What a head over time makes of the frames of a clip in order, beside their mean: one function for each row of `TIMES`."""

from collections.abc import Callable
from typing import Any

import keras

from tlkit.classifier.heads.attention import encoded
from tlkit.classifier.heads.build import activated, dense, penalty
from tlkit.classifier.heads.recurrent import CELLS
from tlkit.options.groups import HeadOptions

# Frames up to which recurrent layers are written out step by step, which runs and exports as plain operations
UNROLLED = 32
NARROW = 64  # channels that layers with a kernel for each step read of a frame
WIDTH = 3  # frames that a convolution over time sees
LEAST = -1e30  # below any feature


# -- What reads the frames: (B, T, C), normalised, and bool (B, T), which are there -------------------
#
# The mask is handed to every layer that needs it: what Keras passes along by itself is lost at layers such as EinsumDense.


def narrowed(tensor: Any, options: HeadOptions) -> Any:
    """(B, T, C) -> (B, T, 64), projected by a matrix that is learned; fewer channels stay as they are.

    As the bottleneck of Szegedy et al. 2015. It takes most of the work away from what follows, and clips that are few for
    the weights of 1,280 channels are told apart better (benchmarks/results/clips.md).
    """
    if tensor.shape[-1] <= NARROW:
        return tensor
    return dense(NARROW, options, "head_projection", use_bias=False)(tensor)


def largest(tensor: Any, there: Any, options: HeadOptions) -> Any:
    """The largest value of each feature over the frames: (B, C)."""
    del options
    return keras.ops.max(keras.ops.where(_aligned(there), tensor, LEAST), axis=1)


def recurrent(kind: str) -> Callable[[Any, Any, HeadOptions], Any]:
    """Stacked recurrent layers of one kind of cell, of `options.hidden` units."""

    def build(tensor: Any, there: Any, options: HeadOptions) -> Any:
        """The state after the last frame that is there: (B, last units)."""
        tensor = narrowed(tensor, options)
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

    As many layers as `options.hidden` has entries, of the width of the first. Dropout acts on what is read of them alone, as
    on what every head over time makes of the frames.
    """
    return encoded(tensor, options, there, inner_dropout=False)


def conv1d(tensor: Any, there: Any, options: HeadOptions) -> Any:
    """Convolutions over three frames with `options.hidden` filters each, then the mean over frames: (B, last filters).

    Frames that are not there are zeros to every layer, as what lies before the first frame is.
    """
    tensor = narrowed(tensor, options)
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
