"""The process: seeds, hardware, compilation. Importing it starts the backend, quietly."""

import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.machine import usable_cores
from tlkit.base.machine import versions as versions
from tlkit.base.process import lean_imports, native_stderr_silenced, settle_backend

settle_backend()
with native_stderr_silenced(), lean_imports():
    import keras

    if keras.backend.backend() == "tensorflow":
        keras.distribution.list_devices()  # TensorFlow logs on the first query of devices

# TensorFlow warns when several models are traced; here each stage is a model of its own.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and the backend; on one machine the same seed gives the same metrics."""
    keras.utils.set_random_seed(seed)


def gpus() -> list[str]:
    """Names of the accelerators that the backend sees; empty on a plain CPU."""
    if keras.backend.backend() == "torch":  # whose devices Keras does not list
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [device for device in keras.distribution.list_devices() if not device.lower().startswith("cpu")]


def hardware() -> dict[str, Any]:
    """Processor, cores, accelerators and backend, for the record of a run."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": usable_cores(),
        "accelerators": gpus(),
        "backend": keras.backend.backend(),
    }


def jit() -> bool | str:
    """The value of `jit_compile`: Keras's choice, except with TensorFlow on a CPU.

    There XLA is slower: a training step of MobileNetV2's last blocks takes four times as
    long with it (benchmarks/training_step.py).
    """
    return False if keras.backend.backend() == "tensorflow" and not gpus() else "auto"


@contextmanager
def optimised_once() -> Iterator[None]:
    """Within this context, TensorFlow on a CPU optimises graphs in one round, `for_processors`.

    Its second round, half of the time of optimising, finds hardly anything in a training step. The setting is not part of
    TensorFlow's stable API; where it is gone, graphs are optimised as usual.
    """
    if keras.backend.backend() != "tensorflow" or jit():
        yield
        return
    try:
        from tensorflow.python.eager.context import context

        eager = context()
        before = eager.function_call_options
        once = _in_one_round(before.config_proto_serialized)
    except (ImportError, AttributeError):
        yield
        return
    eager.function_call_options = once
    try:
        yield
    finally:
        eager.function_call_options = before


@cache
def _in_one_round(config: bytes) -> Any:
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.python.eager.context import FunctionCallOptions

    changed = ConfigProto.FromString(config)
    for_processors(changed)
    rewriting = changed.graph_options.rewrite_options
    rewriting.meta_optimizer_iterations = rewriting.ONE
    return FunctionCallOptions(config_proto=changed)


def for_processors(config: Any) -> None:
    """Switch off in a `ConfigProto` the optimisations that only apply to other devices."""
    rewriting = config.graph_options.rewrite_options
    rewriting.layout_optimizer = rewriting.loop_optimization = rewriting.OFF
    rewriting.memory_optimization = rewriting.NO_MEM_OPT


# -- Many variables at once: with TensorFlow by the bare operations, in a fifth of the time that Keras takes for each ---


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Contiguous copies of their values."""
    if keras.backend.backend() != "tensorflow":
        return [np.array(keras.ops.convert_to_numpy(variable.value), order="C") for variable in variables]
    import tensorflow as tf

    read = tf.raw_ops.ReadVariableOp
    return [np.asarray(read(resource=one.value.handle, dtype=one.value.dtype).numpy(), order="C") for one in variables]


def assign_all(variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
    """Assign arrays to variables, all or none.

    Raises:
        ValueError: an array has another shape.
    """
    for variable, values in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != values.shape:
            raise ValueError(f"{variable.path} has the shape {tuple(variable.shape)}, but the array {values.shape}")
    if keras.backend.backend() != "tensorflow":
        for variable, values in zip(variables, arrays, strict=True):
            variable.assign(values)
        return
    import tensorflow as tf

    for variable, values in zip(variables, arrays, strict=True):
        given = tf.constant(values, variable.value.dtype)
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=given)


UNTRACED = 4096  # inputs


def forward(model: keras.Model, count: int) -> Callable[[Any], Any]:
    """The model for `count` inputs in all: array in, tensor or array out.

    With TensorFlow a head computes a small number of inputs eagerly: tracing an unrolled gated recurrent layer takes a second,
    as long as hundreds of clips.
    """
    few = keras.backend.backend() == "tensorflow" and len(model.input_shape) <= 3 and count <= UNTRACED
    if few:
        return partial(model, training=False)
    if not model.compiled and not jit():
        model.jit_compile = False  # Keras would choose XLA
    return model.predict_on_batch


def command_line() -> str:
    """The command that started this process, as a user would type it."""
    import shlex
    from pathlib import Path

    program = Path(sys.argv[0]).name
    return shlex.join(["tlkit" if program == "__main__.py" else program, *sys.argv[1:]])  # python -m tlkit


# -- Training on several devices of one machine: the weights are on each, the rows of every batch are divided among them.
#
# This is data parallelism by `keras.distribution.DataParallel`, on the JAX backend only. The step is compiled once for all
# devices and computes the mean over the whole batch, so that clipping by the global norm, dropout and averages of weights are
# those of one device. The number of rows must be a multiple of the devices; the maker of batches pads them (`Sharing.up`),
# and gives the padding no weight.
#
# How many devices hold a model is read from its weights, never from a setting: Keras keeps the distribution for each thread,
# and forgets it in `clear_session`.

ROWS = "batch"  # axis of the mesh along which rows lie


class Sharing(NamedTuple):
    """The distribution of the rows of a batch over the devices that hold a model.

    Args:
        devices: how many.
        layout: JAX's sharding of a batch by its first axis, None with one device.
    """

    devices: int = 1
    layout: Any = None

    def up(self, rows: int) -> int:
        """The smallest multiple of the number of devices that is not below `rows`."""
        return -(-rows // self.devices) * self.devices

    def put(self, batch: np.ndarray) -> Any:
        """A batch with each share of its rows on its device; unchanged where there is one device."""
        if self.layout is None:
            return batch
        import jax

        return jax.device_put(batch, self.layout)

    def steps(self, batches: np.ndarray) -> Any:
        """The batches of several steps, (steps, rows, ...), on the devices, to be used one after the other."""
        import jax

        return jax.numpy.asarray(batches) if self.layout is None else [self.put(batch) for batch in batches]

    def replicated(self) -> Any:
        """JAX's sharding for values that are the same on every device, None with one device."""
        if self.layout is None:
            return None
        import jax

        return jax.sharding.NamedSharding(self.layout.mesh, jax.sharding.PartitionSpec())


def sharing(model: keras.Model) -> Sharing:
    """The distribution of the batches of a model, from where its weights are."""
    if keras.backend.backend() != "jax" or not model.variables:
        return Sharing()
    import jax

    held = sorted(model.variables[0].value.devices(), key=lambda device: device.id)
    if len(held) == 1:
        return Sharing()
    mesh = jax.sharding.Mesh(np.array(held), (ROWS,))
    return Sharing(len(held), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(ROWS)))


@contextmanager
def shared(asked: str | None) -> Iterator[None]:
    """Within this context, models that this thread builds have their weights on every device asked for.

    Args:
        asked: `--devices`: a number, `all`, or None for one.

    Raises:
        TlkitError: more than there are, or more than one on a backend or in a setting that cannot.
    """
    names = [] if asked is None else chosen(asked)
    if len(names) < 2:
        yield
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def chosen(asked: str) -> list[str]:
    """Names of the devices: accelerators where there are any, else CPUs.

    Raises:
        TlkitError: as `shared`.
    """
    names = keras.distribution.list_devices() if keras.backend.backend() != "torch" else _of_torch()
    count = len(names) if asked == "all" else int(asked)
    if count > len(names):
        there = f"{len(names)} device{'s' * (len(names) != 1)}: {', '.join(names)}"
        raise TlkitError(
            f"--devices {asked}: {keras.backend.backend()} sees {there}.", f"use --devices {len(names)}, or all."
        )
    if count > 1:
        _refuse_others(asked)
    return names[:count]


def _of_torch() -> list[str]:
    return gpus() or ["cpu"]


def _refuse_others(asked: str) -> None:
    """Raise where several devices would not give the same results as one."""
    backend, workers = keras.backend.backend(), _workers()
    if backend == "tensorflow" and workers > 1:
        raise TlkitError(
            f"--devices {asked}: TF_CONFIG names {workers} workers, and fit of tf.distribute.MultiWorkerMirroredStrategy "
            f"raises under Keras {keras.__version__}.",
            "train on one machine with KERAS_BACKEND=jax, and divide the extraction of features among machines: --shard.",
        )
    if backend != "jax":
        raise TlkitError(
            f"--devices {asked} needs the JAX backend, but {backend} computes: tf.distribute.MirroredStrategy silently clips gradients "
            "for each device and drops other units than one device does.",
            'set KERAS_BACKEND=jax (pip install jax, or "jax[cuda13]"), or use --devices 1.',
        )
    import jax

    if jax.process_count() > 1:
        raise TlkitError(
            f"--devices {asked}: this is one of {jax.process_count()} processes of jax.distributed, but tlkit trains in one.",
            "start tlkit by itself, on one machine.",
        )


def _workers() -> int:
    """How many workers TF_CONFIG names, which tf.distribute reads; 0 without it, or where it cannot be read."""
    try:
        return len(json.loads(os.environ.get("TF_CONFIG", "{}"))["cluster"]["worker"])
    except (ValueError, KeyError, TypeError):
        return 0


def refuse_unshared(model: keras.Model, asked: str | None) -> None:
    """Raise for a model that is not on the devices asked for, because it was built outside `shared`.

    Raises:
        TlkitError: it would silently train on fewer or on others.
    """
    wanted, held = 1 if asked is None else len(chosen(asked)), sharing(model).devices
    if held != wanted:
        raise TlkitError(
            f"--devices {asked or 1}: the network was built for {held} device{'s' * (held != 1)}, not for {wanted}.",
            "build and train it inside `with tlkit.backbones.runtime.shared(options.devices):`.",
        )
