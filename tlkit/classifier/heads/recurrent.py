"""Heads that read the grid as a sequence of positions, row by row: rnn, lstm, gru."""

from collections.abc import Callable
from typing import Any

import keras

from tlkit.classifier.heads.build import normalized, penalty, sequence
from tlkit.options.groups import HeadOptions

# Elman 1990; Hochreiter & Schmidhuber 1997; Cho et al. 2014
CELLS = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def recurrent(kind: str) -> Callable[[Any, HeadOptions], Any]:
    """The head of one kind of cell."""

    def build(grid: Any, options: HeadOptions) -> Any:
        """Stacked recurrent layers of `options.hidden` units: (B, h, w, C) -> (B, last units), the final state.

        Cells keep their own tanh and sigmoid (`options.activation` does not apply): unbounded
        activations make them diverge, and accelerators have fast kernels for these only.
        """
        tensor = normalized(sequence(grid), "head_norm")
        for number, units in enumerate(options.hidden, start=1):
            tensor = CELLS[kind](
                units,
                return_sequences=number < len(options.hidden),
                kernel_regularizer=penalty(options),
                name=f"head_{kind}_{number}",
            )(tensor)
        return tensor

    return build


rnn, lstm, gru = map(recurrent, CELLS)
