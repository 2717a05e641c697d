"""What a stage needs in memory, estimated from its graph before it starts; and how running out of it looks."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from tlkit.backbones.graph import calls
from tlkit.backbones.runtime import gpus
from tlkit.base.machine import available_memory

FLOAT = 4
SLOTS = {"sgd": 1, "adam": 2, "adamw": 2, "rmsprop": 2, "lion": 1}  # numbers an optimizer keeps for each weight
PROCESS_BYTES = 48 * 2**20  # that the first steps take whatever the network: traced graphs, threads, primitives
# Layers that write over their input or only look at it differently; nothing of theirs is kept.
_IN_PLACE = (
    keras.layers.InputLayer,
    keras.layers.ReLU,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Dropout,
)
# The gradient of these needs neither what they read ...
_PASSING = (keras.layers.Add, keras.layers.ZeroPadding2D, keras.layers.AveragePooling2D, keras.layers.Rescaling)
# ... nor that of these what they made.
_LINEAR = (keras.layers.BatchNormalization, *_PASSING)
_MESSAGES = ("RESOURCE_EXHAUSTED", "ResourceExhausted", "MemoryError", "out of memory", "Unable to allocate")


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes.

    Args:
        fixed: whatever the batch: weights, gradients and what the optimizer keeps.
        per_image: activations of one image, kept for the gradients, and its input.
    """

    fixed: int
    per_image: int

    def total(self, rows: int) -> int:
        """Bytes with batches of so many images."""
        return self.fixed + self.per_image * rows


def estimate(
    model: keras.Model,
    layers: Iterable[keras.layers.Layer],
    learning: int,
    optimizer: str,
    held: int = 0,
    *,
    averaged: bool = False,
) -> Memory:
    """The memory of training some layers of a model.

    Every output that a gradient is computed from is kept until then, and the largest exists once more while its own
    gradient is computed. Gradients exist three times: as computed, as clipped, and in the update. The estimate knows
    nothing of what the backend's convolutions take for themselves; benchmarks/memory.py holds it against what
    processes really took.

    Args:
        model: flat functional model.
        layers: of it that the stage runs and goes back through.
        learning: weights that may change.
        optimizer: its name.
        held: bytes that stay in memory besides, such as decoded images.
        averaged: whether it keeps an average of every weight.
    """
    graph, chosen = calls(model), {id(layer): layer for layer in layers}
    weights = sum(int(np.prod(weight.shape)) for layer in chosen.values() for weight in layer.weights)
    readers: dict[int, list[object]] = {}
    for call in graph:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call.operation)
    kept = largest = 0
    for call in graph:
        if id(call.operation) in chosen:
            size = sum(int(np.prod(output.shape[1:])) for output in call.outputs)
            largest = max(largest, size)
            kept += size * _kept(
                call.operation, [reader for out in call.outputs for reader in readers.get(id(out), [])]
            )
    fixed = FLOAT * (weights + (3 + SLOTS[optimizer] + averaged) * learning) + held + PROCESS_BYTES
    return Memory(fixed=fixed, per_image=FLOAT * (kept + largest))


def _kept(layer: keras.layers.Layer, readers: list[object]) -> bool:
    """Whether a layer's output is still there when gradients are computed."""
    if isinstance(layer, _IN_PLACE):
        return False
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if isinstance(layer, keras.layers.Activation):
        return activation not in ("relu", "relu6", "linear")
    passed_on = bool(readers) and all(isinstance(reader, _PASSING) for reader in readers)
    return not (passed_on and isinstance(layer, _LINEAR))


def room() -> tuple[int | None, str]:
    """Bytes that training may take here, None where nobody says, and whose they are."""
    return (_gpu_memory(), "the GPU") if gpus() else (available_memory(), "this machine")


def _gpu_memory() -> int | None:
    """Bytes of the smallest GPU: what JAX may take of it, or all of it as its driver says."""
    if keras.backend.backend() == "jax":
        import jax

        limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
        return min((limit for limit in limits if limit), default=None)
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return min((int(number) * 2**20 for number in found if number.isdigit()), default=None)


def parts_that_fit(memory: Memory, rows: int, parts: int, most: int | None) -> int:
    """`parts`, doubled until an update of `rows` images fits into `most` bytes or has parts of one image."""
    while most is not None and parts < rows and memory.total(-(-rows // parts)) > most:
        parts *= 2
    return min(parts, rows)


def ran_out(error: BaseException) -> bool:
    """Whether an error of any backend, or of reading for it, says that memory ran out."""
    return isinstance(error, MemoryError) or any(
        message in text for text in (type(error).__name__, str(error)) for message in _MESSAGES
    )
