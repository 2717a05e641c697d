"""Every kind of network that tlkit can train can be written as ONNX, and says there what it says in Keras.

Weights are random. Statistics of BatchNorm are those of the images and scales of layers are not tiny, so that every
layer has a part in the numbers that are compared.
"""

import gc
import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from tests.listener import Listener
from tlkit.backbones.build import build_backbone
from tlkit.classifier.facts import read_facts
from tlkit.classifier.familiarity import Familiarity
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose, save
from tlkit.data.dataset import InputContract
from tlkit.exporting import in_onnx
from tlkit.exporting.answer import write_answer
from tlkit.exporting.formats import installed
from tlkit.exporting.golden import draw, draw_inputs
from tlkit.exporting.runtimes import Runtime
from tlkit.exporting.subject import in_keras
from tlkit.exporting.writers import write
from tlkit.extraction.watch import watching
from tlkit.options import catalog
from tlkit.options.catalog import FORMATS
from tlkit.options.groups import AnsweringOptions, HeadOptions
from tlkit.tasks.registry import TASKS
from tlkit.tasks.single import SINGLE

pytest.importorskip("tensorflow", reason="ONNX files are made by TensorFlow")

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
QUICK = {"nano", "linear-linear", "mlp-gelu", "transformer-gelu", "gru-tanh"}


def quick(name):
    return () if name in QUICK else pytest.mark.slow


def classifier_of(backbone, task=SINGLE, **head):
    """A head on a backbone, both with random weights, lively."""
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


def test_every_backbone_is_of_a_family():
    assert [name for name in catalog.BACKBONES if not name.startswith(tuple(FAMILIES))] == []


@pytest.mark.parametrize("name", [pytest.param(name, marks=quick(name)) for name in FAMILIES.values()])
def test_a_backbone_of_each_family(name, tmp_path):
    row = catalog.backbone_row(name)
    backbone = build_backbone(name, weights="none", image_size=row.minimum, seed=3)
    assert furthest(*in_format("onnx", classifier_of(backbone), tmp_path / "onnx")) < CLOSE
    keras.utils.clear_session()
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["openvino", "litert"])
def test_gelu_in_other_runtimes(format_name, tmp_path):
    if not all(map(installed, FORMATS[format_name].writing)):
        pytest.skip(f"{format_name} cannot be written here")
    backbone = build_backbone("convnexttiny", weights="none", image_size=32, seed=3)
    assert furthest(*in_format(format_name, classifier_of(backbone), tmp_path / format_name)) < CLOSE


@pytest.fixture(scope="module")
def small(tiny_backbone):
    return build_backbone(str(tiny_backbone), seed=3)


HEADS = [
    pytest.param(head, activation, marks=quick(f"{head}-{activation}"), id=f"{head}-{activation}")
    for head in catalog.HEADS
    for activation in catalog.ACTIVATIONS
]


@pytest.mark.parametrize(("head", "activation"), HEADS)
def test_every_head_with_every_activation(small, head, activation, tmp_path):
    classifier = classifier_of(small, head=head, activation=activation)
    assert furthest(*in_format("onnx", classifier, tmp_path / "onnx")) < CLOSE


@pytest.mark.parametrize(("head", "ways"), [("linear", 0), ("lstm", 1)])
def test_tensorflow_translates_only_what_has_a_layer_that_is_not_known(small, head, ways, tmp_path, monkeypatch):
    by_tensorflow, asked = in_onnx._by_tensorflow, []
    monkeypatch.setattr(in_onnx, "_by_tensorflow", lambda *given: (asked.append(1), by_tensorflow(*given))[1])
    classifier = classifier_of(small, head=head)
    classifier = classifier.knowing(Familiarity.__new__(Familiarity))  # whatever it knows, features are given then
    found, expected = in_format("onnx", classifier, tmp_path / "onnx")
    assert len(asked) == ways
    assert sorted(found) == sorted(expected) == ["features", "logits"]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=CLOSE * np.abs(values).max())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_answering_file_of_each_task(small, task, tmp_path):
    """By way of a run's own files: the same logits as the engine of Keras."""
    classifier = replace(classifier_of(small, task, head="mlp", activation="gelu"), familiarity=None)
    model, story = tmp_path / "model.keras", Listener()
    save(classifier, model)
    assert write_answer(classifier, model, story), story.said
    images = draw(*small.image_size)
    ours, theirs = (
        watching(model, read_facts(model), (), AnsweringOptions(engine=engine), story).run(images)[0]
        for engine in ("onnx", "keras")
    )
    assert read_facts(model).task is task
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_onnx_runtime_writes_nothing_about_the_machine(tmp_path):
    """From 1.29 on its import alone leaves a device ID and an event for its maker, unless told not to before."""
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | places
    subprocess.run([sys.executable, "-c", "import tlkit, onnxruntime"], env=environment, check=True)
    assert not list(tmp_path.rglob("*"))
