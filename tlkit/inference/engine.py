"""The engines, and which of them computes a model here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tlkit.core.errors import TlkitError
from tlkit.core.input_contract import InputContract
from tlkit.core.story import Silence, Story
from tlkit.data.images import batches
from tlkit.inference import keras_jit, tensorflow_frozen
from tlkit.runtime import gpus


@dataclass(frozen=True)
class Engine:
    """A compiled forward pass.

    Args:
        run: uint8 or float32 (B, ...) -> one float32 (B, ...) for each output of the model.
        name: `tensorflow-frozen` or `keras`.
        reason: why this engine, in a few words.
        precision: `float32` or `bfloat16`: what it multiplies in; it adds up and answers in float32.
    """

    run: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    name: str
    reason: str
    precision: str = "float32"


def build_engine(model: keras.Model, *, engine: str = "auto", precision: str = "float32") -> Engine:
    """The forward pass of `model`; later changes of its weights may go unnoticed.

    Args:
        model: with one input.
        engine: `auto` for the fastest here, or a name.
        precision: `float32` or `bfloat16`.

    Raises:
        TlkitError: the engine cannot compute this model here, or not in this precision.
    """
    name, reason = choose_engine(model) if engine == "auto" else (engine, "as asked for")
    if name == "tensorflow-frozen":
        if obstacle := tensorflow_frozen.why_not(model):
            raise TlkitError(f"--engine {name} cannot compute this: {obstacle}.", "use --engine auto.")
        return Engine(tensorflow_frozen.build(model, precision), name, reason, precision)
    return Engine(keras_jit.build(model, precision), name, reason, precision)


def choose_engine(model: keras.Model) -> tuple[str, str]:
    """Name of the fastest engine for a model here, and why."""
    obstacle = ", ".join(gpus()) or tensorflow_frozen.why_not(model)
    if not obstacle:
        return "tensorflow-frozen", "TensorFlow on a CPU: one graph of constants, a core for each small batch"
    return "keras", f"{obstacle}: {keras.backend.backend()} compiles the model itself"


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
