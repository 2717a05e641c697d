#!/usr/bin/env bash
# What: under mixed_bfloat16 on a processor many biases get a fraction of their gradient, the smaller the larger batch and image are. With
#   the TensorFlow backend those of depthwise convolutions and of dense layers on tokens: after steps that take a bias to 1 it is at 0.20
#   on grids of 28 by 28, at 0.03 on 112 by 112. With JAX those of convolutions, and whatever else is added to a grid: 0.21, 0.16.
#   Their gradient is summed in bfloat16, where ones come to 256 and stay there.
# Why it surprises: mixed precision is said to keep variables and their gradients in float32, and the sum of the same tensor by
#   tf.reduce_sum is right. Nothing warns, no number is infinite, weights have the right gradients, the loss falls. Which layers it
#   hits depends on the backend: ordinary convolutions are right with TensorFlow, dense layers with JAX, small images with both.
# Who is hurt: whoever trains in bfloat16 on processors that have it: vision transformers and EfficientNets with biases, U-Nets and
#   detectors on large grids; and whoever compares such a training with one on a GPU.
# Instead: no bias but a normalisation layer (checked below: its offset learns as it should), or float32 for the layers whose bias matters.
# Source: https://keras.io/api/mixed_precision/ and https://www.tensorflow.org/guide/mixed_precision ("variables ... in float32 for
#   numeric stability").
# Guessed beforehand: gradients that are rounded to three digits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 tensorflow-cpu==2.21.0 jax==0.10.2
cat > train.py <<'PY'
import keras, numpy as np

layers, backend = keras.layers, keras.backend.backend()
random = np.random.default_rng(0)


class Added(layers.Layer):
    def build(self, shape):
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros")

    def call(self, inputs):
        return inputs + self.bias


KINDS = {
    "convolution": lambda: layers.Conv2D(4, 1),
    "depthwise": lambda: layers.DepthwiseConv2D(1),
    "dense": lambda: layers.Dense(4),
    "added": Added,
    "norm": lambda: layers.BatchNormalization(scale=False),
}


def learned(kind, side, policy):
    """The mean bias after sixty steps towards images that are the same, but lighter by 1."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    shape = (side * side, 4) if kind == "dense" else (side, side, 4)
    inputs, layer = keras.Input(shape), KINDS[kind]()
    model = keras.Model(inputs, layers.Activation("linear", dtype="float32")(layer(inputs)))
    model.compile(keras.optimizers.SGD(0.33), "mse")
    images = random.normal(size=(32, *shape)).astype("float32")
    for _ in range(60):
        model.train_on_batch(images, images + 1)
    bias = layer.beta if kind == "norm" else layer.bias
    return float(keras.ops.convert_to_numpy(bias).mean())


print("Keras", keras.__version__, "on", backend)
wrong = set()
for kind in KINDS:
    found = {side: (learned(kind, side, "float32"), learned(kind, side, "mixed_bfloat16")) for side in (2, 28, 112)}
    text = "; ".join(f"{side:3} by {side:3} {exact:.3f}, {half:.3f}" for side, (exact, half) in found.items())
    print(f"  {kind:11} bias in float32, in bfloat16: {text}")
    assert all(abs(exact - 1) < 0.05 for exact, _ in found.values()) and abs(found[2][1] - 1) < 0.1
    if all(half < 0.5 for side, (_, half) in found.items() if side > 2):
        wrong.add(kind)
    else:
        assert all(abs(half - 1) < 0.1 for _, half in found.values())
expected = {"tensorflow": {"depthwise", "dense"}, "jax": {"convolution", "depthwise", "added"}}
assert wrong == expected[backend], wrong
if backend == "tensorflow":
    import tensorflow as tf

    print("TensorFlow", tf.__version__)
    for count in (100, 1568, 25088):
        ones = tf.ones((count, 1), tf.bfloat16)
        sums = [float(sum[0]) for sum in (tf.raw_ops.BiasAddGrad(out_backprop=ones), tf.reduce_sum(ones, 0))]
        print(f"  {count:6} ones: BiasAddGrad {sums[0]:.0f}, reduce_sum {sums[1]:.0f}")
    assert sums[0] < 1100 and abs(sums[1] - 25088) < 100
PY
export TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND
for KERAS_BACKEND in tensorflow jax; do
    venv/bin/python train.py 2> errors.txt || { cat errors.txt; exit 1; }
done
