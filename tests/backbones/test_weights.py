import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tlkit.backbones import weight_files
from tlkit.backbones.applications import build_network
from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.options.catalog import backbone_row

SMALL = "mobilenetv2:alpha=0.35"
REAL = "models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"


@pytest.fixture(scope="module")
def network():
    """Keras's own small network with unique weights."""
    keras.utils.set_random_seed(7)
    return keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(64, 64, 3))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder of Keras's weights, and a machine that is offline."""
    monkeypatch.setattr(weight_files, "models_folder", lambda: tmp_path / "models")
    monkeypatch.setattr(weight_files, "FALLBACK_FOLDER", tmp_path / "fallback")
    monkeypatch.setenv("TLKIT_OFFLINE", "1")
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_real_weights_give_keras_s_own_grid(shared_keras, home):
    shutil.copy(shared_keras(REAL), home)
    backbone = build_backbone(SMALL)
    theirs = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=shared_keras(REAL))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    expected = np.asarray(theirs(keras.applications.mobilenet_v2.preprocess_input(pixels.copy())))
    np.testing.assert_allclose(np.asarray(backbone.model(pixels)), expected, rtol=0, atol=1e-4)
    assert (backbone.name, backbone.weights) == (SMALL, "imagenet")
    assert build_backbone(SMALL, image_size=160 + 1).weights_sha256 == backbone.weights_sha256


def test_offline_and_without_the_file_the_error_says_every_way_out(home):
    with pytest.raises(TlkitError) as refused:
        build_backbone("vgg16")
    name = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert name in refused.value.message
    assert str(home) in refused.value.message
    for way in ("tlkit weights fetch vgg16", "tlkit weights import", "--weights PATH", "--weights none", "nano"):
        assert way in refused.value.hint


def test_half_a_file_is_named(home):
    file = home / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    file.write_bytes(b"half of it")
    with pytest.raises(TlkitError, match="does not hold the weights of vgg16") as refused:
        build_backbone("vgg16")
    assert f"delete {file}" in refused.value.hint


def test_a_download_is_used_and_keeps_stdout_clean(network, home, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tlkit.backbones.weight_files.SEEN", {})  # of the file that has real weights in it
    write_legacy(network, tmp_path / "saved.h5")
    server.content[Path(REAL).name] = (tmp_path / "saved.h5").read_bytes()
    monkeypatch.setenv("TLKIT_OFFLINE", "0")
    monkeypatch.setenv("TLKIT_WEIGHTS_URL", server.url("truncates", ""))
    for _ in range(2):  # the second time from disk
        backbone = build_backbone(SMALL, image_size=64)
        assert all(map(np.array_equal, backbone.model.get_weights(), network.get_weights()))
    assert server.requests["truncates"] == 2
    assert [path.name for path in home.iterdir()] == [Path(REAL).name]
    captured = capsys.readouterr()
    assert captured.out == "" and f"/truncates (TLKIT_WEIGHTS_URL) into {home}. Licence: Apache-2.0" in captured.err


def test_keras_home_of_this_process_is_where_weights_are_looked_for(tmp_path):
    program = "from tlkit.backbones.weight_files import models_folder; print(models_folder())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "models")


def test_the_same_values_have_one_fingerprint_from_any_file(network, tmp_path):
    files = [tmp_path / name for name in ("a.weights.h5", "legacy.h5", "whole.keras")]
    network.save_weights(files[0])
    write_legacy(network, files[1])
    network.save(files[2])
    found = {build_backbone(SMALL, weights=file, image_size=64).weights_sha256 for file in files}
    assert len(found) == 1
    assert found != {build_backbone(SMALL, weights="none", image_size=64).weights_sha256}


def write_legacy(model, path):
    """The format of the files that Keras downloads."""
    import h5py

    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    with h5py.File(path, "w") as file:
        legacy.save_weights_to_hdf5_group(file, model)


def test_a_whole_classifier_gives_its_backbone_by_name_or_by_order(network, tmp_path):
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(network.outputs[0]))
    keras.Model(network.inputs[0], outputs).save(tmp_path / "by_name.keras")
    keras.utils.set_random_seed(1)
    inception = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(75, 75, 3))
    nested = keras.Sequential([keras.Input((75, 75, 3)), inception, keras.layers.Flatten(), keras.layers.Dense(2)])
    nested.save(tmp_path / "by_order.keras")
    named = build_backbone(SMALL, weights=tmp_path / "by_name.keras", image_size=64)
    assert all(map(np.array_equal, named.model.get_weights(), network.get_weights()))
    ordered = build_backbone("inceptionv3", weights=tmp_path / "by_order.keras", image_size=75)
    assert all(map(np.array_equal, ordered.model.get_weights(), inception.get_weights()))


@pytest.mark.parametrize("name", ["other.weights.h5", "other.h5", "other.keras", "broken.h5", "broken.keras"])
def test_weights_of_another_network_are_refused(name, network, tmp_path):
    path = tmp_path / name
    if name.startswith("broken"):
        path.write_bytes(b"not a weight file")
    elif name == "other.weights.h5":
        network.save_weights(path)
    elif name == "other.h5":
        write_legacy(network, path)
    else:
        network.save(path)
    with pytest.raises(TlkitError, match="does not fit") as refused:
        build_backbone("mobilenet:alpha=0.25", weights=path, image_size=64)
    assert "include_top=False" in refused.value.hint
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(("name", "message"), [("absent.h5", "does not exist"), ("weights.npz", "not a weight file")])
def test_files_that_cannot_be_weights_are_refused(name, message, tmp_path):
    if name != "absent.h5":
        (tmp_path / name).touch()
    with pytest.raises(TlkitError, match=message):
        build_backbone(SMALL, weights=tmp_path / name, image_size=64)


@pytest.mark.parametrize(
    "spec", [{"alpha": 0.3}, {"alpha": 1.0, "depth_multiplier": 2}], ids=["alpha", "depth_multiplier"]
)
def test_variants_without_imagenet_weights_are_refused(spec):
    with pytest.raises(TlkitError, match="no ImageNet weights") as refused:
        weight_files.imagenet_file(backbone_row("mobilenet"), spec, (224, 224))
    assert "0.25, 0.5, 0.75, 1.0" in refused.value.hint


def test_efficientnet_is_keras_s_own_however_its_weights_arrive(tmp_path, monkeypatch):
    """Keras puts a layer into EfficientNet only when it loads ImageNet weights itself."""
    row = backbone_row("efficientnetb0")
    saved = tmp_path / "b0.weights.h5"
    network = build_network(row, {}, (32, 32), seed=1)
    norm = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    norm.set_weights([np.float32([0.48, 0.46, 0.41]), np.float32([0.23, 0.22, 0.23]), np.int64(0)][: len(norm.weights)])
    network.save_weights(saved)
    monkeypatch.setattr(importlib.import_module("keras.src.utils.file_utils"), "get_file", lambda *_, **__: str(saved))
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    backbone = build_backbone("efficientnetb0", weights=saved, image_size=32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    assert np.array_equal(np.asarray(backbone.model(pixels)), np.asarray(theirs(pixels)))


def test_nano_brings_its_weights_along():
    weights_file = importlib.import_module("tlkit.backbones.applications").NANO_WEIGHTS
    if not weights_file.is_file():
        pytest.skip("nano's weights are not in this checkout")
    first, again = build_backbone("nano"), build_backbone("nano", image_size=64)
    assert first.weights_sha256 == again.weights_sha256
    assert first.weights == "imagenet"
