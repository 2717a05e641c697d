"""Folding BatchNorm while a network learns: the same outputs, the same gradients."""

import keras
import numpy as np
import pytest

from tlkit.backbones import folding
from tlkit.backbones.arithmetic import convolve, normed
from tlkit.backbones.build import build_backbone
from tlkit.backbones.folding import learning_forward, pairs
from tlkit.backbones.graph import calls
from tlkit.extraction.keras_jit import computing_in
from tlkit.options.groups import TrainingOptions
from tlkit.training.optimizer import Updates, unfreeze_and_compile

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by TensorFlow's tape")


def settled(model):
    """Statistics and scales as training leaves them: nothing is zero or one."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shapes = [weight.shape for weight in layer.weights]
            layer.set_weights([random.uniform(0.5, 1.5, shape) for shape in shapes])
    return model


def classified(grid):
    pooled = keras.layers.GlobalAveragePooling2D()(grid)
    return keras.layers.Dense(3, name="logits")(keras.layers.Dropout(0.5, seed=3)(pooled))


def compared(model, inputs):
    """(logits, gradients) of Keras's own forward pass and of the folded one, dropout drawing the same."""
    found = []
    targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    for forward in (lambda values: model(values, training=True), learning_forward(model)):
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.seed_generator.state.assign(np.array([5, 0], layer.seed_generator.state.dtype))
        with tf.GradientTape() as tape:
            logits = forward(tf.constant(inputs))
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(targets, logits, from_logits=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        found.append((logits.numpy(), [gradient.numpy() for gradient in gradients if gradient is not None]))
    return found


def assert_same(model, inputs):
    (logits, gradients), (folded, of_the_folded) = compared(model, inputs)
    np.testing.assert_allclose(folded, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    assert len(gradients) == len(of_the_folded) > 2
    rounding = 1e-6 * max(map(np.linalg.norm, gradients))  # the gradient of the keys' bias is only rounding
    for one, other in zip(of_the_folded, gradients, strict=True):
        assert np.linalg.norm(one - other) < 1e-4 * np.linalg.norm(other) + rounding


@pytest.mark.parametrize("name", ["mobilenetv2:alpha=0.35", "resnet50"])
def test_blocks_that_learn_have_the_outputs_and_the_gradients_of_keras(name):
    backbone = build_backbone(name, weights="none", image_size=64, seed=1)
    model = keras.Model(settled(backbone.model).input, classified(backbone.model.output))
    unfreeze_and_compile(model, TrainingOptions(), blocks=backbone.blocks, learn=4, updates=Updates(1e-3, 1))
    assert_same(model, np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8))


def small(**options):
    """Convolutions of every kind that can be folded, each with its BatchNorm."""
    kinds = keras.layers
    tensor = images = keras.Input((8, 8, 4))
    layers = [
        kinds.Conv2D(6, 1, **options),
        kinds.Conv2D(6, 1, strides=2, **options),
        kinds.Conv2D(6, 1, groups=2, **options),
        kinds.Conv2D(6, 3, padding="same", **options),
        kinds.DepthwiseConv2D(3, padding="same", depth_multiplier=2, **options),
        kinds.SeparableConv2D(6, 3, padding="same", **options),
    ]
    for layer in layers:
        tensor = kinds.ReLU()(kinds.BatchNormalization()(layer(tensor)))
    return settled(keras.Model(images, classified(tensor)))


@pytest.mark.parametrize("use_bias", [False, True])
def test_every_kind_of_convolution_is_folded_with_its_bias(use_bias):
    model = small(use_bias=use_bias)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    assert len(pairs(calls(model), {id(model.outputs[0])})) == 6
    assert_same(model, np.random.default_rng(1).normal(size=(4, 8, 8, 4)).astype(np.float32))


def test_a_norm_that_learns_is_computed_as_it_is():
    model = small()
    inputs = np.random.default_rng(1).normal(size=(4, 8, 8, 4)).astype(np.float32)
    before = [np.array(weight) for weight in model.non_trainable_weights]
    learning_forward(model)(tf.constant(inputs))
    moved = [not np.array_equal(old, weight) for old, weight in zip(before, model.non_trainable_weights, strict=True)]
    assert any(moved)  # it uses the statistics of the batch, and updates its own


# -- Layer normalisation, its scale and offset in the products that read it ---


def tokens(kind):
    """A block of a vision transformer, and layers that read their norm in a way that prevents splitting it."""
    layers, start = keras.layers, keras.Input((6, 8))
    inner = layers.LayerNormalization(epsilon=1e-3, name="first")(start)
    inner = layers.Add()([start, layers.MultiHeadAttention(2, 4)(inner, inner)])
    if kind == "odd":
        for made in (
            lambda norm: layers.Add()([norm, layers.Dense(8)(norm)]),  # also read by a layer that is not a product
            lambda norm: layers.MultiHeadAttention(2, 4)(norm, norm, norm),
            lambda norm: layers.MultiHeadAttention(2, 4)(norm, norm, use_causal_mask=True),
            lambda norm: layers.MultiHeadAttention(2, 4)(norm, start),
        ):
            inner = made(layers.LayerNormalization()(inner))
        inner = layers.Dense(8)(layers.LayerNormalization(axis=1)(inner))
        inner = layers.Dense(8)(layers.LayerNormalization(scale=False)(inner))
    normed = layers.LayerNormalization(name="second")(inner)
    gate, hidden = layers.Dense(8, use_bias=False)(normed), layers.Dense(8, activation="gelu")(normed)
    return keras.Model(start, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Multiply()([gate, hidden]))))


@pytest.mark.parametrize("kind", ["plain", "odd"])
def test_a_layer_norm_that_products_read_has_their_outputs_and_gradients(kind, monkeypatch):
    keras.utils.set_random_seed(2)
    model, random = tokens(kind), np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape).astype("float32"))
    split = []
    monkeypatch.setattr(folding, "normed", lambda layer, tensor: split.append(layer.name) or normed(layer, tensor))
    assert_same(model, random.normal(size=(4, 6, 8)).astype(np.float32))
    assert split == ["first", "second"]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (1, 3), (7, 1), (5, 3)])
@pytest.mark.parametrize("sides", [(7, 7), (8, 8), (9, 14)])
def test_a_kernel_s_gradient_by_products_is_tensorflow_s_own(sides, size, strides, padding):
    random = np.random.default_rng(0)
    values, kernel = (tf.constant(random.normal(size=shape), tf.float32) for shape in ((2, *sides, 3), (*size, 3, 4)))
    found = []
    for convolution in (convolve, lambda given, by, steps, pad: tf.nn.conv2d(given, by, steps, pad.upper())):
        with tf.GradientTape() as tape:
            tape.watch([values, kernel])
            made = convolution(values, kernel, strides, padding)
            loss = tf.reduce_sum(made * np.cos(np.arange(made.numpy().size, dtype=np.float32)).reshape(made.shape))
        found.append([made, *tape.gradient(loss, [values, kernel])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "precision", "native"), [(8, "bfloat16", 0), (9, "bfloat16", 1), (8, "float32", 1)])
def test_small_grids_in_bfloat16_alone_have_kernel_gradients_by_products(side, precision, native):
    inputs = keras.Input((side, side, 4))
    tensor = keras.layers.Conv2D(6, 3, padding="same")(inputs)
    model = settled(keras.Model(inputs, classified(keras.layers.BatchNormalization()(tensor))))
    model.layers[2].trainable = False
    forward = learning_forward(model)

    @tf.function(autograph=False)
    def gradients(values):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(forward(values))
        return tape.gradient(loss, model.trainable_variables)

    with computing_in(model, precision):
        graph = gradients.get_concrete_function(tf.TensorSpec((4, side, side, 4))).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("Conv2DBackpropFilter") == native


LAYERS = {
    "convolution": (keras.layers.Conv2D, {"filters": 6, "kernel_size": 3}),
    "pointwise": (keras.layers.Conv2D, {"filters": 6, "kernel_size": 1}),
    "depthwise": (keras.layers.DepthwiseConv2D, {"kernel_size": 3}),
    "separable": (keras.layers.SeparableConv2D, {"filters": 6, "kernel_size": 3}),
    "transpose": (keras.layers.Conv2DTranspose, {"filters": 6, "kernel_size": 3}),
    "dense": (keras.layers.Dense, {"units": 6}),
}


@pytest.mark.parametrize("side", [8, 24])
@pytest.mark.parametrize("after", ["linear", "relu", "norm"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_bias_has_its_gradient_in_bfloat16_too(kind, after, side):
    """TensorFlow 2.21 sums the gradient of `bias_add` in bfloat16: the sum stops at 256 times its terms."""
    keras.utils.set_random_seed(0)
    build, options = LAYERS[kind]
    inputs = keras.Input((side, side, 4))
    layer = build(**options, activation=None if after == "norm" else after)
    made = layer(inputs)
    if after == "norm":
        made = keras.layers.BatchNormalization(trainable=False)(made)
    model, found = settled(keras.Model(inputs, made)), []
    values = np.random.default_rng(1).normal(size=(16, side, side, 4)).astype(np.float32)
    for precision in ("float32", "bfloat16"):
        with computing_in(model, precision), tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(learning_forward(model)(values), tf.float32))
        found.append(tape.gradient(loss, layer.bias.value).numpy())
    assert np.abs(found[0]).min() > 256
    np.testing.assert_allclose(found[1], found[0], rtol=0.03)
