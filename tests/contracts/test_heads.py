"""Every kind of head keeps the same promises."""

import importlib

import keras
import numpy as np
import pytest

from tlkit.classifier.heads.build import build_head
from tlkit.options import catalog
from tlkit.options.groups import HeadOptions

GRID = (3, 4, 10)
CASES = [(kind, pooling) for kind in catalog.HEADS for pooling in catalog.POOLINGS if pooling == "avg" or kind == "mlp"]


def options(kind, pooling="avg", **others):
    return HeadOptions(head=kind, pooling=pooling, **{"hidden": (16,), "dropout": 0.2, "l2": 1e-4} | others)


def features(head, count=5):
    return np.random.default_rng(0).normal(0, 2, (count, *head.model.input_shape[1:])).astype("float32")


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def case(request):
    return request.param


@pytest.mark.parametrize("row", catalog.HEADS.values(), ids=lambda row: row.name)
def test_the_function_of_a_row_is_where_it_says(row):
    assert callable(getattr(importlib.import_module(row.module), row.name))


def test_reads_features_and_gives_float32_logits_without_softmax(case):
    head = build_head(options(*case), GRID, 7)
    channels = GRID[2] * (2 if case[1] == "concat" else 1)
    assert head.model.input_shape == ((None, channels) if head.reads == "pooled" else (None, *GRID))
    logits = keras.ops.convert_to_numpy(head.model(features(head)))
    assert logits.shape == (5, 7)
    assert logits.dtype == np.float32
    assert (logits < 0).any()
    last = head.model.layers[-1]
    assert last.name == "logits"
    assert isinstance(last, keras.layers.Dense)
    assert last.activation is keras.activations.linear


def test_names_never_clash_with_a_backbone(case):
    names = [layer.name for layer in build_head(options(*case), GRID, 3).model.layers]
    assert names[0] == "head_features"
    assert all(name.startswith("head_") or name == "logits" for name in names)
    assert len(set(names)) == len(names)


def test_plain_layers_that_save_and_load_with_difference_zero(case, tmp_path):
    head = build_head(options(*case), GRID, 3)
    assert all(type(layer).__module__.startswith("keras.src.layers.") for layer in head.model.layers)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in head.model.layers)
    head.model.save(tmp_path / "head.keras")
    again = keras.models.load_model(tmp_path / "head.keras")
    batch = features(head)
    assert np.array_equal(keras.ops.convert_to_numpy(again(batch)), keras.ops.convert_to_numpy(head.model(batch)))


def test_the_seed_decides_the_weights(case):
    first, same, other = (build_head(options(*case), GRID, 3, seed=seed).model for seed in (1, 1, 2))
    assert all(map(np.array_equal, first.get_weights(), same.get_weights()))
    assert not all(map(np.array_equal, first.get_weights(), other.get_weights()))


def test_l2_counts_every_kernel_once(case):
    head = build_head(options(*case, l2=0.5, dropout=0.0), GRID, 3)
    head.model(features(head))
    kernels = [
        variable
        for variable in head.model.trainable_variables
        if variable.name.endswith("kernel") and variable.ndim > 1
    ]
    inputs_only = [variable for variable in kernels if variable.name != "recurrent_kernel"]
    expected = sum(0.5 * float(keras.ops.sum(variable**2)) for variable in inputs_only)
    assert sum(map(float, head.model.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", catalog.HEADS)
def test_learns_a_rule_it_can_see(kind):
    """Which of two channels is larger on average over the grid, which every head can express."""
    random = np.random.default_rng(4)
    labels = random.integers(0, 2, 256)
    grid = random.normal(0, 0.3, (256, *GRID)).astype("float32")
    grid[..., 0] += labels[:, None, None]
    grid[..., 1] += 1 - labels[:, None, None]
    head = build_head(options(kind, dropout=0.0), GRID, 2)
    head.model.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    inputs = grid.mean(axis=(1, 2)) if head.reads == "pooled" else grid
    keras.utils.set_random_seed(0)
    head.model.fit(inputs, labels, epochs=8, verbose=0)
    assert (np.asarray(head.model(inputs)).argmax(axis=1) == labels).mean() > 0.97
