"""Networks written as ONNX layer by layer, run by ONNX Runtime, checked against Keras."""

import gc

import keras
import numpy as np
import pytest

from tests.contracts.lively import quickly_drawn
from tlkit.backbones import arithmetic
from tlkit.backbones.build import build_backbone
from tlkit.extraction.onnx_engine import open_parts
from tlkit.extraction.onnx_graph import to_onnx
from tlkit.extraction.onnx_parts import winograd
from tlkit.extraction.onnx_parts.writing import Untranslatable
from tlkit.extraction.source import Tap, _tapped
from tlkit.options import catalog

pytest.importorskip("onnxruntime", reason="comes with tlkit")
CLOSE = 1e-4  # of the largest number

# One of each family, by the beginning of the names; its other members repeat the same layers.
FAMILIES = (
    *("nano", "convnexttiny", "densenet121", "efficientnetb0", "efficientnetv2b0", "inceptionresnetv2", "inceptionv3"),
    *("mobilenet", "mobilenetv2", "mobilenetv3small", "nasnetmobile", "resnet50", "resnet50v2", "vgg16", "xception"),
)


def lively(model):
    """Random weights as training leaves them: statistics that are not 0 and 1, scales that are not tiny."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if len(weight.shape) == 1:
                low, high = (0.8, 1.2) if weight.name in ("gamma", "moving_variance") else (-0.1, 0.1)
                weight.assign(random.uniform(low, high, weight.shape))
    return model


def apart(model, folder, images, lean=False):
    """The greatest difference of each output, as a fraction of its largest number."""
    (folder / "network.onnx").write_bytes(to_onnx(model, lean=lean).SerializeToString())
    found = open_parts(folder / "network.onnx")(images)().values()
    expected = [np.asarray(each) for each in keras.tree.flatten(model(images))]
    assert [each.shape for each in found] == [each.shape for each in expected]
    return max(np.abs(one - two).max() / np.abs(two).max() for one, two in zip(found, expected, strict=True))


def drawn(count, height, width):
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8).astype("float32")


def test_every_backbone_is_of_a_family():
    assert {catalog.backbone_row(name).name for name in FAMILIES} == set(FAMILIES)
    stems = (
        "convnext",
        "densenet",
        "efficientnet",
        "inception",
        "mobilenet",
        "nano",
        "nasnet",
        "resnet",
        "vgg",
        "xception",
    )
    assert [name for name in catalog.BACKBONES if not name.startswith(stems)] == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "nano" else pytest.mark.slow) for name in FAMILIES]
)
def test_a_backbone_of_each_family(name, tmp_path):
    side = max(catalog.backbone_row(name).minimum, 64)
    with quickly_drawn():
        backbone = build_backbone(name, weights="none", image_size=(side, side + 11), seed=3)
    taps = (Tap(backbone.model.layers[-1].name, "avg"), Tap(backbone.model.layers[-1].name))
    assert apart(_tapped(lively(backbone.model), taps), tmp_path, drawn(5, side, side + 11)) < CLOSE
    keras.utils.clear_session()
    gc.collect()


L = keras.layers
STACKS = {
    "even sides, strides, same": [L.Conv2D(5, 3, strides=2, padding="same"), L.Conv2D(4, 4, padding="same")],
    "dilated": [L.Conv2D(5, 3, dilation_rate=2, padding="same"), L.Conv2D(5, 3, dilation_rate=(1, 2))],
    "groups": [L.Conv2D(6, 3), L.Conv2D(9, 3, groups=3, activation="silu")],
    "depthwise": [L.Conv2D(6, 3), L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu6")],
    "separable, norm folded": [
        L.SeparableConv2D(8, 3, depth_multiplier=2, padding="same", strides=2, use_bias=False),
        L.BatchNormalization(),
    ],
    "norm alone": [L.BatchNormalization(scale=False), L.Conv2D(4, 3, activation="hard_silu"), L.ReLU(max_value=6)],
    "norm before the activation inside": [L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(center=False)],
    "framed twice": [L.ZeroPadding2D(((1, 2), (0, 3))), L.ZeroPadding2D(1), L.Conv2D(4, 3, strides=2)],
    "framed for a pool": [L.Conv2D(4, 3), L.ZeroPadding2D(((0, 1), (2, 0))), L.MaxPooling2D(3, strides=2)],
    "framed, and same": [L.ZeroPadding2D(2), L.Conv2D(4, 3, strides=2, padding="same")],
    "pools": [L.MaxPooling2D(3, strides=2, padding="same"), L.AveragePooling2D(3, strides=1, padding="same")],
    "pools, valid": [L.AveragePooling2D(2), L.MaxPooling2D((2, 3))],
    "cropped": [L.Cropping2D(((1, 0), (2, 3))), L.Conv2D(4, 3), L.Cropping2D(1)],
    "colours turned": [L.Cropping2D(((0, 0), (2, 0)), data_format="channels_first")],
    "scaled": [L.Rescaling([1 / 3, 2.0, 0.5], [0.1, -1.0, 0.0]), L.Rescaling(1 / 255)],
    "normalised": [L.Normalization(mean=[100.0, 120.0, 130.0], variance=[4.0, 0.0, 9.0])],
    "last axis": [L.Conv2D(6, 3), L.LayerNormalization(epsilon=1e-6), L.Dense(7, activation="gelu"), L.Conv2D(4, 1)],
    "flat": [L.Conv2D(4, 3, strides=4), L.Flatten(), L.Dense(6, activation="tanh"), L.Dropout(0.5), L.Dense(3)],
    "reshaped": [
        L.Conv2D(4, 3),
        L.GlobalMaxPooling2D(),
        L.Reshape((1, 1, 4)),
        L.Conv2D(5, 1, activation="hard_sigmoid"),
    ],
    "kept sides": [L.Conv2D(4, 3), L.GlobalAveragePooling2D(keepdims=True), L.Conv2D(5, 1, activation="softmax")][:2],
    "activations": [L.Conv2D(4, 3), L.Activation("sigmoid"), L.Activation("tanh"), L.ReLU(negative_slope=0.2)],
}


@pytest.mark.parametrize("name", STACKS)
def test_layers_in_a_row(name, tmp_path):
    keras.utils.set_random_seed(5)
    images = keras.Input((21, 26, 3))
    tensor = images
    for layer in STACKS[name]:
        tensor = layer.__class__.from_config(layer.get_config())(tensor)
    assert apart(lively(keras.Model(images, tensor)), tmp_path, drawn(3, 21, 26)) < 1e-5


def test_branches_several_outputs_and_forms(tmp_path):
    keras.utils.set_random_seed(5)
    images = keras.Input((12, 14, 3))
    stem = L.Conv2D(6, 3, padding="same")(images)
    norm = L.BatchNormalization()(stem)
    gate = L.Dense(6, activation="sigmoid")(L.GlobalAveragePooling2D()(norm))
    scaled = L.Multiply()([norm, L.Reshape((1, 1, 6))(gate)])
    dense = L.Dense(6)(norm)
    joined = L.Concatenate()([L.Add()([scaled, dense]), norm])
    beside = L.Concatenate(axis=1)([joined, joined])
    model = keras.Model(images, [beside, gate, stem])  # an output is not folded away
    assert apart(lively(model), tmp_path, drawn(2, 12, 14)) < 1e-5


def test_numbers_for_places_are_kept_in_their_places(tmp_path):
    images = keras.Input((4, 5, 3))
    x = L.Conv2D(6, 1)(images)
    rows = L.Rescaling(np.arange(1.0, 5.0).reshape(4, 1, 1), 0.5)(x)
    model = keras.Model(images, L.Rescaling(np.arange(1.0, 31.0).reshape(5, 6) / 10)(rows))
    assert apart(lively(model), tmp_path, drawn(2, 4, 5)) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        L.UpSampling2D(2),
        L.Activation("mish"),
        L.ReLU(threshold=1.0),
        L.BatchNormalization(axis=1),
        L.LayerNormalization(axis=(1, 2)),
        L.Rescaling(np.ones((1, 4, 1, 1))),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_it_does_not_know_is_refused_by_name(layer):
    images = keras.Input((4, 4, 3))
    with pytest.raises(Untranslatable, match=layer.name):
        to_onnx(keras.Model(images, layer(images)))


def test_a_layer_of_somebody_elses_is_refused_whatever_it_is_called():
    class Dense(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    images = keras.Input((4, 4, 3))
    with pytest.raises(Untranslatable, match="Dense"):
        to_onnx(keras.Model(images, Dense()(images)))


def test_images_of_any_size_are_refused():
    images = keras.Input((None, None, 3))
    with pytest.raises(Untranslatable, match="any size"):
        to_onnx(keras.Model(images, L.Conv2D(4, 3, padding="same")(images)))


# -- With fewer multiplications ---

LEAN = {  # sides of 21 by 26 and what becomes of them fill tiles of 4 in no way, in one, or in both
    "same": [L.Conv2D(5, 3, padding="same", activation="relu"), L.Conv2D(4, 3, padding="same")],
    "valid": [L.Conv2D(5, 3), L.Conv2D(7, 3, use_bias=False), L.Conv2D(4, 3)],
    "a tile and less": [L.AveragePooling2D(5), L.Conv2D(4, 3, padding="same"), L.Conv2D(6, 3)],
    "pooled between": [L.Conv2D(6, 3, padding="same", activation="relu"), L.MaxPooling2D(2), L.Conv2D(4, 3)],
    "norm folded": [L.Conv2D(6, 3, use_bias=False), L.BatchNormalization(), L.ReLU(), L.Conv2D(4, 3)],
    "framed": [L.ZeroPadding2D(((1, 2), (0, 3))), L.Conv2D(4, 3)],
    "framed, and same": [L.ZeroPadding2D(2), L.Conv2D(4, 3, padding="same"), L.Dense(5)],
    "of another kind": [L.Conv2D(6, 3, groups=3), L.Conv2D(4, 3, strides=2), L.Conv2D(4, 3, dilation_rate=2)],
    "other sides": [L.Conv2D(6, (3, 1)), L.Conv2D(4, 5), L.DepthwiseConv2D(3), L.SeparableConv2D(4, 3)],
}


@pytest.mark.parametrize("name", LEAN)
def test_fewer_multiplications_give_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setattr(arithmetic, "FASTER", 0.0)  # wherever it can be
    keras.utils.set_random_seed(5)
    images = keras.Input((21, 26, 3)) if not name.startswith("of another") else keras.Input((21, 26, 6))
    tensor = images
    for layer in LEAN[name]:
        tensor = layer.__class__.from_config(layer.get_config())(tensor)
    model = lively(keras.Model(images, tensor))
    pixels = np.random.default_rng(1).integers(0, 256, (3, *images.shape[1:])).astype("float32")
    assert apart(model, tmp_path, pixels, lean=True) < 2e-5
    written = {node.op_type for node in to_onnx(model, lean=True).graph.node}
    assert ("Split" in written) == (not name.startswith("o"))  # kernels are turned into 36 matrices


def test_products_of_one_tile_by_hand():
    """A kernel that picks the number above to the left, and one that adds up its nine."""
    kernel = np.zeros((3, 3, 1, 2), np.float32)
    kernel[0, 0, 0, 0], kernel[..., 0, 1] = 1, 1
    grid = np.arange(36.0).reshape(6, 6)
    turn = winograd._OF_KERNEL
    inside = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]])
    inside = np.vstack([inside, [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]])  # B of the paper
    outside = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # A
    for number, expected in ((0, grid[:4, :4]), (1, 9 * grid[1:5, 1:5])):
        products = (turn @ kernel[..., 0, number] @ turn.T) * (inside @ grid @ inside.T)
        np.testing.assert_allclose(outside @ products @ outside.T, expected, atol=1e-9)
