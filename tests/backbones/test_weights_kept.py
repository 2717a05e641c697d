"""Predictions interrupted on JAX leave the weights in place, unlike Keras's own predict."""

import importlib.util
import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
import tlkit
import keras
from tlkit.extraction.engine import build_engine
from tlkit.training.fit import predict

assert keras.backend.backend() == "jax"


class Interrupted(keras.callbacks.Callback):
    def stop(self, batch, logs=None):
        raise KeyboardInterrupt

    on_predict_batch_end = on_test_batch_end = stop


model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(3, 3), keras.layers.GlobalAveragePooling2D()])
model.compile(loss="mse")
images = np.random.default_rng(0).random((64, 4, 4, 3), np.float32)
before = model.get_weights()


def lost():
    return any(variable._value is None for variable in model.variables)


def same():
    return not lost() and all((one == other).all() for one, other in zip(before, model.get_weights(), strict=True))


def interrupted(work):
    try:
        work()
    except KeyboardInterrupt:
        return True
    return False


asked = {"batch_size": 16, "verbose": 0, "callbacks": [Interrupted()]}
# tlkit's own ways: the engine of features, predictions and the server, and the measuring of a stage
engine = build_engine(model)
answers = engine.run(images)[0]


def stops():
    for start in range(0, 64, 16):
        if start == 32:
            raise KeyboardInterrupt
        yield images[start : start + 16]


assert interrupted(lambda: list(engine.ahead(stops(), lambda batch: batch))) and same()
np.testing.assert_array_equal(engine.run(images)[0], answers)


def read(positions, epoch):
    if positions[0] >= 32:
        raise KeyboardInterrupt
    return images[positions]


assert interrupted(lambda: predict(model, read, 64, 16)) and same()
np.testing.assert_allclose(predict(model, lambda positions, epoch: images[positions], 64, 16), answers, atol=1e-6)

# which is why they do not call Keras's predict: on JAX it takes the weights out and forgets them when it is interrupted
assert interrupted(lambda: model.predict(images, **asked)) and lost(), "Keras keeps the weights by now"
model.jax_state_sync()
assert same()
print("kept")
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="jax is not installed")
def test_an_interrupted_answer_leaves_the_weights():
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "kept" in done.stdout, done.stderr[-2000:]
