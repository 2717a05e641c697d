"""The replacements for JAX in Keras's NumPy backend, checked against TensorFlow, and a process that uses them."""

import subprocess
import sys

import numpy as np
import pytest

from tlkit.backbones.numpy_backend import Dimensions, convolve, reduce_window

LAST = Dimensions((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("strides", "dilation", "groups", "kernel"),
    [
        ((1, 1), (1, 1), 1, (3, 3, 6, 8)),
        ((2, 2), (1, 1), 1, (7, 7, 6, 4)),
        ((2, 1), (1, 1), 1, (1, 3, 6, 4)),
        ((1, 1), (2, 3), 1, (3, 3, 6, 4)),
        ((1, 1), (1, 1), 3, (3, 3, 2, 9)),
        ((2, 2), (1, 1), 6, (3, 3, 1, 12)),
    ],
)
def test_a_convolution_is_tensorflows(strides, dilation, groups, kernel, padding):
    tf = pytest.importorskip("tensorflow")
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 17, 20, 6)).astype("float32")
    weights = random.normal(size=kernel).astype("float32")
    found = convolve(
        images,
        weights,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=LAST,
        feature_group_count=groups,
    )
    if groups == 6:
        deep = weights.reshape(3, 3, 6, 2)
        expected = tf.nn.depthwise_conv2d(images, deep, (1, *strides, 1), padding, dilations=dilation)
    else:
        parts = zip(np.split(images, groups, 3), np.split(weights, groups, 3), strict=True)
        expected = np.concatenate([tf.nn.conv2d(*part, strides, padding, dilations=dilation) for part in parts], 3)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("window", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 2), (1, 1))])
def test_a_window_is_tensorflows(window, strides, padding):
    tf = pytest.importorskip("tensorflow")
    images = np.random.default_rng(0).normal(size=(2, 9, 12, 4)).astype("float32")
    found = reduce_window(images, -np.inf, np.maximum, (1, *window, 1), (1, *strides, 1), padding)
    np.testing.assert_allclose(found, tf.nn.max_pool2d(images, window, strides, padding))
    sums = reduce_window(images, 0.0, np.add, (1, *window, 1), (1, *strides, 1), padding)
    counts = reduce_window(np.ones_like(images), 0.0, np.add, (1, *window, 1), (1, *strides, 1), padding)
    np.testing.assert_allclose(sums / counts, tf.nn.avg_pool2d(images, window, strides, padding), atol=1e-6)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(NotImplementedError):
        reduce_window(np.zeros((1, 4, 4)), 0.0, np.add, (1, 2, 1), (1, 2, 1), "SAME")


def test_keras_builds_and_computes_without_tensorflow_or_jax_and_jax_can_still_be_imported():
    program = """
import importlib.util, sys
from tlkit.backbones import numpy_backend
numpy_backend.start()
import keras, numpy as np
from tlkit.backbones.build import build_backbone
assert keras.layers.Dense(3).get_config() and keras.saving.serialize_keras_object(keras.layers.Dense(3))
grid = build_backbone("nano").model(np.full((1, 112, 112, 3), 99.0, "float32"), training=False)
assert grid.shape == (1, 4, 4, 512) and np.isfinite(grid).all()
found = [name for name in ("tensorflow", "torch", "jax", "keras.src.backend.jax") if name in sys.modules]
assert not found, found
if importlib.util.find_spec("jax"):
    import jax
    assert jax.numpy.ones(3).sum() == 3
try:
    numpy_backend.start()
except RuntimeError:
    print("refused the second time")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "refused the second time"
