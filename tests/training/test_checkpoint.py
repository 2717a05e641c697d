"""Weights of a stage on disk: what is restored, for which model, and files of earlier versions."""

import h5py
import keras
import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.options.groups import TrainingOptions
from tlkit.training.checkpoint import Checkpoint
from tlkit.training.optimizer import Updates, unfreeze_and_compile


def network(units=4, *, parts=1, compiled=True):
    """A model with BatchNorm and dropout, whose optimizer has made an update."""
    layers = [keras.layers.Dense(units), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
    if compiled:
        unfreeze_and_compile(model, TrainingOptions(), blocks=(), learn=0, updates=Updates(1e-2, 10, parts))
        model.optimizer.apply([np.ones(each.shape, np.float32) for each in model.trainable_variables])
    return model


def held(model):
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model and the checkpoint that has its weights in `epoch.weights.h5`."""
    model, checkpoint = network(), Checkpoint(tmp_path_factory.mktemp("stage"))
    assert checkpoint.save_weights(model, "epoch") == "epoch.weights.h5"
    return model, checkpoint


def test_weights_and_optimizer_come_back_to_the_bit_in_a_layout_that_h5py_reads(written):
    model, checkpoint = written
    other = network()
    checkpoint.load_weights(other, "epoch.weights.h5")
    for one, two in zip(held(model), held(other), strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    with h5py.File(checkpoint.folder / "epoch.weights.h5") as file:
        np.testing.assert_array_equal(file["weights/0"], held(model)[0])


def test_weights_alone_come_back_where_the_optimizer_is_another_or_none(written):
    model, checkpoint = written
    for other in (network(compiled=False), network(parts=2)):
        kept = held(other)[len(other.variables) :]
        checkpoint.load_weights(other, "epoch.weights.h5")
        for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
        for one, two in zip(kept, held(other)[len(other.variables) :], strict=True):
            np.testing.assert_array_equal(one, two)


def test_weights_of_another_model_are_refused(written):
    _, checkpoint = written
    for other in (network(5), keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])):
        with pytest.raises(TlkitError, match=r"epoch\.weights\.h5"):
            checkpoint.load_weights(other, "epoch.weights.h5")


def test_what_earlier_versions_wrote_is_read(tmp_path):
    model, other = network(), network()
    model.save_weights(tmp_path / "old.weights.h5")
    Checkpoint(tmp_path).load_weights(other, "old.weights.h5")
    for one, two in zip(held(model), held(other), strict=True):
        if one.dtype.kind == "f" or not one.ndim:  # Keras does not store the state of dropout's random numbers
            np.testing.assert_array_equal(one, two)
