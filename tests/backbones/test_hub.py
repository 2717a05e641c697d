"""Presets of KerasHub, made here with random weights and saved: no network is touched."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.classifier import model as classifier
from tlkit.classifier.heads.build import build_head
from tlkit.data.dataset import InputContract
from tlkit.options.commands import FeaturesConfig, HeadOptions

SCALE, OFFSET = [1 / 58.4, 1 / 57.1, 1 / 57.4], [-2.1, -2.0, -1.8]


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("keras_hub", reason="KerasHub (the extra `hub`) is not installed")


def small(hub, kind):
    """A random network of that kind for images of 56 pixels, and its image converter."""
    keras.utils.set_random_seed(3)
    if kind.startswith("resnet"):
        body = hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 12],
            stackwise_num_blocks=[1, 1],
            stackwise_num_strides=[1, 2],
            block_type="basic_block",
            use_pre_activation=kind == "resnet_v2",
        )
        return body, hub.layers.ResNetImageConverter
    size = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
    if kind == "dinov2":
        body = hub.models.DINOV2Backbone(14, **size, num_register_tokens=2, image_shape=(56, 56, 3))
        return body, hub.layers.DINOV2ImageConverter
    shared = {key: value for key, value in size.items() if key != "num_layers"}
    eye = hub.models.SigLIPVisionEncoder(14, num_layers=1, **shared, image_shape=(56, 56, 3))
    words = hub.models.SigLIPTextEncoder(
        vocabulary_size=20, embedding_dim=16, num_layers=1, **shared, max_sequence_length=8, projection_dim=16
    )
    return hub.models.SigLIPBackbone(eye, words), hub.layers.SigLIPImageConverter


@pytest.fixture(scope="module", params=["resnet", "resnet_v2", "dinov2", "siglip"])
def preset(request, hub, tmp_path_factory):
    """(kind, folder, the network as KerasHub has it, its converter)."""
    body, converter_of = small(hub, request.param)
    converter = converter_of(image_size=(56, 56), scale=SCALE, offset=OFFSET)
    folder = tmp_path_factory.mktemp(request.param)
    body.save_to_preset(str(folder))
    converter.save_to_preset(str(folder))
    return request.param, folder, body, converter


def test_the_grid_is_what_kerashub_computes_from_its_own_preprocessing(preset):
    kind, folder, body, converter = preset
    backbone = build_backbone(f"hub:{folder}")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3)).astype("float32")
    network = getattr(body, "vision_encoder", body)
    inputs = converter(pixels)
    theirs = keras.ops.convert_to_numpy(network(inputs if kind.startswith("resnet") else {"images": inputs}))
    if kind == "dinov2":  # a class token and two registers come first
        theirs = theirs[:, 3:].reshape(2, 4, 4, -1)
    elif kind == "siglip":
        theirs = theirs.reshape(2, 1, 1, -1)
    grid = keras.ops.convert_to_numpy(backbone.model(pixels))
    np.testing.assert_allclose(grid, theirs, rtol=1e-4, atol=1e-4)
    assert grid.shape[1:] == backbone.grid_shape and backbone.image_size == (56, 56)
    assert backbone.preprocess == "hub" and bool(backbone.foreign) == (kind in ("dinov2", "siglip"))
    assert {layer.name for layer in backbone.model.layers} == {name for part in backbone.blocks for name in part.layers}
    again, other = build_backbone(f"hub:{folder}"), build_backbone(f"hub:{folder}", weights="none", seed=9)
    assert again.weights_sha256 == backbone.weights_sha256 != other.weights_sha256


def test_a_classifier_on_it_loads_in_plain_keras_or_is_refused(preset, tmp_path):
    kind, folder, _, _ = preset
    backbone = build_backbone(f"hub:{folder}")
    head = build_head(HeadOptions(), backbone.grid_shape, 2)
    contract = InputContract(height=56, width=56, fit="squash")
    if kind in ("dinov2", "siglip"):
        with pytest.raises(TlkitError, match="layers that plain Keras does not know") as refused:
            classifier.compose(backbone, head, ("a", "b"), contract)
        assert "tlkit features" in refused.value.hint
        return
    composed = classifier.compose(backbone, head, ("a", "b"), contract)
    classifier.save(composed, tmp_path / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3)).astype("float32")
    np.save(tmp_path / "pixels.npy", pixels)
    program = (
        "import sys; sys.modules['tlkit'] = sys.modules['keras_hub'] = None\n"
        "import keras, numpy\n"
        "model = keras.models.load_model('model.keras')\n"
        "numpy.save('logits.npy', keras.ops.convert_to_numpy(model(numpy.load('pixels.npy'))))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": ""})
    expected = keras.ops.convert_to_numpy(composed.model(pixels))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=0, atol=1e-5)


def test_another_size_is_built_where_the_network_takes_it(preset):
    kind, folder, _, _ = preset
    if kind.startswith("resnet"):
        assert build_backbone(f"hub:{folder}", image_size=64).image_size == (64, 64)
        return
    with pytest.raises(TlkitError, match="takes images of 56 by 56 alone, not 64 by 64"):
        build_backbone(f"hub:{folder}", image_size=64)


def test_a_converter_that_does_more_than_scale_is_refused(hub, tmp_path):
    class Mirroring(hub.layers.ResNetImageConverter):
        def call(self, inputs):
            return super().call(inputs)[..., ::-1]

    from tlkit.backbones.hub import _scaled

    with pytest.raises(TlkitError, match="does more than scale and shift"):
        _scaled("hub:x", Mirroring(scale=SCALE), keras.Input((8, 8, 3)))


def test_an_unknown_preset_has_its_nearest_and_offline_names_the_folder(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    with pytest.raises(TlkitError, match="is not a preset of KerasHub, nor a folder") as refused:
        build_backbone("hub:resnet_18_imagenette")
    assert "did you mean 'resnet_18_imagenet'" in refused.value.hint
    with pytest.raises(TlkitError, match=r"hub:resnet_18_imagenet is not in .*, and tlkit is offline") as refused:
        build_backbone("hub:resnet_18_imagenet")
    assert "tlkit weights fetch hub:resnet_18_imagenet" in refused.value.hint


def test_an_unreachable_network_is_one_error(hub, tmp_path, monkeypatch):
    def unreachable(handle):
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    monkeypatch.setattr("kagglehub.model_download", unreachable)
    with pytest.raises(TlkitError, match=r"cannot be downloaded from kaggle\.com: no route to host(\n|$)") as refused:
        build_backbone("hub:resnet_18_imagenet")
    assert "HTTPS_PROXY" in refused.value.hint


def test_a_preset_in_kagglehub_s_own_cache_needs_no_network(hub, tmp_path, monkeypatch):
    body, converter = small(hub, "resnet")
    folder = tmp_path / "models" / "keras" / "resnetv1" / "keras" / "resnet_18_imagenet" / "3"
    body.save_to_preset(str(folder))
    converter(image_size=(56, 56)).save_to_preset(str(folder))
    monkeypatch.setattr("kagglehub.config.get_cache_folder", lambda: str(tmp_path))
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    assert build_backbone("hub:resnet_18_imagenet").grid_shape == (7, 7, 12)
    os.truncate(folder / "model.weights.h5", 1000)
    with pytest.raises(TlkitError, match="tlkit is offline"):
        build_backbone("hub:resnet_18_imagenet")


def test_without_kerashub_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(TlkitError, match="is a preset of KerasHub, which is not installed here") as refused:
        build_backbone(FeaturesConfig(images=".", backbone="hub:resnet_18_imagenet").backbone)
    assert "pip install 'keras-hub" in refused.value.hint
