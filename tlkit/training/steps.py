"""An epoch of training steps at the backend's best compiled pace.

With TensorFlow a chunk of batches runs as one graph, loop included; with JAX every batch is one compiled call that
returns before it is done, so that Python is ahead of the device. Keras's `fit` takes 13 to 70 % longer for the same
steps, the more the shorter they are (benchmarks/training_step.py).
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task
from tlkit.training.examples import Chunk, Examples

# One epoch: (examples, epoch) -> (mean loss, accuracy) over the epoch, of the weights as they were at each step.
Epoch = Callable[[Examples, int], tuple[float, float]]
# (logits, labels, weights) of a batch -> the sum of `Task.scores`
Hits = Callable[[Any, Any, Any], Any]


def build_epoch(model: keras.Model, *, task: Task = SINGLE) -> Epoch:
    """The training loop of a compiled model, compiled for its backend; compile the model anew, build it anew.

    Args:
        model: compiled.
        task: what counts as right depends on it.
    """
    return _LOOPS[keras.backend.backend()](model, task.hits)


def _tensorflow(model: keras.Model, hits_of: Hits) -> Epoch:
    import tensorflow as tf

    variables = model.trainable_variables

    @tf.function(autograph=False, jit_compile=model.jit_compile)
    def step(inputs: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = model.compute_loss(y=labels, y_pred=logits, sample_weight=weights, training=True)
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, hits_of(logits, labels, weights)

    @tf.function(autograph=False, reduce_retracing=True)
    def run(inputs: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        def body(number: Any, losses: Any, hits: Any) -> tuple[Any, Any, Any]:
            loss, hit = step(inputs[number], labels[number], weights[number])
            return number + 1, losses + loss, hits + hit

        count = tf.shape(weights)[0]
        start = (tf.constant(0), tf.constant(0.0), tf.constant(0.0))
        _, losses, hits = tf.while_loop(lambda number, *_: number < count, body, start)
        return losses, hits

    def epoch(examples: Examples, number: int) -> tuple[float, float]:
        return _summed(run, examples, number, tf.convert_to_tensor)

    return epoch


def _jax(model: keras.Model, hits_of: Hits) -> Epoch:
    import jax

    def loss_of(trainable: Any, others: Any, optimizer: Any, metrics: Any, chunk: Chunk) -> tuple[Any, Any]:
        loss, (_, logits, others, _) = model.compute_loss_and_updates(
            trainable, others, metrics, *chunk, training=True, optimizer_variables=optimizer
        )
        return loss, (logits, others)

    def step(state: Any, others: Any, metrics: Any, chunk: Chunk) -> tuple[Any, Any, Any, Any]:
        trainable, optimizer = state
        (loss, (logits, others)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, others, optimizer, metrics, chunk
        )
        state = model.optimizer.stateless_apply(optimizer, gradients, trainable)
        return state, others, loss, hits_of(logits, chunk.labels, chunk.weights)

    # Only what every step replaces is given away: frozen weights may be in use elsewhere.
    compiled = jax.jit(step, donate_argnums=0) if model.jit_compile else step

    def epoch(examples: Examples, number: int) -> tuple[float, float]:
        held = (model.trainable_variables, model.optimizer.variables, model.non_trainable_variables)
        trainable, optimizer, others = ([variable.value for variable in part] for part in held)
        state, metrics = (trainable, optimizer), [variable.value for variable in model.metrics_variables]

        def run(*arrays: Any) -> tuple[Any, Any]:
            nonlocal state, others
            losses = hits = 0.0
            for batch in zip(*arrays, strict=True):
                state, others, loss, hit = compiled(state, others, metrics, Chunk(*batch))
                losses, hits = losses + loss, hits + hit
            return losses, hits

        found = _summed(run, examples, number, jax.numpy.asarray)
        for variables, values in zip(held, (*state, others), strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return found

    return epoch


def _torch(model: keras.Model, hits_of: Hits) -> Epoch:
    import torch

    def run(*arrays: Any) -> tuple[Any, Any]:
        losses = hits = 0.0
        for inputs, labels, weights in zip(*arrays, strict=True):
            logits = model(inputs, training=True)
            loss = model.compute_loss(y=labels, y_pred=logits, sample_weight=weights, training=True)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                variables = model.trainable_variables
                model.optimizer.apply([variable.value.grad for variable in variables], variables)
                losses, hits = losses + loss.detach(), hits + hits_of(logits, labels, weights)
        return losses, hits

    def epoch(examples: Examples, number: int) -> tuple[float, float]:
        return _summed(run, examples, number, keras.ops.convert_to_tensor)

    return epoch


_LOOPS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def _summed(
    run: Callable[..., tuple[Any, Any]], examples: Examples, number: int, place: Callable[[np.ndarray], Any]
) -> tuple[float, float]:
    """Run every chunk of an epoch, at most two of them ahead of what the device has finished."""
    losses = hits = 0.0
    under_way: deque[tuple[Any, Any]] = deque()

    def finish() -> None:
        nonlocal losses, hits
        loss, hit = under_way.popleft()
        losses, hits = losses + float(loss), hits + float(hit)

    for chunk in examples.chunks(number, place):
        under_way.append(run(*chunk))
        if len(under_way) > 2:
            finish()
    while under_way:
        finish()
    return losses / (examples.updates * examples.parts), hits / len(examples.labels)
