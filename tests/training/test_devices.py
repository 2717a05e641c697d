"""Several devices compared with one: two virtual ones of JAX in a separate process, and what is refused in this one."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import pytest

from tlkit.backbones import runtime as devices
from tlkit.base.errors import TlkitError
from tlkit.options.groups import TrainingOptions

# 101 images in five batches of at most 21, which do not divide; benchmarks/devices.py has whole runs, in batches of 32.
PROGRAM = """
import json

import keras
import numpy as np

from tlkit.backbones.runtime import refuse_unshared, shared, sharing
from tlkit.base.errors import TlkitError
from tlkit.extraction.keras_jit import build
from tlkit.options.groups import TrainingOptions
from tlkit.training.examples import Examples
from tlkit.training.fit import build_epoch, predict
from tlkit.training.optimizer import Updates, unfreeze_and_compile

random = np.random.default_rng(3)
images = random.normal(0, 1, (101, 6, 6, 3)).astype(np.float32)
labels, weights = random.integers(0, 3, 101), random.uniform(0.5, 2, 101).astype(np.float32)


def read(positions, epoch):
    return images[positions]


def trained(asked, batch_size):
    keras.utils.clear_session()  # forgets the distribution
    with shared(asked):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((6, 6, 3))
        grid = keras.layers.Conv2D(5, 3, use_bias=False)(inputs)
        grid = keras.layers.ReLU()(keras.layers.BatchNormalization(trainable=False)(grid))
        pooled = keras.layers.Dropout(0.5, seed=3)(keras.layers.GlobalAveragePooling2D()(grid))
        model = keras.Model(inputs, keras.layers.Dense(3)(pooled))
        refuse_unshared(model, asked)
        held = sharing(model)
        options = {"labels": labels, "weights": weights, "classes": 3, "seed": 1, "devices": held.devices}
        examples = Examples(read=read, batch_size=batch_size, **options)
        updates = Updates(0.05, 2 * examples.updates)
        unfreeze_and_compile(model, TrainingOptions(ema=0.9), blocks=(), learn=0, updates=updates)
        epoch = build_epoch(model)
        scores = [epoch(examples, number) for number in range(2)]
        assert all(len(variable.value.devices()) == int(asked) for variable in (*model.variables, *model.optimizer.variables))
    assert keras.distribution.distribution() is None
    engine = build(model, "float32")
    answers = [predict(model, read, count) for count in (101, 1)]
    features = [engine(images[:count])()[0] for count in (7, 1)]
    weights_now = [np.asarray(weight).ravel() for weight in model.weights]
    return {
        "part": examples.part_size,
        "scores": scores,
        "numbers": np.concatenate([*weights_now, *(part.ravel() for part in (*answers, *features))]).tolist(),
    }


found = [trained(asked, 21) for asked in ("1", "2")]
errors = []
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
for asked, refused in (("3", lambda: shared("3").__enter__()), ("2", lambda: refuse_unshared(model, "2"))):
    try:
        refused()
    except TlkitError as error:
        errors.append(error.message)
print(json.dumps({"found": found, "errors": errors}))
"""


@pytest.fixture(scope="module")
def told():
    """What the program printed."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed: pip install 'tlkit[jax]'")
    two = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | two, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_devices_train_as_one_does(told):
    one, two = told["found"]
    assert (one["part"], two["part"]) == (21, 22)
    for (loss, accuracy), (other, right) in zip(one["scores"], two["scores"], strict=True):
        assert other == pytest.approx(loss, abs=1e-5) and right == accuracy
    assert two["numbers"] == pytest.approx(one["numbers"], abs=1e-5)
    assert one["scores"][1][0] < one["scores"][0][0]


def test_devices_that_are_not_there_and_models_built_for_others_are_refused(told):
    lacking, unshared = told["errors"]
    assert lacking == "--devices 3: jax sees 2 devices: cpu:0, cpu:1."
    assert unshared.startswith("--devices 2: the network was built for 1 device, not for 2")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        ("", "tf.distribute.MirroredStrategy silently clips"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "MultiWorkerMirroredStrategy"),
    ],
)
def test_tensorflow_is_refused_with_the_reason_and_the_way(monkeypatch, cluster, says):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    monkeypatch.setenv("TF_CONFIG", cluster or "not read")
    with pytest.raises(TlkitError) as caught:
        devices.chosen("all")
    assert says in caught.value.message and "KERAS_BACKEND=jax" in (caught.value.hint or "")
    assert devices.chosen("1") == ["gpu:0"]


@pytest.mark.parametrize("options", [{"devices": "0"}, {"devices": "two"}, {"devices": "2", "batchnorm": "train"}])
def test_numbers_that_are_none_and_statistics_of_batches_are_refused(options):
    with pytest.raises(TlkitError, match="--devices"):
        TrainingOptions(**options)
