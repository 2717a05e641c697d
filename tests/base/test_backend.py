"""The choice of backend, made before Keras is imported."""

import json
import os
import sys

import pytest

from tlkit.base import process as backend
from tlkit.base.errors import TlkitError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with some backends, what KERAS_BACKEND says and what keras.json says; gives the backend settled on."""

    def settle(installed, asked=None, written=None):
        monkeypatch.delitem(sys.modules, "keras", raising=False)
        monkeypatch.setattr(backend, "_installed", lambda name: name in installed)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setenv("KERAS_BACKEND", asked or "")
        if written is not None:
            (tmp_path / "keras.json").write_text(written)
        told = backend.settle_backend()
        return os.environ["KERAS_BACKEND"], told

    return settle


@pytest.mark.parametrize(
    ("installed", "asked", "written", "chosen"),
    [
        (["tensorflow", "jax"], None, None, "tensorflow"),
        (["tensorflow", "jax"], None, json.dumps({"backend": "jax"}), "jax"),
        (["jax"], "jax", json.dumps({"backend": "tensorflow"}), "jax"),
        (["tensorflow"], None, "not JSON, which Keras passes over", "tensorflow"),
        (["tensorflow"], None, "[]", "tensorflow"),
    ],
)
def test_what_is_there_and_chosen_stays(machine, installed, asked, written, chosen):
    assert machine(installed, asked, written) == (chosen, "")


@pytest.mark.parametrize("written", [None, json.dumps({"backend": "tensorflow"}), json.dumps({"floatx": "float32"})])
def test_without_tensorflow_the_installed_one_computes_and_says_so(machine, written):
    chosen, told = machine(["jax", "torch"], None, written)
    assert chosen == "jax"
    assert told.startswith("computing with jax, because tensorflow is not installed")


def test_a_backend_that_cannot_train_is_replaced_where_nobody_asked_for_it(machine):
    chosen, told = machine(["tensorflow"], None, json.dumps({"backend": "numpy"}))
    assert chosen == "tensorflow" and "numpy cannot train" in told


@pytest.mark.parametrize(
    ("installed", "asked", "message", "hint"),
    [
        (["jax"], "tensorflow", "'tensorflow', which is not installed", "KERAS_BACKEND=jax"),
        ([], "jax", "'jax', which is not installed", "pip install jax"),
        (["jax"], "jaxx", "'jaxx' is not a backend", "did you mean 'jax'"),
        (["tensorflow"], "numpy", "'numpy' is not a backend", "tensorflow, jax, torch"),
        ([], None, "none of TensorFlow, JAX and PyTorch", "pip install tensorflow"),
    ],
)
def test_a_wish_is_never_replaced(machine, installed, asked, message, hint):
    with pytest.raises(TlkitError) as error:
        machine(installed, asked)
    assert message in error.value.message and hint in error.value.hint


def test_once_keras_is_imported_nothing_changes(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", object())
    monkeypatch.setenv("KERAS_BACKEND", "nonsense")
    assert backend.settle_backend() == ""
