"""The backend's own compiler: any backend, any device."""

from collections.abc import Callable

import keras
import numpy as np

from tlkit.inference.half import in_bfloat16

Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]


def build(model: keras.Model, precision: str) -> Run:
    """The forward pass of a model with one input, compiled by the backend.

    Every batch has the shape of the largest one so far, filled up with zeros: a new shape would be compiled anew.

    Args:
        model: floating-point input of any shape -> one tensor or several.
        precision: `float32`, or `bfloat16` (mixed: convolutions and products in bfloat16, weights in float32).
    """
    model = in_bfloat16(model) if precision == "bfloat16" else model
    largest = 0

    def run(inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        nonlocal largest
        count = len(inputs)
        largest = max(largest, count)
        if count < largest:
            filling = np.zeros((largest - count, *inputs.shape[1:]), inputs.dtype)
            inputs = np.concatenate([inputs, filling])
        outputs = keras.tree.flatten(model.predict_on_batch(inputs))
        return tuple(np.asarray(output, np.float32)[:count] for output in outputs)

    return run
