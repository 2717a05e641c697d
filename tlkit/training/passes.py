"""Forward passes between training steps: predictions of a network for held-out images, with its current weights.

The pass is compiled once, and its weights are read anew in every call: a frozen graph (`extraction.engine`) would have to be
rebuilt whenever they have changed.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tlkit.backbones.folding import learning_forward
from tlkit.backbones.runtime import forward, jit, sharing
from tlkit.extraction.store import at_once
from tlkit.training.examples import Reader

EVALUATION_BATCH = 64

# inputs (b, ...) -> logits (b, K), an array or a tensor
Call = Callable[[Any], Any]


def compiled(model: keras.Model, count: int) -> Call:
    """The model compiled for many rounds on `count` inputs in all; which of its layers learn is settled, and stays so.

    With TensorFlow on a CPU a network is computed as in its training steps, in two thirds of the time that Keras's
    `predict_on_batch` takes for the last blocks of MobileNetV2-0.35 (docs/log.md).
    """
    call = forward(model, count)
    if keras.backend.backend() != "tensorflow" or jit() or call != model.predict_on_batch:
        return call
    import tensorflow as tf

    return tf.function(learning_forward(model, training=False), autograph=False, reduce_retracing=True)


def predict(
    model: keras.Model, read: Reader, count: int, batch_size: int | None = None, call: Call | None = None
) -> np.ndarray:
    """Logits float32 (count, K) of inputs 0..count-1, the images themselves.

    Args:
        model: computes them.
        read: gives the inputs.
        count: how many there are.
        batch_size: inputs at a time, at most, unless there are more devices; by default as many as pay.
        call: the model, `compiled` before; None for a single round.
    """
    call, shared, batch_size = call or forward(model, count), sharing(model), batch_size or _at_once(model)
    size = shared.up(-(-count // max(1, -(-count // batch_size))))  # batches of about the same size
    found = np.empty((count, model.output_shape[-1]), np.float32)
    for start in range(0, count, size):
        inputs = read(np.arange(start, min(start + size, count)), -1)
        # The last batch is padded: another shape would be traced and compiled separately.
        filled = np.concatenate([inputs, np.repeat(inputs[-1:], size - len(inputs), axis=0)])
        found[start : start + size] = np.asarray(call(shared.put(filled)))[: len(inputs)]
    return found


def _at_once(model: keras.Model) -> int:
    """Inputs per batch: more where they are features, (C,) or (T, C), which take little memory."""
    if len(model.input_shape) > 3:
        return EVALUATION_BATCH
    return max(EVALUATION_BATCH, at_once(model.input_shape[1:]))
