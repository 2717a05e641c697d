import keras
import numpy as np
import pytest

from tlkit.extraction.engine import build_engine
from tlkit.extraction.frozen import folded


def lively(model):
    """Every weight at random, so that no scale is one and no mean zero."""
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1.2, weight.shape) for weight in model.weights])
    return model


def network(convolution, **norm):
    """The convolution and its BatchNorm, and the same again where the convolution is read twice."""
    images = keras.Input((9, 9, 4))
    tensor = keras.layers.BatchNormalization(**norm)(convolution(images))
    shared = keras.layers.Conv2D(4, 1, name="read_twice")(tensor)
    tensor = keras.layers.Add()([shared, keras.layers.BatchNormalization(name="kept")(shared)])
    return lively(keras.Model(images, tensor))


@pytest.mark.parametrize(
    "convolution",
    [
        keras.layers.Conv2D(6, 3, strides=2, padding="same"),
        keras.layers.Conv2D(6, 3, use_bias=False, groups=2),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
        keras.layers.SeparableConv2D(6, 3, depth_multiplier=2),
    ],
    ids=lambda layer: layer.name,
)
@pytest.mark.parametrize("norm", [{}, {"scale": False, "center": False}], ids=["scaled", "plain"])
def test_a_folded_network_computes_the_same_without_the_norm(convolution, norm, monkeypatch):
    model = network(type(convolution).from_config(convolution.get_config()), **norm)
    inputs = np.random.default_rng(1).normal(size=(2, 9, 9, 4)).astype(np.float32)
    wanted = np.asarray(model(inputs))
    used = []
    real = keras.layers.BatchNormalization.call
    monkeypatch.setattr(
        keras.layers.BatchNormalization,
        "call",
        lambda layer, *args, **kwargs: used.append(layer.name) or real(layer, *args, **kwargs),
    )
    [found] = folded(model)(inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert used == ["kept"]


def test_a_convolution_with_an_activation_of_its_own_keeps_its_norm():
    images = keras.Input((5, 5, 2))
    tensor = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3, activation="relu")(images))
    model = lively(keras.Model(images, tensor))
    inputs = np.random.default_rng(1).normal(size=(2, 5, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(folded(model)(inputs)[0], np.asarray(model(inputs)), rtol=1e-5, atol=1e-5)


def test_layers_that_behave_otherwise_in_training_are_in_inference_mode():
    images = keras.Input((4, 4, 2))
    model = lively(keras.Model(images, keras.layers.Dropout(0.9)(keras.layers.BatchNormalization()(images))))
    inputs = np.random.default_rng(1).normal(size=(3, 4, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(build_engine(model).run(inputs)[0], np.asarray(model(inputs)), atol=1e-5)
