"""The suffix that a stage trains is the network: same logits, same gradients, whatever lies before the cut."""

import keras
import numpy as np
import pytest

from tlkit.backbones.blocks import set_trainable
from tlkit.backbones.build import build_backbone
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.views import Augmentation
from tlkit.extraction.engine import build_engine
from tlkit.options.commands import FinetuneConfig
from tlkit.training.optimizer import Updates, unfreeze_and_compile
from tlkit.training.plan import Stage, planned_blocks
from tlkit.training.stages import Material, frozen_model, stage_model

NETWORKS = [
    ("mobilenetv2:alpha=0.35", 64),
    ("resnet50", 64),
    pytest.param("inceptionv3", 75, marks=pytest.mark.slow),
    pytest.param("vgg16", 64, marks=pytest.mark.slow),
    pytest.param("efficientnetb0", 64, marks=pytest.mark.slow),
    pytest.param("convnexttiny", 64, marks=pytest.mark.slow),
]


def material(name, side):
    config = FinetuneConfig(images="images")
    backbone = build_backbone(name, weights="none", image_size=side, seed=2)
    head = build_head(config, backbone.grid_shape, 3, seed=2)
    return Material(
        config=config,
        backbone=backbone,
        head=head,
        classifier=compose(backbone, head, ("a", "b", "c"), InputContract(height=side, width=side)),
        dataset=Dataset.__new__(Dataset),
        splits=Splits(np.empty(0, np.int8), ""),
        stored={},
        augmentation=Augmentation(),
        views={},
        groups=np.empty(0),
    )


def top(material):
    blocks = planned_blocks(material.backbone)
    return Stage(
        name="top",
        method="gradient",
        source="cut",
        blocks=blocks,
        cut=material.backbone.blocks[-blocks - 1].output,
        views=1,
        epochs=1,
        learning_rate=1e-3,
        parameters=0,
        stored_bytes=0,
        seconds=0,
        reason="",
    )


def gradients(model, inputs, labels, variables):
    tf = pytest.importorskip("tensorflow")
    with tf.GradientTape() as tape:
        logits = model(inputs, training=False)  # no dropout; BatchNorm is frozen
        loss = keras.ops.mean(keras.losses.categorical_crossentropy(labels, logits, from_logits=True))
    return [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, variables)]


@pytest.mark.parametrize(("name", "side"), NETWORKS)
def test_the_stitched_network_has_the_logits_and_the_gradients_of_the_whole(name, side):
    given = material(name, side)
    stage, whole = top(given), given.classifier.model
    suffix, images = stage_model(stage, given), np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8)
    prefix, pixels = frozen_model(stage, given), images.astype(np.float32)
    expected = keras.ops.convert_to_numpy(whole(pixels, training=False))
    found = keras.ops.convert_to_numpy(suffix(prefix(pixels, training=False), training=False))
    assert np.abs(found - expected).max() < 1e-5
    stored = build_engine(prefix).run(images)[0]  # as extraction computes it, BatchNorm folded into convolutions
    found = keras.ops.convert_to_numpy(suffix(stored, training=False))
    assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())

    unfreeze_and_compile(
        suffix, given.config, blocks=given.backbone.blocks, learn=stage.blocks, updates=Updates(1e-3, 1)
    )
    set_trainable(whole, stage.blocks, blocks=given.backbone.blocks)
    variables, labels = suffix.trainable_variables, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    assert len(variables) > 2
    of_the_suffix = gradients(suffix, stored, labels, variables)
    of_the_whole = gradients(whole, pixels, labels, variables)
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in of_the_whole))
    for one, other in zip(of_the_suffix, of_the_whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * norm)
