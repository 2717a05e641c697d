"""How a head over time reads the frames of a clip in order, besides their mean: one function for each row of `TIMES`."""

from collections.abc import Callable
from typing import Any

import keras

from tlkit.classifier.heads.attention import encoded
from tlkit.classifier.heads.build import activated, dense, penalty
from tlkit.classifier.heads.recurrent import CELLS
from tlkit.options.groups import HeadOptions

# Frames up to which recurrent layers are unrolled, so that they run and export as plain operations
UNROLLED = 32
NARROW = 64  # channels that layers with a kernel for each step read of a frame
WIDTH = 3  # frames that a convolution over time sees
LEAST = -1e30  # below any feature


# -- Readers of the frames: (B, T, C), normalised, and the mask bool (B, T) ---------------------------
#
# The mask is passed to every layer that needs it: the one that Keras propagates is lost at layers such as EinsumDense.


def narrowed(tensor: Any, options: HeadOptions) -> Any:
    """(B, T, C) -> (B, T, 64), by a learned projection; fewer channels are unchanged.

    A bottleneck as in Szegedy et al. 2015. It saves most of the computation after it, and is more accurate with clips that
    are few for the weights of 1,280 channels (benchmarks/results/clips.md).
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
        """The state after the last existing frame: (B, last units)."""
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

    As many layers as `options.hidden` has entries, of the width of the first. Dropout acts only on their output, as in
    every head over time.
    """
    return encoded(tensor, options, there, inner_dropout=False)


def conv1d(tensor: Any, there: Any, options: HeadOptions) -> Any:
    """Convolutions over three frames with `options.hidden` filters each, then the mean over frames: (B, last filters).

    Missing frames are zeros for every layer, like the padding before the first frame.
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
