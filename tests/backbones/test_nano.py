import keras
import numpy as np
import pytest

from tlkit.backbones.applications import GRID_CHANNELS, NANO_WEIGHTS, NATIVE_SIZE, build_nano, load_nano_weights


@pytest.fixture(scope="module")
def nano():
    model = build_nano()
    load_nano_weights(model)
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (4, *NATIVE_SIZE, 3)).astype("float32")


def test_the_weights_are_small_enough_to_travel():
    assert NANO_WEIGHTS.stat().st_size <= 3_000_000


def test_the_file_holds_every_variable_and_nothing_else_as_finite_float16(nano):
    with np.load(NANO_WEIGHTS, allow_pickle=False) as stored:
        assert set(stored.files) == {variable.path for variable in nano.variables}
        for name in stored.files:
            assert stored[name].dtype == "float16"
            assert np.isfinite(stored[name]).all(), name


def test_layers_are_plain_and_flat_and_named_by_block(nano):
    assert {type(layer).__module__.split(".")[0] for layer in nano.layers} == {"keras"}
    assert not any(isinstance(layer, keras.Model | keras.layers.Lambda) for layer in nano.layers)
    prefixes = [layer.name.split("_")[0] for layer in nano.layers[2:]]
    assert list(dict.fromkeys(prefixes)) == ["stem", "block1", "block2", "block3", "block4", "block5"]


def test_output_does_not_change_between_loads(nano, images):
    again = build_nano()
    load_nano_weights(again)
    np.testing.assert_array_equal(np.asarray(nano(images)), np.asarray(again(images)))


def test_the_grid_is_finite_and_alive(nano, images):
    grid = np.asarray(nano(images))
    assert grid.shape == (4, 4, 4, GRID_CHANNELS)
    assert np.isfinite(grid).all()
    assert (grid >= 0).all()
    assert (grid.std(0) > 0).any()


def test_pixels_are_0_to_255(nano, images):
    """Preprocessing is inside: a network without it gives the same grid for inputs scaled by hand."""
    inner = keras.Model(nano.get_layer("stem_conv").input, nano.output)
    scaled = np.asarray(inner(images / 127.5 - 1))
    np.testing.assert_allclose(np.asarray(nano(images)), scaled, atol=1e-4)


def test_pretraining_changed_every_kernel(nano):
    keras.utils.set_random_seed(0)
    for trained, random in zip(nano.variables, build_nano().variables, strict=True):
        assert not np.allclose(trained.numpy(), random.numpy(), atol=1e-3), trained.path


@pytest.mark.parametrize(("size", "side"), [((32, 32), 1), ((100, 50), None), ((128, 128), 4)])
def test_one_set_of_weights_fits_every_size(size, side):
    model = build_nano(size)
    load_nano_weights(model)
    height, width = (side, side) if side else (4, 2)
    assert model.output_shape == (None, height, width, GRID_CHANNELS)


def test_images_too_small_are_refused():
    with pytest.raises(ValueError, match=r"32 pixels or more.*\(31, 64\)"):
        build_nano((31, 64))


def test_a_model_of_another_kind_is_refused():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="other")])
    with pytest.raises(ValueError, match="other/kernel"):
        load_nano_weights(other)


def test_a_saved_file_loads_in_plain_keras_and_gives_the_same_grid(nano, images, tmp_path):
    nano.save(tmp_path / "nano.keras")
    loaded = keras.saving.load_model(tmp_path / "nano.keras")
    np.testing.assert_array_equal(np.asarray(nano(images)), np.asarray(loaded(images)))
