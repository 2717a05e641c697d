"""The gradient of a class's score with respect to the grid, compiled by whatever backend Keras runs on.

The only file that knows how backends differentiate. The backbone takes no part: its grid is an
input here, so a gradient costs as much as a head does.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]


def build_gradient(head: keras.Model) -> Gradient:
    """The function (grids float32 (B, h, w, C), classes int (B,)) -> d score / d grid, float32 (B, h, w, C).

    Args:
        head: grid -> logits (B, K).
    """
    build = _BACKENDS[keras.backend.backend()]
    run = build(head)
    return lambda grids, classes: run(
        np.asarray(grids, np.float32), np.eye(head.output_shape[-1], dtype=np.float32)[classes]
    )


def _score(logits: Any, one_hot: Any) -> Any:
    """Sum over the batch of the log-odds of each image's class: log p / (1 - p), as `scores` has it.

    The logit itself is only defined up to what it shares with those of the other classes, which
    no prediction depends on; the log-odds are what decides.
    """
    own = keras.ops.sum(logits * one_hot, axis=-1)
    others = keras.ops.logsumexp(logits - 1e9 * one_hot, axis=-1)
    return keras.ops.sum(own - others)


def scores(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Log-odds float64 (B,) of the classes (B,), from logits (B, K)."""
    logits = logits.astype(np.float64)
    rows = np.arange(len(logits))
    own = logits[rows, classes]
    rest = logits.copy()
    rest[rows, classes] = -np.inf
    return own - np.logaddexp.reduce(rest, axis=1)


def _tensorflow(head: keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *head.input_shape[1:])), tf.TensorSpec((None, head.output_shape[-1]))]

    @tf.function(input_signature=signature)
    def compiled(grids: Any, one_hot: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(grids)
            score = _score(head(grids, training=False), one_hot)
        return tape.gradient(score, grids)

    return lambda grids, one_hot: compiled(tf.constant(grids), tf.constant(one_hot)).numpy()


def _jax(head: keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import jax

    trainable = [variable.value for variable in head.trainable_variables]
    fixed = [variable.value for variable in head.non_trainable_variables]

    def score(grids: Any, one_hot: Any) -> Any:
        logits, _ = head.stateless_call(trainable, fixed, grids, training=False)
        return _score(logits, one_hot)

    compiled = jax.jit(jax.grad(score))
    return lambda grids, one_hot: np.asarray(compiled(grids, one_hot))


def _torch(head: keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import torch

    def run(grids: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
        tensor = keras.ops.convert_to_tensor(grids).requires_grad_(True)
        score = _score(head(tensor, training=False), keras.ops.convert_to_tensor(one_hot))
        return keras.ops.convert_to_numpy(torch.autograd.grad(score, tensor)[0])

    return run


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
