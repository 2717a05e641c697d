"""What a stage costs, estimated before it starts: operations from the graph, seconds from this machine."""

import time
from collections.abc import Iterable

import keras
import numpy as np

from tlkit.runtime import jit

# A training step computes the outputs once and two gradients of about the same cost each.
TRAINING_PASSES = 3.0
# Depthwise convolutions move more bytes than they multiply numbers; they run at about this fraction of the rate.
DEPTHWISE_RATE = 0.15


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
    model.predict_on_batch(images)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        model.predict_on_batch(images)
        times.append(time.perf_counter() - started)
    return min(times) / (len(images) * operations([layer]))


def parameters(layers: Iterable[keras.layers.Layer]) -> int:
    """Weights of these layers, moving statistics included."""
    return sum(int(np.prod(weight.shape)) for layer in layers for weight in layer.weights)
