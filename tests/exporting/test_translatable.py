import keras
import numpy as np
import pytest

from tlkit.exporting.writers import translatable


def network(*layers):
    images = keras.Input((8, 8, 6))
    tensor = images
    for layer in layers:
        tensor = layer(tensor)
    return keras.Model(images, tensor)


def pixels():
    return np.random.default_rng(0).normal(0, 2, (5, 8, 8, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (keras.layers.Conv2D(4, 3, activation="gelu"), keras.layers.Activation("gelu")),
        lambda: (keras.layers.Conv2D(6, 3, groups=6, padding="same", bias_initializer="normal"),),
        lambda: (keras.layers.Conv2D(18, 3, groups=6, strides=2, use_bias=False, activation="gelu"),),
        lambda: (keras.layers.Conv2D(6, 3, groups=6, dilation_rate=2), keras.layers.BatchNormalization()),
        lambda: (keras.layers.Normalization(mean=[1, 2, 3, 4, 5, 6], variance=[1, 4, 9, 1, 4, 9]),),
    ],
    ids=["gelu", "depthwise", "three filters a channel", "dilated", "normalization"],
)
def test_the_same_numbers_from_other_layers(layers):
    keras.utils.set_random_seed(0)
    model = network(*layers())
    rewritten = translatable(model)
    assert rewritten is not model
    assert not any(getattr(layer, "groups", 1) > 1 for layer in rewritten.layers)
    np.testing.assert_allclose(rewritten(pixels()), model(pixels()), atol=2e-5)


def test_what_every_runtime_has_stays_as_it_is():
    for layer in (
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.DepthwiseConv2D(3),
        keras.layers.Activation(lambda values: keras.activations.gelu(values, approximate=True)),
        keras.layers.Conv2D(6, 3, groups=3),
    ):
        model = network(layer)
        assert translatable(model) is model
