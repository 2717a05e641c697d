import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3)).astype("float32")


def saved(model, tmp_path, name="mine.keras"):
    model.save(tmp_path / name)
    return tmp_path / name


def test_a_real_user_s_backbone(shared_keras):
    path = shared_keras("backbones/mobilenet_v1_block12.keras")
    backbone = build_backbone(str(path))
    assert (backbone.grid_shape, backbone.image_size, backbone.preprocess) == ((7, 7, 1024), (224, 224), "identity")
    assert (backbone.name, backbone.weights) == (str(path), str(path))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    theirs = keras.models.load_model(path, compile=False)
    assert np.array_equal(np.asarray(backbone.model(pixels)), np.asarray(theirs(pixels)))


def test_a_classifier_is_cut_at_its_last_grid(classifier, tmp_path):
    model = classifier()
    backbone = build_backbone(saved(model, tmp_path))
    assert backbone.grid_shape == (8, 8, 6)
    expected = keras.Model(model.inputs[0], model.layers[-3].output)(PIXELS)
    assert np.array_equal(np.asarray(backbone.model(PIXELS)), np.asarray(expected))
    assert not any(isinstance(layer, keras.layers.Dense) for layer in backbone.model.layers)


def test_nested_models_become_one_flat_graph(classifier, tmp_path):
    inner = classifier()
    body = keras.Model(inner.inputs[0], inner.layers[-3].output, name="body")
    images = keras.Input((32, 32, 3))
    outer = keras.Sequential([body, keras.layers.Conv2D(5, 3, name="own")])
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(outer(images)))
    model = keras.Model(images, outputs)
    backbone = build_backbone(saved(model, tmp_path))
    assert backbone.grid_shape == (6, 6, 5)
    assert not any(isinstance(layer, keras.Model) for layer in backbone.model.layers)
    assert np.allclose(np.asarray(backbone.model(PIXELS)), np.asarray(outer(PIXELS)), atol=1e-6)


def test_bare_operations_survive(tmp_path):
    images = keras.Input((16, 16, 3))
    tensor = keras.layers.Conv2D(4, 3, padding="same")(images / 255.0 - 0.5)
    tensor = keras.ops.maximum(tensor, 0.1 * tensor) + keras.layers.Conv2D(4, 1)(tensor) * 2.0
    model = keras.Model(images, keras.layers.Conv2D(4, 3)(tensor))
    backbone = build_backbone(saved(model, tmp_path))
    pixels = PIXELS[:, :16, :16]
    np.testing.assert_allclose(np.asarray(backbone.model(pixels)), np.asarray(model(pixels)), atol=1e-5)
    backbone.model.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    assert np.array_equal(np.asarray(again(pixels)), np.asarray(backbone.model(pixels)))


def test_another_image_size_where_the_network_allows_it(classifier, tmp_path):
    backbone = build_backbone(saved(classifier(), tmp_path), image_size=48)
    assert (backbone.image_size, backbone.grid_shape) == ((48, 48), (12, 12, 6))


def test_a_model_of_any_size_gets_one(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3, strides=32)])
    assert build_backbone(saved(model, tmp_path)).image_size == (224, 224)


def test_only_the_architecture_on_request(classifier, tmp_path):
    path = saved(classifier(), tmp_path)
    first, same, own = (build_backbone(path, weights=weights, seed=5) for weights in ("none", "none", "imagenet"))
    assert first.weights_sha256 == same.weights_sha256 != own.weights_sha256
    assert first.weights == "none"


def test_the_head_of_a_tlkit_classifier_is_left_out(classifier, tmp_path):
    body = classifier()
    tensor = keras.layers.Conv2D(9, 3, name="head_conv_1")(body.layers[-3].output)
    logits = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D(name="head_mean")(tensor))
    assert build_backbone(saved(keras.Model(body.inputs[0], logits), tmp_path)).grid_shape == (8, 8, 6)


def two_inputs():
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    return keras.Model(inputs, keras.layers.Add()(inputs))


REFUSED = {
    "two inputs": (two_inputs, "2 inputs"),
    "grey": (lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)]), "a backbone takes images"),
    "vector": (lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]), "a backbone takes images"),
    "no grid": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]),
        "no spatial layer",
    ),
    "code": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Conv2D(2, 3)]),
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_backbone_is_refused(case, tmp_path):
    build, message = REFUSED[case]
    with pytest.raises(TlkitError, match=message) as refused:
        build_backbone(saved(build(), tmp_path))
    assert refused.value.hint
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.keras", "does not exist"),
        ("old.h5", "not a .keras file"),
        ("broken.keras", "cannot be loaded: it is damaged"),
    ],
)
def test_files_that_are_no_models_are_refused(name, message, tmp_path):
    if name != "absent.keras":
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(TlkitError, match=message):
        build_backbone(tmp_path / name)


def test_a_size_the_model_cannot_take_is_refused(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(32), layers.Reshape((4, 4, 2)), layers.Conv2D(2, 3)]
    )
    with pytest.raises(TlkitError, match="16 by 16"):
        build_backbone(saved(model, tmp_path), image_size=16)
