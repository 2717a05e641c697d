"""Forward passes at the speed of the machine: one interface, the fastest engine that the backend offers.

With TensorFlow on a CPU the model becomes a frozen graph: variables folded to constants, BatchNorm
folded into convolutions by the graph optimiser. Everywhere else it is the backend's own compiled
`predict`. Decoding runs ahead in threads, so that the slower of the two sets the pace.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tlkit.core.input_contract import InputContract
from tlkit.core.story import Silence, Story
from tlkit.data.images import batches
from tlkit.runtime import gpus


@dataclass(frozen=True)
class Engine:
    """A compiled forward pass.

    Args:
        run: uint8 or float32 (B, ...) -> one float32 (B, ...) for each output of the model.
        name: `tensorflow-frozen` or `keras`.
        reason: why this engine, in a few words.
    """

    run: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    name: str
    reason: str


def build_engine(model: keras.Model) -> Engine:
    """The fastest engine for `model` here; later changes of its weights may go unnoticed."""
    if keras.backend.backend() == "tensorflow" and not gpus():
        return Engine(_frozen(model), "tensorflow-frozen", "TensorFlow on a CPU: constants folded into one graph")
    return Engine(_compiled(model), "keras", f"{keras.backend.backend()} compiles the model itself")


def _frozen(model: keras.Model) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """A frozen TensorFlow graph of a model with one input."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def forward(inputs: "tf.Tensor") -> list["tf.Tensor"]:
        return [tf.convert_to_tensor(output) for output in _as_list(model(inputs, training=False))]

    concrete = tf.function(forward).get_concrete_function(tf.TensorSpec((None, *model.input_shape[1:]), tf.float32))
    frozen = convert_variables_to_constants_v2(concrete)

    def run(inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(output.numpy() for output in frozen(tf.constant(inputs, dtype=tf.float32)))

    return run


def _compiled(model: keras.Model) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    def run(inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(output) for output in _as_list(model.predict_on_batch(inputs)))

    return run


def _as_list(outputs: object) -> list:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def infer(
    engine: Engine,
    files: Sequence[Path],
    contract: InputContract,
    *,
    batch_size: int = 32,
    description: str = "inference",
    story: Story | None = None,
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Decode and run every file through an engine with one output.

    Returns:
        indices int64 (n,) of the files that could be decoded, outputs float32 (n, ...), and
        (index, reason) of those that could not.
    """
    indices: list[np.ndarray] = [np.empty(0, np.int64)]
    outputs: list[np.ndarray] = []
    problems: list[tuple[int, str]] = []
    for batch in (story or Silence()).track(batches(files, contract, batch_size), description, len(files)):
        problems += batch.problems
        if len(batch.indices):
            indices.append(batch.indices)
            outputs.append(engine.run(batch.images)[0])
    return np.concatenate(indices), np.concatenate(outputs) if outputs else np.empty((0,), np.float32), problems
