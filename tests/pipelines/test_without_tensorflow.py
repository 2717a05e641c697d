"""The main path with the JAX backend, in a process where TensorFlow cannot be imported."""

import csv
import importlib.util
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tests.processes import QUICKLY_COMPILED
from tlkit.options.commands import FeaturesConfig
from tlkit.pipelines import features

PROGRAM = """
import ast
import sys
from importlib.machinery import PathFinder
from pathlib import Path



class WithoutTensorFlow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "tensorflow" else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTensorFlow
try:
    import tensorflow
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("TensorFlow is still there")

import tlkit
from tlkit.base.story import Silence

options, out = ast.literal_eval(sys.argv[1]), Path(sys.argv[2])


class Impatient(Silence):
    def say(self, text):
        if text.startswith("  top 1:"):
            raise KeyboardInterrupt


silence = Silence()
for name in ("features.npz", "features.csv", "features.parquet"):
    tlkit.features(options["images"], backbone=options["backbone"], out=out / name, story=silence)
stages = {"stages": ("head", "top", "all"), "blocks": 1}
tlkit.finetune(**options, **stages, out=out / "run", story=silence)
try:
    tlkit.finetune(**options, **stages, out=out / "broken", story=Impatient())
except KeyboardInterrupt:
    tlkit.finetune(resume=out / "broken", story=silence)
tlkit.evaluate(out / "run", options["images"], out=out / "evaluation", story=silence)
tlkit.predict(out / "run", [options["images"]], out=out / "predictions.csv", story=silence)
tlkit.doctor()

import keras
from tlkit.extraction.keras_jit import in_bfloat16

assert keras.backend.backend() == "jax"
model = keras.saving.load_model(out / "run" / "model.keras", compile=False)
for old, new in zip(model.weights, in_bfloat16(model).weights, strict=True):  # training donates its buffers
    assert old.value.unsafe_buffer_pointer() != new.value.unsafe_buffer_pointer()
assert not [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]
"""


@pytest.fixture(scope="module")
def made(options, tmp_path_factory):
    """The folder that the program has filled."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed: pip install 'tlkit[jax]'")
    out = tmp_path_factory.mktemp("jax")
    environment = os.environ | QUICKLY_COMPILED | {"KERAS_BACKEND": "jax", "TLKIT_CACHE": str(out / "cache")}
    # Keras 3.15 handing its variables to NumPy 2, as in pyproject.toml
    quiet = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    command = [sys.executable, "-W", "error", "-W", quiet, "-c", PROGRAM, repr(options), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_features_are_those_of_tensorflow(made, options, tmp_path, empty_cache):
    out = tmp_path / "features.npz"
    features.run(FeaturesConfig(images=options["images"], backbone=options["backbone"], out=str(out)))
    with np.load(out) as ours, np.load(made / "features.npz") as theirs:
        assert np.array_equal(ours["path"], theirs["path"]) and np.array_equal(ours["split"], theirs["split"])
        assert np.ptp(theirs["features"]) > 0.1
        np.testing.assert_allclose(theirs["features"], ours["features"], rtol=0, atol=1e-4)
    assert (made / "features.parquet").stat().st_size and len(rows(made / "features.csv")) == 36


def test_the_solved_head_is_that_of_tensorflow(made, finished):
    kernels = []
    for run in (finished[0], made / "run"):
        (weights,) = (run / "checkpoints" / "head").glob("*.weights.h5")
        with h5py.File(weights) as file:
            kernels.append(np.asarray(file["weights/0"]))
    np.testing.assert_allclose(kernels[1], kernels[0], rtol=0, atol=1e-3 * np.abs(kernels[0]).max())


def test_training_follows_the_same_course(made, finished):
    ours, theirs = rows(finished[0] / "history.csv"), rows(made / "run" / "history.csv")
    assert [(row["stage"], row["epoch"]) for row in theirs] == [(row["stage"], row["epoch"]) for row in ours]
    assert {row["stage"] for row in theirs} == {"head", "top", "all"}
    for column in ("loss", "val_loss"):
        measured = [[float(row[column]) for row in of if row[column]] for of in (ours, theirs)]
        np.testing.assert_allclose(measured[1], measured[0], rtol=0.02, atol=1e-4)


def test_resuming_gives_the_same_predictions(made):
    assert rows(made / "broken" / "predictions.csv") == rows(made / "run" / "predictions.csv")


def test_the_model_predicts_what_the_run_did(made, options):
    known = {row["path"]: row["predicted"] for row in rows(made / "run" / "predictions.csv")}
    predicted = {row["path"]: row["class"] for row in rows(made / "predictions.csv")}
    assert len(predicted) == 36
    assert {path.removeprefix(options["images"] + "/"): name for path, name in predicted.items()} == known
    assert len(rows(made / "evaluation" / "predictions.csv")) == 36
