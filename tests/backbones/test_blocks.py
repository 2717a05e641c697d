import keras
import numpy as np
import pytest

from tlkit.backbones.blocks import find_blocks, set_trainable
from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError


def names(spec, image_size):
    return [block.name for block in build_backbone(spec, weights="none", image_size=image_size).blocks]


def test_vgg_s_blocks_are_its_five_stages():
    assert names("vgg16", 64) == ["block1", "block2", "block3", "block4", "block5"]


def test_the_blocks_of_resnet_are_its_residual_blocks():
    backbone = build_backbone("resnet50", weights="none", image_size=64)
    assert [block.name for block in backbone.blocks[-3:]] == ["conv5_block1", "conv5_block2", "conv5_block3"]
    assert [block.output for block in backbone.blocks[-3:]] == [f"conv5_block{number}_out" for number in (1, 2, 3)]
    assert len(backbone.blocks) == 1 + 3 + 4 + 6 + 3


def test_preactivations_belong_to_the_block_they_prepare():
    blocks = build_backbone("resnet50v2", weights="none", image_size=64).blocks
    assert blocks[-2].layers[0] == "conv5_block2_preact_bn"
    assert blocks[-1].output == "post_relu"
    assert len(blocks) == 17


def test_inception_s_last_blocks_are_its_mixed_modules():
    blocks = build_backbone("inceptionv3", weights="none", image_size=96).blocks
    assert [block.output for block in blocks[-2:]] == ["mixed9", "mixed10"]


def test_densenet_has_dense_layers_and_transitions():
    found = names("densenet121", 64)
    assert len(found) == 1 + 6 + 1 + 12 + 1 + 24 + 1 + 16
    assert found[-17:-15] == ["pool4", "conv5_block1"]


@pytest.mark.parametrize("side", [96, 160, 224])
def test_inverted_residual_blocks_whatever_the_image_size(side):
    found = names("mobilenetv2:alpha=0.35", side)
    assert found[1:-1] == [f"block_{number}" for number in range(1, 16)]
    assert len(found) == 17


def test_squeeze_and_excite_stays_inside_its_block():
    found = names("efficientnetb0", 64)
    assert found[-5:] == ["block6b", "block6c", "block6d", "block7a", "top"]
    assert len(found) == 18
    assert names("mobilenetv3small", 64)[-4:] == ["expanded_conv_8", "expanded_conv_9", "expanded_conv_10", "conv_1"]


def test_a_plain_chain_is_cut_where_the_resolution_falls(classifier, tmp_path):
    classifier().save(tmp_path / "mine.keras")
    blocks = build_backbone(tmp_path / "mine.keras").blocks
    assert [block.layers for block in blocks] == [
        ("images", "rescaling", "conv2d", "max_pooling2d"),
        ("conv2d_1", "batch_normalization", "re_lu", "max_pooling2d_1"),
    ]


def test_a_layer_used_twice_is_never_cut_between_its_uses():
    images = keras.Input((8, 8, 3), name="images")
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    grid = keras.layers.Conv2D(2, 3, name="after")(shared(keras.layers.ReLU(name="between")(shared(images))))
    blocks = find_blocks(keras.Model(images, grid))
    (owner,) = [block for block in blocks if "shared" in block.layers]
    assert {"shared", "between"} <= set(owner.layers)


@pytest.fixture
def network():
    """Convolutions and BatchNorm in three blocks, and a head."""
    tensor = images = keras.Input((16, 16, 3), name="images")
    for number in (1, 2, 3):
        name = f"block{number}"
        tensor = keras.layers.Conv2D(4, 3, strides=2, padding="same", name=f"{name}_conv")(tensor)
        tensor = keras.layers.BatchNormalization(name=f"{name}_bn")(tensor)
        tensor = keras.layers.ReLU(name=f"{name}_relu")(tensor)
    blocks = find_blocks(keras.Model(images, tensor))
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool")(tensor)
    return keras.Model(images, keras.layers.Dense(2, name="logits")(pooled)), blocks


def values(model):
    return {variable.path: keras.ops.convert_to_numpy(variable.value) for variable in model.weights}


def moved_by_training(model):
    """Names of the weights that two actual steps of fit change."""
    random = np.random.default_rng(0)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = values(model)
    images, labels = random.uniform(0, 255, (16, *model.input_shape[1:])), random.integers(0, 2, 16)
    model.fit(images.astype("float32"), labels, batch_size=8, epochs=1, verbose=0)
    after = values(model)
    return {path for path, value in before.items() if not np.array_equal(value, after[path])}


CONVOLUTION = ("conv/kernel", "conv/bias")
NORM = ("bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance")
LOGITS = {"logits/kernel", "logits/bias"}


@pytest.mark.parametrize("blocks_that_learn", [0, 1, 2, "all"])
def test_what_should_move_moves_and_what_should_not_does_not(network, blocks_that_learn):
    model, blocks = network
    set_trainable(model, blocks_that_learn, blocks=blocks)
    learning = range(4 - (3 if blocks_that_learn == "all" else blocks_that_learn), 4)
    # a bias right before a BatchNorm still learns here: the norm is frozen and no longer cancels it
    assert moved_by_training(model) == LOGITS | {f"block{n}_{weight}" for n in learning for weight in CONVOLUTION}


def test_batchnorm_learns_only_in_blocks_that_learn(network):
    model, blocks = network
    set_trainable(model, 1, "train", blocks=blocks)
    moved = moved_by_training(model)
    assert {f"block3_{weight}" for weight in NORM} <= moved
    assert not {path for path in moved if path.startswith(("block1", "block2"))}


def test_frozen_again_after_learning(network):
    model, blocks = network
    set_trainable(model, "all", "train", blocks=blocks)
    assert moved_by_training(model) > LOGITS
    set_trainable(model, 0, blocks=blocks)
    assert moved_by_training(model) == LOGITS
    model.trainable = False
    set_trainable(model, 1, blocks=blocks)
    assert {layer.name for layer in model.layers if layer.trainable} >= {"block3_conv", "block3_relu", "logits"}
    assert not model.get_layer("block3_bn").trainable


def test_moving_statistics_of_a_real_network_are_bit_identical():
    backbone = build_backbone("mobilenetv2:alpha=0.35", weights="none", image_size=32)
    keras.utils.set_random_seed(0)
    logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(backbone.model.outputs[0]))
    model = keras.Model(backbone.model.inputs[0], logits)
    set_trainable(model, "all", blocks=backbone.blocks)
    moved = moved_by_training(model)
    # not all: with random weights and no BatchNorm to rescale them, some gradients are below float32's resolution
    assert {path for path in moved if path.startswith(("Conv_1", "block_"))}
    assert not {path for path in moved if path.endswith(("moving_mean", "moving_variance", "gamma", "beta"))}


def test_a_suffix_takes_the_blocks_of_the_whole():
    backbone = build_backbone("mobilenetv2:alpha=0.35", weights="none", image_size=32)
    cut = backbone.model.get_layer(backbone.blocks[-3].output)
    suffix = keras.Model(cut.output, backbone.model.outputs[0])
    set_trainable(suffix, 1, blocks=backbone.blocks)
    learning = {layer.name for layer in suffix.layers if layer.trainable and layer.weights}
    assert learning == {"block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1"}


def test_more_blocks_than_there_are_is_an_error(network):
    model, blocks = network
    with pytest.raises(TlkitError, match="4 blocks cannot learn") as refused:
        set_trainable(model, 4, blocks=blocks)
    assert "between 0 and 3" in refused.value.hint
