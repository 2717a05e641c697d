"""What the parts of a network cost here: estimated from operations in no time, or measured on a batch of noise."""

import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
import numpy as np

from tlkit.core.cache_dir import cache_dir
from tlkit.inference import build_engine
from tlkit.runtime import jit

# A training step computes the outputs once and two gradients of about the same cost each.
TRAINING_PASSES = 3.0
# Depthwise convolutions move more bytes than they multiply numbers; they run at about this fraction of the rate.
DEPTHWISE_RATE = 0.15
DISK = 1 / (200 * 2**20)  # seconds a byte, where it is not measured
NOISE_IMAGES = 8
STEP_PASSES = 0.5  # seconds of forward passes whose images make the batch of a timed step
DISK_SAMPLE = 32 * 2**20


@dataclass(frozen=True)
class Pace:
    """Seconds for each image, or for what else is said.

    Args:
        forward: through the backbone.
        prefix: through the backbone up to the cut, 0 without one.
        step: a training step of what comes after the cut, 0 without one.
        operation: each multiply-add of a forward pass.
        disk: each byte written to or read from the store's disk.
        measured: whether these were timed on this network, and not only estimated from its operations.
    """

    forward: float
    prefix: float
    step: float
    operation: float
    disk: float
    measured: bool


def operations(layers: Iterable[keras.layers.Layer]) -> float:
    """Multiply-adds of one forward pass of one image, weighted by how fast their kind runs.

    Counts layers with a kernel, which is where the time of a convolutional network goes.
    """
    total = 0.0
    for layer in layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            kernel = getattr(layer, "depthwise_kernel", None)
        if kernel is None:
            continue
        positions = np.prod(layer.output.shape[1:-1], dtype=float)
        rate = DEPTHWISE_RATE if isinstance(layer, keras.layers.DepthwiseConv2D) else 1.0
        total += positions * np.prod(kernel.shape, dtype=float) / rate
    return float(total)


def seconds_per_operation() -> float:
    """Seconds per multiply-add of a convolution here, timed on a small one (a tenth of a second or so)."""
    images = np.random.default_rng(0).random((8, 28, 28, 128), dtype=np.float32)
    layer = keras.layers.Conv2D(128, 3, padding="same")
    model = keras.Sequential([keras.Input(images.shape[1:]), layer])
    model.compile(jit_compile=jit())
    return fastest(lambda: model.predict_on_batch(images)) / (len(images) * operations([layer]))


def fastest(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of a few runs, after one that is not timed."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def measure_forward(model: keras.Model) -> float:
    """Seconds for each image through the engine that extraction would use, on a batch of noise."""
    engine, noise = build_engine(model), _noise(model)
    return fastest(lambda: engine.run(noise), repeats=2) / len(noise)


def measure_step(model: keras.Model, prepare: Callable[[keras.Model], None], batch: int, forward: float) -> float:
    """Seconds for each image of a training step, on a batch of noise and on copies of the layers.

    An image of a small batch takes longer: twice as long in the last blocks of MobileNetV2-0.35 with 8 instead of 32.
    Where the network is slow the difference is small, and so is the batch, for measuring must not take minutes.

    Args:
        model: that will train; left as it is.
        prepare: compiles the copy as the stage will be compiled.
        batch: images of an update, and of the batch of noise at most.
        forward: seconds for each image of a pass through the whole network.
    """
    copy = keras.models.clone_model(model)
    prepare(copy)
    noise = _noise(copy, min(batch, max(NOISE_IMAGES, int(STEP_PASSES / forward))))
    labels = np.eye(copy.output_shape[-1], dtype=np.float32)[np.zeros(len(noise), int)]
    return fastest(lambda: copy.train_on_batch(noise, labels), repeats=2) / len(noise)


def _noise(model: keras.Model, images: int = NOISE_IMAGES) -> np.ndarray:
    return np.random.default_rng(0).random((images, *model.input_shape[1:]), dtype=np.float32)


def measure_disk() -> float:
    """Seconds for each byte that goes to the disk of the store, all the way (a second or less)."""
    folder = cache_dir()[0]
    folder.mkdir(parents=True, exist_ok=True)
    path, block = folder / f".speed-{secrets.token_hex(4)}", os.urandom(DISK_SAMPLE)
    started = time.perf_counter()
    try:
        with path.open("wb") as file:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return (time.perf_counter() - started) / DISK_SAMPLE


def parameters(layers: Iterable[keras.layers.Layer]) -> int:
    """Weights of these layers, moving statistics included."""
    return sum(int(np.prod(weight.shape)) for layer in layers for weight in layer.weights)
