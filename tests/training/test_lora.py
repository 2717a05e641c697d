import keras
import numpy as np
import pytest

from tlkit.backbones.blocks import Block
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.base.errors import TlkitError
from tlkit.options.commands import FinetuneConfig
from tlkit.training import lora
from tlkit.training.checkpoint import Checkpoint
from tlkit.training.optimizer import Updates, unfreeze_and_compile
from tlkit.training.plan import Stage, parameters

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.float32)
STAGE = {"method": "gradient", "source": "pixels", "cut": "", "views": 0, "epochs": 1, "learning_rate": 1.0}
STAGE |= {"parameters": 0, "stored_bytes": 0, "seconds": 1.0, "reason": "because"}
TOP = Stage(name="top", blocks=1, **STAGE)
OPTIONS = FinetuneConfig(images="x", optimizer="sgd", weight_decay=0.0, layer_decay=1.0, ema=0.0, lora=2)


def network(tiny_backbone):
    backbone = build_backbone(str(tiny_backbone))
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool_avg")(backbone.model.output)
    return backbone, keras.Model(backbone.model.input, keras.layers.Dense(2, name="logits")(pooled))


def train(backbone, model, blocks=1):
    settings = {"blocks": backbone.blocks, "learn": blocks, "updates": Updates(0.5, 4)}
    unfreeze_and_compile(model, OPTIONS, **settings)
    for _ in range(4):
        model.train_on_batch(IMAGES, np.eye(2, dtype=np.float32)[np.arange(8) % 2])


def configs(model):
    return [
        {name: value for name, value in layer.get_config().items() if name != "trainable"} for layer in model.layers
    ]


def values(model):
    return {weight.path: np.array(weight) for weight in model.weights}


def test_factors_and_head_move_and_afterwards_the_kernel_holds_what_they_learned(tiny_backbone, tmp_path):
    backbone, model = network(tiny_backbone)
    before, outside = values(model), configs(model)
    with lora.adapted(TOP, backbone, 2, seed=0):
        train(backbone, model)
        within, logits = values(model), np.array(model(IMAGES))
    moved = {path for path, value in before.items() if not np.array_equal(value, within[path])}
    assert moved == {"logits/kernel", "logits/bias"}
    assert {path for path in within if path not in before} == {
        "block3_conv/lora_kernel_a",
        "block3_conv/lora_kernel_b",
    }
    after = values(model)
    assert after.keys() == before.keys()
    assert {path for path in before if not np.array_equal(before[path], after[path])} == moved | {"block3_conv/kernel"}
    difference = (after["block3_conv/kernel"] - before["block3_conv/kernel"]).reshape(-1, 16)
    assert np.linalg.matrix_rank(difference, tol=1e-4 * np.linalg.norm(difference)) <= 2
    assert configs(model) == outside
    model.save(tmp_path / "plain.keras")
    plain = keras.models.load_model(tmp_path / "plain.keras", compile=False)
    assert "lora" not in str(plain.get_config())
    np.testing.assert_allclose(np.array(plain(IMAGES)), logits, atol=1e-5)
    train(backbone, model)  # what was adapted learns again as ever, biases too
    again = values(model)
    assert not np.array_equal(again["block3_conv/bias"], after["block3_conv/bias"])


def test_a_checkpoint_gives_factors_to_who_has_them_and_merged_kernels_to_others(tiny_backbone, tmp_path):
    backbone, model = network(tiny_backbone)
    start = [np.array(weight) for weight in model.weights]
    checkpoint = Checkpoint(tmp_path)
    with lora.adapted(TOP, backbone, 2, seed=0):
        train(backbone, model)
        kept, logits = values(model), np.array(model(IMAGES))
        file = checkpoint.save_weights(model, "one")
    other, same = network(tiny_backbone)
    same.set_weights(start)
    with lora.adapted(TOP, other, 2, seed=5):
        train(other, same)
        checkpoint.load_weights(same, file)
        for path, value in values(same).items():
            np.testing.assert_array_equal(value, kept[path], err_msg=path)
    _, plain = network(tiny_backbone)
    checkpoint.load_weights(plain, file)
    np.testing.assert_allclose(np.array(plain(IMAGES)), logits, atol=1e-5)


def test_the_plan_counts_what_learns(tiny_backbone):
    backbone, model = network(tiny_backbone)
    head = [model.get_layer("logits")]
    stage = lora.planned(TOP, backbone, head, 2)
    with lora.adapted(TOP, backbone, 2, seed=0):
        unfreeze_and_compile(model, OPTIONS, blocks=backbone.blocks, learn=1, updates=Updates(1.0, 1))
        learning = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert stage.parameters == learning == parameters(head) + 2 * (3 * 3 * 12 + 16)
    assert "rank 2 on 1 layers (248 of the parameters)" in stage.reason
    assert lora.planned(TOP, backbone, head, None) is TOP


def test_layers_without_factors_are_refused():
    images = keras.Input((32, 32, 3))
    tensor = keras.layers.Conv2D(4, 3, strides=2, name="a_conv")(images)
    tensor = keras.layers.DepthwiseConv2D(3, strides=2, name="b_depthwise")(tensor)
    model = keras.Model(images, tensor)
    blocks = (Block("a", ("a_conv",), "a_conv"), Block("b", ("b_depthwise",), "b_depthwise"))
    backbone = Backbone("own", model, (32, 32), "identity", "none", "", blocks)
    with pytest.raises(TlkitError, match="no layer of the head and the last 1 block of own"):
        lora.planned(TOP, backbone, (), 4)


@pytest.mark.parametrize("options", [{"stages": ("head",)}, {"batchnorm": "train"}])
def test_options_that_contradict_it(options):
    with pytest.raises(TlkitError, match="--lora 4"):
        FinetuneConfig(images="x", lora=4, **options).check()
