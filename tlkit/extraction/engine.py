"""The engines, and which of them computes a model here. Keras is loaded when one of its engines is built."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence, Story
from tlkit.data.dataset import InputContract
from tlkit.data.decode import Batch, batches

if TYPE_CHECKING:
    import keras

T = TypeVar("T")
Outputs = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Engine:
    """A compiled forward pass.

    Args:
        run: uint8 or float32 (B, ...) -> one float32 (B, ...) for each output of the model.
        name: `tensorflow-frozen`, `keras` or `onnx`.
        reason: why this engine, in a few words.
        precision: `float32` or `bfloat16`: what it multiplies in; it adds up and answers in float32.
        start: the same without waiting: gives the function that does.
        part: images that it takes at once, however many come; None for all of them.
    """

    run: Callable[[np.ndarray], Outputs]
    name: str
    reason: str
    precision: str = "float32"
    start: Callable[[np.ndarray], Callable[[], Outputs]] | None = None
    part: int | None = None

    def ahead(self, items: Iterable[T], inputs: Callable[[T], np.ndarray]) -> Iterator[tuple[T, Outputs]]:
        """Every item with the outputs of its inputs, in order; the next is begun before one is waited for."""
        start = self.start or (lambda batch: partial(self.run, batch))
        begun: deque[tuple[T, Callable[[], Outputs]]] = deque()
        for item in items:
            begun.append((item, start(inputs(item))))
            if len(begun) > 1:
                done, wait = begun.popleft()
                yield done, wait()
        for done, wait in begun:
            yield done, wait()


def build_engine(model: "keras.Model", *, engine: str = "auto", precision: str = "float32") -> Engine:
    """The forward pass of `model`; later changes of its weights may go unnoticed.

    Args:
        model: with one input.
        engine: `auto` for the fastest here, or a name.
        precision: `float32` or `bfloat16`.

    Raises:
        TlkitError: the engine cannot compute this model here, or not in this precision.
    """
    from tlkit.extraction import frozen, keras_jit

    name, reason = choose_engine(model) if engine == "auto" else (engine, "as asked for")
    if name == "tensorflow-frozen" and (obstacle := frozen.why_not(model)):
        raise TlkitError(f"--engine {name} cannot compute this: {obstacle}.", "use --engine auto.")
    start = (frozen if name == "tensorflow-frozen" else keras_jit).build(model, precision)
    return Engine(lambda inputs: start(inputs)(), name, reason, precision, start)


def choose_engine(model: "keras.Model") -> tuple[str, str]:
    """Name of the fastest engine for a model here, and why."""
    import keras

    from tlkit.backbones.runtime import gpus
    from tlkit.extraction import frozen

    obstacle = ", ".join(gpus()) or frozen.why_not(model)
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
) -> tuple[np.ndarray, Outputs, list[tuple[int, str]]]:
    """Decode and run every file through an engine.

    Returns:
        indices int64 (n,) of the files that could be decoded, for each output of the engine float32 (n, ...), none where
        no file could be decoded, and (index, reason) of those that could not.
    """
    indices: list[np.ndarray] = [np.empty(0, np.int64)]
    outputs: list[Outputs] = []
    problems: list[tuple[int, str]] = []
    read = (story or Silence()).track(batches(files, contract, batch_size), description, len(files))

    def readable() -> Iterator[Batch]:
        for batch in read:
            problems.extend(batch.problems)
            if len(batch.indices):
                yield batch

    for batch, values in engine.ahead(readable(), lambda batch: batch.images):
        indices.append(batch.indices)
        outputs.append(values)
    return np.concatenate(indices), tuple(map(np.concatenate, zip(*outputs, strict=True))), problems
