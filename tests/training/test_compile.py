import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.options.groups import TrainingOptions
from tlkit.tasks.single import squared_error
from tlkit.training.optimizer import Updates, build_loss, unfreeze_and_compile


def test_squared_error_is_brier_by_hand():
    one_hot = np.array([[1, 0], [0, 1]], np.float32)
    logits = np.log(np.array([[0.8, 0.2], [0.6, 0.4]], np.float32))
    found = keras.ops.convert_to_numpy(squared_error(one_hot, logits))
    np.testing.assert_allclose(found, [0.08, 0.72], rtol=1e-5)


def test_label_smoothing_reaches_the_loss():
    one_hot, logits = np.array([[1, 0]], np.float32), np.array([[3, -3]], np.float32)
    plain = float(build_loss(TrainingOptions(label_smoothing=0.0))(one_hot, logits))
    smooth = float(build_loss(TrainingOptions(label_smoothing=0.2))(one_hot, logits))
    assert smooth == pytest.approx(plain + 0.1 * 6, rel=1e-4)


def test_a_focal_loss_cares_less_for_what_is_easy():
    one_hot = np.array([[1, 0]], np.float32)
    loss = build_loss(TrainingOptions(loss="focal"))
    easy, hard = (float(loss(one_hot, np.array([[x, -x]], np.float32))) for x in (3, -3))
    assert hard / easy > 1e4


def step(model):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 32, 32, 3)).astype(np.float32)
    model.train_on_batch(images, np.eye(2, dtype=np.float32)[random.integers(0, 2, 8)])


@pytest.mark.parametrize("learn", [1, "all"])
@pytest.mark.parametrize("batchnorm", ["frozen", "train"])
def test_what_should_move_moves_and_nothing_else(tiny_backbone, learn, batchnorm):
    backbone = build_backbone(str(tiny_backbone))
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool_avg")(backbone.model.output)
    model = keras.Model(backbone.model.input, keras.layers.Dense(2, name="logits")(pooled))
    options = TrainingOptions(batchnorm=batchnorm, optimizer="sgd", weight_decay=0.0)
    unfreeze_and_compile(model, options, blocks=backbone.blocks, learn=learn, updates=Updates(0.5, 2))
    before = {weight.path: weight.numpy().copy() for weight in model.weights}
    step(model)
    step(model)  # the first step of the warm-up has rate zero
    moved = {path.split("/")[0] for path, value in before.items() if not (value == _now(model, path)).all()}
    learning = backbone.blocks[-1:] if learn == 1 else backbone.blocks
    layers = [model.get_layer(name) for block in learning for name in block.layers if model.get_layer(name).weights]
    expected = {layer.name for layer in layers if batchnorm == "train" or "bn" not in layer.name}
    assert moved == expected | {"logits"}


def _now(model, path):
    return next(weight for weight in model.weights if weight.path == path).numpy()
