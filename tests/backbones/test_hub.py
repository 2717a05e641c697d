"""Presets of KerasHub, made here with random weights and saved: no network access."""

import os
import sys

import keras
import numpy as np
import pytest

import tlkit
from tests import processes
from tests.contracts.lively import quickly_drawn
from tests.listener import Listener
from tlkit.backbones import hub as presets
from tlkit.backbones.build import build_backbone
from tlkit.backbones.graph import foreign_layers, replay
from tlkit.backbones.transformers.convert import CONVERTERS, convert
from tlkit.base.errors import TlkitError
from tlkit.classifier import model as classifier
from tlkit.classifier.heads.build import build_head
from tlkit.data.dataset import InputContract
from tlkit.extraction.recall import feature_source
from tlkit.options.commands import FeaturesConfig, HeadOptions

SCALE, OFFSET = [1 / 58.4, 1 / 57.1, 1 / 57.4], [-2.1, -2.0, -1.8]


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("keras_hub", reason="KerasHub (the extra `hub`) is not installed")


def small(hub, kind):
    """A random network of a kind for images of 56 pixels, and its image converter."""
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
    if kind == "clip":
        eye = hub.models.CLIPVisionEncoder(14, num_layers=1, **shared, image_shape=(56, 56, 3))
        words = hub.models.CLIPTextEncoder(
            vocabulary_size=20, embedding_dim=16, num_layers=1, **shared, max_sequence_length=8
        )
        return hub.models.CLIPBackbone(eye, words, projection_dim=16), hub.layers.CLIPImageConverter
    eye = hub.models.SigLIPVisionEncoder(14, num_layers=1, **shared, image_shape=(56, 56, 3))
    words = hub.models.SigLIPTextEncoder(
        vocabulary_size=20, embedding_dim=16, num_layers=1, **shared, max_sequence_length=8, projection_dim=16
    )
    return hub.models.SigLIPBackbone(eye, words), hub.layers.SigLIPImageConverter


@pytest.fixture(scope="module", params=["resnet", "resnet_v2", "dinov2", "siglip", "clip"])
def preset(request, hub, tmp_path_factory):
    """(kind, folder, the network in KerasHub, its converter)."""
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
    model = backbone.model
    if kind in ("dinov2", "clip"):  # a class token, and two registers, come first
        theirs = theirs[:, 3 if kind == "dinov2" else 1 :].reshape(2, 4, 4, -1)
    elif kind == "siglip":
        model = keras.Model(model.input, backbone.summary)
    found = keras.ops.convert_to_numpy(model(pixels))
    np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-4)
    assert keras.ops.convert_to_numpy(backbone.model(pixels)).shape[1:] == backbone.grid_shape
    assert backbone.image_size == (56, 56) and (backbone.summary is not None) == (kind in ("dinov2", "siglip"))
    assert backbone.preprocess == "hub" and bool(backbone.foreign) == (kind == "clip")
    assert {layer.name for layer in backbone.model.layers} == {name for part in backbone.blocks for name in part.layers}
    again, other = build_backbone(f"hub:{folder}"), build_backbone(f"hub:{folder}", weights="none", seed=9)
    assert again.weights_sha256 == backbone.weights_sha256 != other.weights_sha256


def test_a_classifier_on_it_loads_in_plain_keras_or_is_refused(preset, tmp_path):
    kind, folder, _, _ = preset
    backbone = build_backbone(f"hub:{folder}")
    head = build_head(HeadOptions(), backbone.grid_shape, 2)
    contract = InputContract(height=56, width=56, fit="squash")
    if kind == "clip":
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
    done = processes.run(["-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    expected = keras.ops.convert_to_numpy(composed.model(pixels))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=0, atol=1e-5)


def test_another_size_is_built_where_the_network_takes_it(preset):
    kind, folder, _, _ = preset
    if kind == "clip":
        with pytest.raises(TlkitError, match="takes only images of 56 by 56, not 64 by 64"):
            build_backbone(f"hub:{folder}", image_size=64)
    elif kind.startswith("resnet"):
        assert build_backbone(f"hub:{folder}", image_size=64).image_size == (64, 64)
    else:
        assert build_backbone(f"hub:{folder}", image_size=(28, 70)).grid_shape == (2, 5, 16)
        with pytest.raises(TlkitError, match="patches of 14 by 14 pixels do not divide images of 64 by 64"):
            build_backbone(f"hub:{folder}", image_size=64)


# -- Blocks that are layers of KerasHub: replaced by Keras's own layers ---


def convolutional(models, name):
    """A small network whose blocks KerasHub wrote as layers."""
    shape = (64, 64, 3)
    if name == "efficientnet":
        return models.EfficientNetBackbone(
            stackwise_width_coefficients=[1.0] * 3,
            stackwise_depth_coefficients=[1.0] * 3,
            stackwise_kernel_sizes=[3] * 3,
            stackwise_num_repeats=[2] * 3,
            stackwise_input_filters=[8, 8, 16],
            stackwise_output_filters=[8, 16, 24],
            stackwise_expansion_ratios=[1, 4, 4],
            stackwise_squeeze_and_excite_ratios=[0.0, 0.25, 0.25],
            stackwise_strides=[1, 2, 2],
            stackwise_block_types=["cba", "fused", "unfused"],
            stackwise_force_input_filters=[0] * 3,
            stackwise_nores_option=[False] * 3,
            image_shape=shape,
        )
    if name == "mobilenet":
        return models.MobileNetBackbone(
            stackwise_expansion=[[40, 56], [64, 72]],
            stackwise_num_blocks=[2, 2],
            stackwise_num_filters=[[16, 16], [24, 24]],
            stackwise_kernel_size=[[3, 3], [5, 5]],
            stackwise_num_strides=[[2, 1], [2, 1]],
            stackwise_se_ratio=[[None, None], [0.25, 0.25]],
            stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
            stackwise_padding=[[1, 1], [2, 2]],
            output_num_filters=48,
            input_activation="hard_swish",
            output_activation="hard_swish",
            input_num_filters=16,
            image_shape=shape,
            depthwise_filters=8,
            depthwise_stride=2,
            depthwise_residual=False,
            squeeze_and_excite=0.5,
            last_layer_filter=48,
        )
    return models.HGNetV2Backbone(
        depths=[1, 2],
        embedding_size=16,
        hidden_sizes=[32, 48],
        stem_channels=[3, 8, 16],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(16, 8, 32, 1, 1, 3), (32, 16, 48, 2, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        image_shape=shape,
    )


@pytest.mark.parametrize("name", ["efficientnet", "mobilenet", "hgnetv2"])
def test_blocks_of_kerashub_s_are_taken_apart(hub, name, tmp_path):
    keras.utils.set_random_seed(3)
    body, random = convolutional(hub.models, name), np.random.default_rng(0)
    for weight in body.weights:
        weight.assign(np.asarray(weight) + np.abs(random.normal(0, 0.05, weight.shape)).astype("float32"))
    assert foreign_layers(body)
    body.save_to_preset(str(tmp_path))
    hub.layers.ImageConverter(image_size=(64, 64), scale=1 / 255).save_to_preset(str(tmp_path))
    backbone = build_backbone(f"hub:{tmp_path}")
    pixels = random.integers(0, 256, (2, 64, 64, 3)).astype("float32")
    theirs = body(pixels / 255, training=False)
    theirs = min(map(keras.ops.convert_to_numpy, keras.tree.flatten(theirs)), key=lambda grid: grid.shape[1])
    found = keras.ops.convert_to_numpy(backbone.model(pixels, training=False))
    np.testing.assert_allclose(found, theirs, atol=1e-4 * np.abs(theirs).max())
    assert bool(backbone.foreign) == (name == "hgnetv2")  # which gives features, but no file that plain Keras loads


class Twice(keras.layers.Layer):
    """Only calls a layer of Keras."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)

    def call(self, tensor):
        return self.dense(tensor) + self.dense(keras.ops.flip(tensor, axis=-1))


class Scaled(Twice):
    """Also has a weight of its own."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=())

    def call(self, tensor):
        return self.dense(tensor) * self.scale


class Counted(Twice):
    """Its outputs depend on the number of images."""

    def call(self, tensor):
        return self.dense(tensor) / keras.ops.cast(keras.ops.shape(tensor)[0], "float32")


@pytest.mark.parametrize("kind", [Twice, Scaled, Counted])
def test_only_what_calls_keras_s_layers_alone_is_taken_apart(kind):
    start = keras.Input((4,))
    model = keras.Model(start, kind()(start))
    images = keras.Input((4,))
    copy = keras.Model(images, replay(model, images))
    assert foreign_layers(copy) == (() if kind is Twice else (kind.__name__,))
    noise = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    np.testing.assert_allclose(copy(noise), model(noise), atol=1e-6)


# -- Vision transformers: the same network of Keras's own layers ---


def swin(models, shape, large, window_size=4, **more):
    depths, heads, width = ((2, 2), (4, 8), 128) if large else ((2, 3), (2, 4), 16)
    return models.SwinTransformerBackbone(
        image_shape=shape,
        embed_dim=width,
        depths=depths,
        num_heads=heads,
        window_size=window_size,
        **more,
    )


def transformer(hub, name, side, *, large=False):
    """A network of KerasHub with no weight at its initial value, and its number of tokens before those of patches."""
    models = hub.models
    size = {"num_layers": 2, "hidden_dim": 768, "num_heads": 12} if large else {}
    size = size or {"num_layers": 2, "hidden_dim": 32, "num_heads": 2}
    hidden = 4 * size["hidden_dim"]
    shape, table = (side, side, 3), (80, 80, 3)
    heads = (size["num_layers"], size["num_heads"], size["hidden_dim"], hidden)
    made = {
        "vit": lambda: (models.ViTBackbone(shape, 16, *heads), 1),
        "vit without class token": lambda: (models.ViTBackbone(shape, 16, *heads, use_class_token=False), 0),
        "deit": lambda: (models.DeiTBackbone(shape, 16, *heads), 2),
        "dinov2": lambda: (
            models.DINOV2Backbone(
                16, **size, intermediate_dim=hidden, image_shape=shape, position_embedding_shape=table
            ),
            1,
        ),
        "dinov2, registers, gated": lambda: (
            models.DINOV2Backbone(
                16,
                **size,
                intermediate_dim=hidden,
                num_register_tokens=4,
                use_swiglu_ffn=True,
                layer_scale_init_value=0.7,
                image_shape=shape,
                position_embedding_shape=table,
                antialias_in_interpolation=True,
            ),
            5,
        ),
        "dinov3": lambda: (models.DINOV3Backbone(16, **size, intermediate_dim=hidden, image_shape=shape), 5),
        "dinov3, gated, few biases": lambda: (
            models.DINOV3Backbone(
                16,
                **size,
                intermediate_dim=hidden,
                use_gated_mlp=True,
                hidden_activation="silu",
                use_key_bias=False,
                use_mlp_bias=False,
                image_shape=shape,
            ),
            5,
        ),
        "swin": lambda: (swin(models, shape, large), 0),
        "swin, few biases": lambda: (
            swin(models, shape, large, window_size=2, patch_norm=False, qkv_bias=False),
            0,
        ),
        "siglip": lambda: (models.SigLIPVisionEncoder(16, **size, intermediate_dim=hidden, image_shape=shape), 0),
    }[name]
    with quickly_drawn():
        body, prefix = made()
    CLASSES[name] = type(body).__name__
    random = np.random.default_rng(0)
    for weight in body.weights:
        fixed = weight.dtype.startswith("int") or "interpolated" in weight.path
        if not fixed:
            weight.assign(np.asarray(weight) + 0.05 * random.standard_normal(weight.shape, np.float32))
    if hasattr(getattr(body, "embeddings", None), "interpolated_position_embeddings"):
        embeddings = body.embeddings
        embeddings.interpolated_position_embeddings.assign(
            embeddings._interpolate_position_embeddings(
                embeddings.position_embeddings,
                patch_size=16,
                source_shape=table[:2],
                target_shape=shape[:2],
                antialias=embeddings.antialias_in_interpolation,
            )
        )
    return body, prefix


CLASSES = {}  # of the transformers that were made
TRANSFORMERS = (
    *("vit", "vit without class token", "deit", "dinov2", "dinov2, registers, gated"),
    *("dinov3", "dinov3, gated, few biases", "siglip", "swin", "swin, few biases"),
)


@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["small", "as wide as base"])
@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.filterwarnings("ignore:Layer '.*' (looks|.of type):UserWarning")  # of KerasHub's Swin, when it is built
def test_a_transformer_is_kerashub_s_own(hub, name, side, large):
    body, prefix = transformer(hub, name, side, large=large)
    images = np.random.default_rng(1).normal(size=(2, side, side, 3)).astype("float32")
    single = isinstance(body.input, dict)
    theirs = keras.ops.convert_to_numpy(body({next(iter(body.input)): images} if single else images))
    made = [
        keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(convert(body, (side, side), 1.0, 0.0)(images))
    ]
    close = 1e-4 * np.abs(theirs).max()
    if name == "siglip":
        np.testing.assert_allclose(made[1], theirs, atol=close)
        return
    np.testing.assert_allclose(made[0].reshape(2, -1, theirs.shape[-1]), theirs[:, prefix:], atol=close)
    if prefix:
        np.testing.assert_allclose(made[1], theirs[:, 0], atol=close)


@pytest.mark.parametrize("name", ["dinov2", "dinov2, registers, gated", "dinov3"])
def test_of_another_size_it_is_kerashub_s_of_that_size(hub, name, tmp_path):
    """A preset of 64 pixels, converted for 96, against the same preset opened by KerasHub for 96."""
    body, prefix = transformer(hub, name, 64)
    body.save_to_preset(str(tmp_path))
    theirs = type(body).from_preset(str(tmp_path), image_shape=(96, 96, 3))
    images = np.random.default_rng(1).normal(size=(2, 96, 96, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(theirs({next(iter(theirs.input)): images}))
    grid = keras.ops.convert_to_numpy(convert(body, (96, 96), 1.0, 0.0)(images)[0])
    close = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(grid.reshape(2, 36, -1), expected[:, prefix:], atol=close)


@pytest.mark.filterwarnings("ignore:Layer '.*' (looks|.of type):UserWarning")
def test_every_converter_is_held_against_its_class(hub):
    for name in set(TRANSFORMERS) - CLASSES.keys():  # all, where this test runs alone
        transformer(hub, name, 64)
    assert set(CLASSES.values()) == set(CONVERTERS)


def test_a_licence_with_terms_of_its_own_is_said_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    said = Listener()
    monkeypatch.delenv("TLKIT_OFFLINE", raising=False)
    monkeypatch.setattr("kagglehub.config.get_cache_folder", lambda: str(tmp_path))

    def download(handle):
        assert "DINOv3 License of Meta" in said.said[-1] and "https://ai.meta.com" in said.said[-1]
        raise ConnectionError("no route to host")

    monkeypatch.setattr("kagglehub.model_download", download)
    with pytest.raises(TlkitError, match="cannot be downloaded"):
        build_backbone("hub:dinov3_vit_small_lvd1689m", story=said)


def test_a_converter_that_does_more_than_scale_is_refused(hub, tmp_path):
    class Mirroring(hub.layers.ResNetImageConverter):
        def call(self, inputs):
            return super().call(inputs)[..., ::-1]

    from tlkit.backbones.hub import _scaling

    with pytest.raises(TlkitError, match="does more than scale and shift"):
        _scaling("hub:x", Mirroring(scale=SCALE))


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


def test_every_command_takes_a_preset(hub, colours, tmp_path, monkeypatch):
    """A tiny DINOv2, from its folder to predictions; the saved files need no KerasHub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    body, converter = small(hub, "dinov2")
    body.save_to_preset("preset")
    converter(image_size=(56, 56), scale=SCALE, offset=OFFSET).save_to_preset("preset")
    images, backbone, size = str(colours), "hub:preset", 28
    table = tlkit.features(images, backbone=backbone, image_size=size, pool="cls+avg", out="features.csv")
    assert table["computed"] == 36
    ranked = tlkit.rank(images, backbones=(backbone, "nano:size=32"), image_size=size, out="rank")
    assert {one["name"] for one in ranked["candidates"]} == {f"{backbone},size={size}", "nano:size=32"}
    assert tlkit.audit(images, backbone=backbone, image_size=size, out="audit")
    chosen = {"backbone": backbone, "image_size": size, "pooling": "cls+avg", "stages": ("head", "top"), "epochs": (1,)}
    tlkit.finetune(images, **chosen, blocks=1, views=1, val=0.25, test=0.25, validate="split", out="run")
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    assert tlkit.evaluate("run", images, out="again")["metrics"]
    assert tlkit.predict("run", [images], out="answers.csv")
    assert tlkit.explain("run", [f"{images}/red/00.png"], method=("integrated", "rollout"), out="explained")
    assert tlkit.export("run", format=("keras", "onnx"), out="exported")


def test_a_preset_met_before_is_not_opened_to_know_which_it_is(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    body, converter_of = small(hub, "dinov2")
    for parent in ("here", "there"):
        body.save_to_preset(str(tmp_path / parent / "preset"))
        converter_of(image_size=(56, 56), scale=SCALE, offset=OFFSET).save_to_preset(str(tmp_path / parent / "preset"))
    monkeypatch.chdir(tmp_path / "here")
    config = FeaturesConfig(images=".", backbone="hub:preset", pool="cls")
    first, _ = feature_source(config, Listener())
    opened = []
    real = presets.build
    monkeypatch.setattr(presets, "build", lambda *given, **more: opened.append(given[0]) or real(*given, **more))
    assert feature_source(config, Listener())[0] == first and not opened
    monkeypatch.chdir(tmp_path / "there")  # where the same path names another preset
    assert feature_source(config, Listener())[0] == first and len(opened) == 1
    changed = tmp_path / "there" / "preset" / "config.json"
    changed.write_text(changed.read_text() + " ")
    feature_source(config, Listener())
    assert len(opened) == 2


def test_a_preset_of_swin_is_opened_without_a_word_of_masks_and_bears_a_head(hub, tmp_path, recwarn):
    with pytest.warns(UserWarning, match="mask"):  # of the windows that are shifted, in every second block
        body = hub.models.SwinTransformerBackbone(
            image_shape=(64, 64, 3), patch_size=4, embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=4
        )
    body.save_to_preset(str(tmp_path))
    hub.layers.SwinTransformerImageConverter(image_size=(64, 64)).save_to_preset(str(tmp_path))
    recwarn.clear()
    backbone = build_backbone(f"hub:{tmp_path}")
    assert not [warning for warning in recwarn if "mask" in str(warning.message)]
    head = build_head(HeadOptions(), backbone.grid_shape, 2)
    composed = classifier.compose(backbone, head, ("a", "b"), InputContract(height=64, width=64, fit="squash"))
    classifier.save(composed, tmp_path / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    again = keras.models.load_model(tmp_path / "model.keras")
    grid = keras.ops.convert_to_numpy(backbone.model(pixels))
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in head.model.weights)
    expected = grid.mean(axis=(1, 2)) @ kernel + bias
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again(pixels)), expected, rtol=1e-4, atol=1e-5)
