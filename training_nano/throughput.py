"""Images per second of nano and of MobileNetV2 0.35, both as frozen float32 graphs on the CPU, turn by turn.

python -m training_nano.throughput --size 96 --size 112
"""

import argparse
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tlkit.backbones.applications import NATIVE_SIZE, build_nano

BATCH = 32
IMAGENET_SIZE = 224


def main() -> None:
    """Print the best and the median rate of each network over all rounds, and the ratios to MobileNetV2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="append", type=int, help="of nano, in pixels; its own by default")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    shape = (IMAGENET_SIZE, IMAGENET_SIZE, 3)
    networks = {"mobilenetv2_0.35": keras.applications.MobileNetV2(shape, alpha=0.35, include_top=False, weights=None)}
    for size in arguments.size or [NATIVE_SIZE[0]]:
        networks[f"nano_{size}"] = build_nano((size, size))
    rates = measure({name: freeze(network) for name, network in networks.items()}, arguments.rounds)
    best, median = rates.max(1), np.median(rates, 1)
    for index, name in enumerate(networks):
        print(f"{name}: best {best[index]:.0f} images/s ({best[index] / best[0]:.2f}x), ", end="")
        print(f"median {median[index]:.0f} ({median[index] / median[0]:.2f}x)")


def measure(functions: dict[str, Callable], rounds: int) -> np.ndarray:
    """Images per second `(networks, rounds)`; networks take turns, so that a busy machine disturbs all alike."""
    rates = np.zeros((len(functions), rounds))
    for turn in range(-2, rounds):
        for index, function in enumerate(functions.values()):
            images = tf.random.uniform((BATCH, *function.inputs[0].shape[1:]), maxval=255.0)
            start = time.perf_counter()
            for _ in range(5):
                function(images)
            if turn >= 0:
                rates[index, turn] = 5 * BATCH / (time.perf_counter() - start)
    return rates


def freeze(model: keras.Model) -> Callable:
    """The forward pass with variables folded to constants, which lets TensorFlow fuse BatchNorm and activations."""
    signature = tf.TensorSpec((BATCH, *model.input_shape[1:]), "float32")
    function = tf.function(lambda images: model(images, training=False))
    return convert_variables_to_constants_v2(function.get_concrete_function(signature))


if __name__ == "__main__":
    main()
