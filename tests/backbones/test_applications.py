import keras
import numpy as np
import pytest

from tlkit.backbones.applications import canonical_name, parse_variants
from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.options.catalog import backbone_row


def variants(spec):
    row = backbone_row(spec)
    return canonical_name(row, parse_variants(row, spec))


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("MobileNetV2", "mobilenetv2"),
        ("mobilenetv2:alpha=0.35", "mobilenetv2:alpha=0.35"),
        ("MobileNetV2: alpha = 1", "mobilenetv2"),
        ("mobilenet:depth_multiplier=1,alpha=.5", "mobilenet:alpha=0.5"),
        ("mobilenetv3small:minimalistic=true", "mobilenetv3small:minimalistic=True"),
        ("vgg16:", "vgg16"),
    ],
)
def test_one_spelling_for_each_choice(spec, name):
    assert variants(spec) == name


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("mobilenetv2:alhpa=0.35", "'alhpa' is not a variant of mobilenetv2", "did you mean 'alpha'?"),
        ("resnet50:alpha=0.5", "'alpha' is not a variant of resnet50", "it has no variants"),
        ("mobilenetv2:include_top=True", "'include_top' is not a variant", "it takes alpha=1.0"),
        ("mobilenetv2:alpha=big", "alpha of mobilenetv2 is 'big', expected a number", "alpha=1.0"),
        ("mobilenetv2:alpha=__import__('os')", "expected a number", ""),
        ("mobilenet:depth_multiplier=1.5", "expected a whole number", ""),
        ("mobilenetv2:alpha", "gives alpha no value", "mobilenetv2:alpha=1.0"),
        ("nano:alpha=1", "'alpha' is not a variant of nano", ""),
    ],
)
def test_variants_are_checked_against_the_constructor(spec, message, hint):
    with pytest.raises(TlkitError) as refused:
        variants(spec)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_unknown_names_get_the_nearest():
    with pytest.raises(TlkitError, match="'resnet5O' is not a backbone") as refused:
        build_backbone("resnet5O")
    assert "resnet50" in refused.value.hint


@pytest.mark.parametrize(("name", "side"), [("xception", 64), ("vgg16", 31), ("inceptionv3", (300, 74))])
def test_too_small_is_refused_before_anything_is_built(name, side):
    with pytest.raises(TlkitError, match="too small") as refused:
        build_backbone(name, weights="none", image_size=side)
    assert "--image-size" in refused.value.hint


def test_sides_may_differ():
    backbone = build_backbone("mobilenet:alpha=0.25", weights="none", image_size=(64, 96))
    assert backbone.image_size == (64, 96)
    assert backbone.grid_shape == (2, 3, 256)


def test_the_seed_decides_random_weights_also_in_a_process_that_built_others():
    first, same, other = (build_backbone("inceptionv3", weights="none", image_size=75, seed=seed) for seed in (1, 1, 2))
    assert first.weights_sha256 == same.weights_sha256 != other.weights_sha256
    assert [layer.name for layer in first.model.layers] == [layer.name for layer in same.model.layers]
    paths = [[variable.path for variable in backbone.model.variables] for backbone in (first, same)]
    assert paths[0] == paths[1]
    assert "conv2d_93/kernel" in paths[0]


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(TlkitError, match="channels_first"):
            build_backbone("vgg16", weights="none")
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("name", ["resnet50", "convnexttiny", "mobilenetv3small"])
def test_the_flat_graph_computes_what_keras_s_own_does(name):
    row = backbone_row(name)
    theirs = getattr(keras.applications, row.attribute)(include_top=False, weights=None, input_shape=(64, 64, 3))
    backbone = build_backbone(name, weights="none", image_size=64)
    theirs.set_weights(backbone.model.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    module = {"resnet50": keras.applications.resnet, "convnexttiny": keras.applications.convnext}.get(
        name, keras.applications.mobilenet_v3
    )
    expected = np.asarray(theirs(module.preprocess_input(pixels.copy())))
    np.testing.assert_allclose(
        np.asarray(backbone.model(pixels)), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    bytes_in = np.asarray(backbone.model(pixels.astype("uint8")))
    assert np.array_equal(bytes_in, np.asarray(backbone.model(pixels)))
