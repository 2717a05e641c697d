"""Scenes with an object at a known place, computed once with nano."""

import keras
import pytest

from tests.explanation import drawn
from tlkit.backbones.build import build_backbone
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import InputContract
from tlkit.extraction.engine import build_engine
from tlkit.options.groups import HeadOptions

SIDE = 160


@pytest.fixture(scope="session")
def nano():
    """A backbone with weights, a grid of 5x5."""
    return build_backbone("nano", image_size=SIDE)


@pytest.fixture(scope="session")
def head_on(nano):
    """A function (kind, classes) -> classifier with a small untrained head."""

    def make(kind, classes=drawn.CLASSES):
        head = build_head(HeadOptions(head=kind, hidden=(32,)), nano.grid_shape, len(classes), seed=3)
        return compose(nano, head, tuple(classes), InputContract(height=SIDE, width=SIDE))

    return make


@pytest.fixture(scope="session")
def trained(nano, head_on):
    """A function kind -> classifier whose head is trained on the drawn classes."""
    images, labels, _ = drawn.scenes(240, SIDE, seed=1)
    (grids,) = build_engine(nano.model).run(images)

    def make(kind):
        classifier = head_on(kind)
        seam = classifier.model.get_layer(classifier.facts.grid_layer).output
        head = keras.Model(seam, classifier.model.output)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        head.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
        keras.utils.set_random_seed(0)
        head.fit(grids, labels, epochs=12, verbose=0)
        return classifier

    return make


@pytest.fixture(scope="session")
def unseen():
    """Scenes with an object, not used in training: images, labels, masks."""
    images, labels, masks = drawn.scenes(16, SIDE, seed=2)
    shown = masks.any(axis=(1, 2))
    return images[shown], labels[shown], masks[shown]
