"""The suffix that a stage trains equals the network: same logits, same gradients, for any cut."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from tests.contracts.lively import quickly_drawn
from tlkit.backbones.blocks import set_trainable
from tlkit.backbones.build import build_backbone
from tlkit.base.story import Silence
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.decode import decode
from tlkit.data.scan import scan
from tlkit.data.views import Augmentation
from tlkit.extraction.engine import build_engine
from tlkit.extraction.source import FeatureSource
from tlkit.options.commands import FinetuneConfig
from tlkit.training.optimizer import Updates, unfreeze_and_compile
from tlkit.training.plan import Stage, planned_blocks
from tlkit.training.stages import Material, frozen_model, logits, stage_model

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
    with quickly_drawn():
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


def test_the_logits_from_the_cut_are_those_of_the_whole_and_leave_its_features_with_the_store(colours, empty_cache):
    given, dataset = material("mobilenetv2:alpha=0.35", 64), scan(str(colours))
    stage, contract = top(given), given.classifier.facts.contract
    images = np.stack([decode(dataset.file(row), contract) for row in range(len(dataset))])
    cut = build_engine(frozen_model(stage, given)).run(images)[0]
    given = replace(given, dataset=dataset, stored={"cut": cut})
    expected = keras.ops.convert_to_numpy(given.classifier.model(images.astype(np.float32), training=False))
    np.testing.assert_allclose(logits(stage, given, Silence()), expected, atol=1e-5 * np.abs(expected).max())
    source = FeatureSource.of_classifier(given.classifier)
    assert not source.stored(dataset.sha256).lacking.any()
    features = source.engine.run(images)[0]
    found = source.rows(dataset)[np.arange(len(dataset))]
    np.testing.assert_allclose(found, features, atol=1e-5 * features.max())


def test_features_that_the_store_has_are_not_kept_twice(colours, empty_cache):
    dataset = scan(str(colours))
    source = FeatureSource.of_classifier(material("mobilenetv2:alpha=0.35", 64).classifier)
    rows = np.ones((len(dataset), 1280), np.float32)
    for value in (1, 2):
        with source.keeping(dataset, Silence()) as keep:
            keep(np.arange(len(dataset)), value * rows)
    assert (source.stored(dataset.sha256).pooled() == 1).all()
