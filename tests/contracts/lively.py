"""Networks of random weights: drawn in no time, lively, and as classifiers written in a format and held against Keras."""

import importlib
from contextlib import contextmanager

import keras
import numpy as np
import pytest

from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import InputContract
from tlkit.exporting.golden import draw, draw_inputs
from tlkit.exporting.runtimes import Runtime
from tlkit.exporting.writers import in_keras, write
from tlkit.options.catalog import FORMATS
from tlkit.options.groups import HeadOptions
from tlkit.tasks.single import SINGLE

# One of each family, by how its names begin; its other members repeat the same layers.
FAMILIES = {
    "convnext": "convnexttiny",
    "densenet": "densenet121",
    "efficientnetb": "efficientnetb0",
    "efficientnetv2": "efficientnetv2b0",
    "inceptionresnet": "inceptionresnetv2",
    "inceptionv3": "inceptionv3",
    "mobilenet": "mobilenet",
    "mobilenetv2": "mobilenetv2",
    "mobilenetv3": "mobilenetv3small",
    "nano": "nano",
    "nasnet": "nasnetmobile",
    "resnet": "resnet50",
    "resnet50v2": "resnet50v2",
    "vgg": "vgg16",
    "xception": "xception",
}
CLOSE = 5e-3  # of the largest logit: random networks amplify rounding; a wrong layer is wrong by all of it


@contextmanager
def quickly_drawn():
    """Inside, weights of new layers are pieces of one row of random numbers: to draw a billion of them takes a minute.

    Layers begin at places of their own, so that to mix them up changes what a network says.
    """
    random, place = np.random.default_rng(5), 0
    length = 2**17 - 1  # a prime: no kernel repeats itself along its channels
    rows = {"uniform": random.random(length, np.float32), "normal": random.standard_normal(length, np.float32)}
    rows["truncated_normal"] = rows["normal"].clip(-2, 2)
    twice = {kind: np.tile(row, 2) for kind, row in rows.items()}

    def piece(kind, shape, low, scale):
        nonlocal place
        begun, size = place % length, int(np.prod(shape))
        place += size
        drawn = twice[kind][begun : begun + size] if size <= length else np.resize(twice[kind][begun:][:length], size)
        return keras.ops.convert_to_tensor((low + scale * drawn).reshape(shape))

    def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
        return piece("uniform", shape, np.float32(minval), np.float32(maxval - minval))

    def around(kind):
        return lambda shape, mean=0.0, stddev=1.0, dtype=None, seed=None: piece(
            kind, shape, np.float32(mean), np.float32(stddev)
        )

    drawing = importlib.import_module("keras.src.initializers.random_initializers").random
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "uniform", uniform)
        for kind in ("normal", "truncated_normal"):
            patch.setattr(drawing, kind, around(kind))
        yield


def classifier_of(backbone, task=SINGLE, **head):
    """A head on a backbone, both with random weights.

    Statistics of BatchNorm are those of the images and scales of layers are not tiny, so that every layer has a part in
    the numbers that are compared.
    """
    made = build_head(HeadOptions(**{"hidden": (8,)} | head), backbone.grid_shape, 3)
    height, width = backbone.image_size
    classifier = compose(backbone, made, ("a", "b", "c"), InputContract(height=height, width=width), task)
    for layer in classifier.model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the statistics become those of the next batch
    for weight in classifier.model.trainable_weights:
        value = np.asarray(weight)
        if value.ndim == 1 and 0 < abs(value).max() < 1e-3:  # ConvNeXt scales its blocks by 1e-6
            weight.assign(np.full_like(value, 0.3))
    classifier.model(draw(height, width).astype("float32"), training=True)
    return classifier


def furthest(found, expected):
    """The greatest difference of logits, as a fraction of the largest."""
    return np.abs(found["logits"] - expected["logits"]).max() / np.abs(expected["logits"]).max()


def in_format(name, classifier, folder):
    """What a format's file gives for the drawn images in its own runtime, and what Keras gives."""
    folder.mkdir(exist_ok=True)
    write(FORMATS[name], classifier, folder / FORMATS[name].model, None)
    images = draw_inputs(classifier.facts)
    return Runtime(FORMATS[name], folder)(images), in_keras(classifier, images)
