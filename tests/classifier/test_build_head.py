import keras
import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.classifier.heads.build import build_head, pool
from tlkit.extraction.store import pooled
from tlkit.options.groups import HeadOptions


def grid(dtype="float32"):
    return np.random.default_rng(2).normal(3, 5, (4, 5, 6, 7)).astype(dtype)


MEAN, MOST = grid().mean(axis=(1, 2)), grid().max(axis=(1, 2))


@pytest.mark.parametrize(
    ("pooling", "expected"), [("avg", MEAN), ("max", MOST), ("concat", np.concatenate([MEAN, MOST], axis=-1))]
)
def test_a_grid_is_pooled_as_numpy_would(pooling, expected):
    inputs = keras.Input((5, 6, 7))
    ours = keras.ops.convert_to_numpy(keras.Model(inputs, pool(inputs, pooling))(grid()))
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-6)


def test_stored_grids_are_averaged_as_the_network_would():
    inputs = keras.Input((5, 6, 7))
    theirs = keras.ops.convert_to_numpy(keras.Model(inputs, pool(inputs, "avg"))(grid()))
    assert pooled(grid()).dtype == np.float32
    np.testing.assert_allclose(pooled(grid()), theirs, rtol=0, atol=2e-6)


def test_half_precision_grids_are_averaged_in_single_precision():
    large = np.full((1, 64, 64, 1), 3000, "float16")
    assert pooled(large)[0, 0] == 3000
    inputs = keras.Input((64, 64, 1), dtype="float16")
    model = keras.Model(inputs, pool(inputs, "avg"))
    assert float(model(large)[0, 0]) == 3000


def test_pool_names_belong_to_the_head():
    inputs = keras.Input((5, 6, 7), name="images")
    names = [layer.name for layer in keras.Model(inputs, pool(inputs, "concat")).layers[1:]]
    assert all(name.startswith("head_pool_") for name in names)


def test_hidden_sizes_activation_and_dropout_are_where_they_were_asked_for():
    options = HeadOptions(head="mlp", hidden=(32, 8), activation="gelu", dropout=0.3, l2=0.01)
    layers = build_head(options, (2, 2, 5), 3).model.layers
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds == ["InputLayer", *["Dropout", "Dense", "Activation"] * 2, "Dropout", "Dense"]
    assert [layer.units for layer in layers if isinstance(layer, keras.layers.Dense)] == [32, 8, 3]
    assert {layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)} == {0.3}
    assert {layer.activation.__name__ for layer in layers if isinstance(layer, keras.layers.Activation)} == {"gelu"}


def test_no_dropout_layer_without_dropout():
    layers = build_head(HeadOptions(head="mlp"), (2, 2, 5), 3).model.layers
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in layers)


def test_recurrent_heads_read_positions_in_reading_order():
    head = build_head(HeadOptions(head="gru", hidden=(4,)), (2, 3, 1), 2)
    positions = keras.Model(head.model.inputs[0], head.model.get_layer("head_positions").output)
    numbered = np.arange(6, dtype="float32").reshape(1, 2, 3, 1)
    assert np.asarray(positions(numbered)).ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_attention_pools_with_weights_that_sum_to_one():
    head = build_head(HeadOptions(head="attention", hidden=(8,)), (2, 3, 4), 2)
    layer = head.model.get_layer
    probe = keras.Model(head.model.inputs[0], [layer("head_weights").output, layer("head_features_weighted").output])
    batch = grid()[:, :2, :3, :4]
    weights, features = map(np.asarray, probe(batch))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(features, (weights * batch.reshape(4, 6, 4)).sum(axis=1), atol=1e-5)


def test_the_transformer_tells_positions_apart():
    """Without its positional embedding it would give the same logits for any order of the positions."""
    head = build_head(HeadOptions(head="transformer", hidden=(8,)), (2, 3, 4), 2, seed=1)
    batch = grid()[:, :2, :3, :4]
    assert not np.allclose(head.model(batch), head.model(batch[:, ::-1]), atol=1e-5)


def test_one_layer_of_the_transformer_for_each_hidden_size():
    names = [
        layer.name for layer in build_head(HeadOptions(head="transformer", hidden=(8, 8)), (2, 2, 4), 2).model.layers
    ]
    assert "head_layer_2_dense_add" in names
    assert "head_layer_3_dense_add" not in names


@pytest.mark.parametrize(("head", "hidden"), [("transformer", (8, 16)), ("attention", (8, 8))])
def test_widths_that_do_not_fit_are_refused(head, hidden):
    with pytest.raises(TlkitError, match="--hidden") as refused:
        build_head(HeadOptions(head=head, hidden=hidden), (2, 2, 4), 2)
    assert "256" in refused.value.hint


def test_one_class_is_refused():
    with pytest.raises(TlkitError, match="two classes"):
        build_head(HeadOptions(), (2, 2, 4), 1)


def test_building_leaves_the_random_numbers_of_the_caller_alone():
    import random

    random.seed(5)
    expected = random.random()
    random.seed(5)
    build_head(HeadOptions(head="mlp"), (2, 2, 4), 2, seed=9)
    assert random.random() == expected
