"""Forward passes between training steps equal those of Keras, with the current weights."""

import keras
import numpy as np
import pytest

from tlkit.training import passes
from tlkit.training.passes import compiled, predict

INPUTS = np.random.default_rng(0).normal(size=(161, 8, 8, 3)).astype(np.float32)


def network(*, learns=False):
    """A convolution, a depthwise one and one of a single pixel, each with BatchNorm, and dropout; a head of two classes."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    made = inputs = keras.Input((8, 8, 3))
    for layer in (layers.Conv2D(6, 3, strides=2), layers.DepthwiseConv2D(3), layers.Conv2D(7, 1, use_bias=False)):
        norm = layers.BatchNormalization()
        made = layers.ReLU()(norm(layer(made)))
        norm.set_weights([np.random.default_rng(1).uniform(0.5, 1.5, each.shape) for each in norm.get_weights()])
        norm.trainable = learns
    made = layers.Dense(2)(layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(made)))
    return keras.Model(inputs, made)


@pytest.mark.parametrize("learns", [False, True])
def test_a_compiled_pass_is_that_of_keras_and_follows_the_weights(learns):
    model = network(learns=learns)
    call = compiled(model, len(INPUTS))
    read, sizes = (lambda rows, epoch: (sizes.append(len(rows)), INPUTS[rows])[1]), []
    for _ in range(2):
        expected = model.predict(INPUTS, verbose=0)
        found = predict(model, read, len(INPUTS), call=call)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        model.set_weights([each * 1.25 if each.ndim > 1 else each for each in model.get_weights()])
    assert sizes == [54, 54, 53] * 2  # rather than 64, 64 and 33 padded to 64
    np.testing.assert_array_equal(predict(model, read, 5, 2), predict(model, read, 161, 2)[:5])


def test_features_are_read_in_few_batches_and_what_is_said_of_them_is_the_same():
    features = np.random.default_rng(2).normal(size=(600, 4, 8)).astype(np.float32)
    inputs = keras.Input((4, 8))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(inputs)))
    read, sizes = (lambda rows, epoch: (sizes.append(len(rows)), features[rows])[1]), []
    found = predict(model, read, 600)
    np.testing.assert_allclose(found, predict(model, read, 600, 64), rtol=1e-5, atol=1e-6)
    assert sizes == [600, *[60] * 10]
    assert passes._at_once(keras.Sequential([keras.Input((32, 2048)), keras.layers.Flatten()])) == 64  # of 256 KB each
