"""Every kind of head and task that tlkit can train can be written as ONNX, and says there what it says in Keras.

Backbones are written in test_backbones.py, where each is built once.
"""

import importlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.contracts.lively import CLOSE, FAMILIES, classifier_of, furthest, in_format
from tests.listener import Listener
from tlkit.backbones.build import build_backbone
from tlkit.classifier.facts import read_facts
from tlkit.classifier.familiarity import Familiarity
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import save
from tlkit.exporting import in_onnx
from tlkit.exporting.answer import write_answer
from tlkit.exporting.formats import installed
from tlkit.exporting.golden import draw
from tlkit.extraction import onnx_graph
from tlkit.extraction.watch import watching
from tlkit.options import catalog
from tlkit.options.catalog import FORMATS
from tlkit.options.groups import AnsweringOptions, HeadOptions
from tlkit.tasks.registry import TASKS

pytest.importorskip("tensorflow", reason="ONNX files are made by TensorFlow")

QUICK = {"linear", "mlp", "gru"}


def quick(name):
    return () if name in QUICK else pytest.mark.slow


def test_every_backbone_is_of_a_family():
    assert [name for name in catalog.BACKBONES if not name.startswith(tuple(FAMILIES))] == []


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["openvino", "litert"])
def test_gelu_in_other_runtimes(format_name, tmp_path, monkeypatch):
    """In ConvNeXt's layers; a few narrow ones of them, for the others are the same."""
    if not all(map(installed, FORMATS[format_name].writing)):
        pytest.skip(f"{format_name} cannot be written here")
    sizes = importlib.import_module("keras.src.applications.convnext").MODEL_CONFIGS["tiny"]
    monkeypatch.setitem(sizes, "depths", [1, 1, 1, 1])
    monkeypatch.setitem(sizes, "projection_dims", [16, 24, 32, 48])
    backbone = build_backbone("convnexttiny", weights="none", image_size=32, seed=3)
    assert furthest(*in_format(format_name, classifier_of(backbone), tmp_path / format_name)) < CLOSE


@pytest.fixture(scope="module")
def small(tiny_backbone):
    return build_backbone(str(tiny_backbone), seed=3)


def graph(head, activation, shape):
    """What a head consists of, without its weights."""
    return build_head(HeadOptions(head=head, activation=activation, hidden=(8,)), shape, 3).model.to_json()


@pytest.mark.parametrize("head", [pytest.param(head, marks=quick(head)) for head in catalog.HEADS])
def test_every_head_with_every_activation(small, head, tmp_path):
    """Those of one graph are one; cells of recurrent heads, for example, have their own activations."""
    graphs = {graph(head, activation, small.grid_shape): activation for activation in catalog.ACTIVATIONS}
    assert len(graphs) == (len(catalog.ACTIVATIONS) if head in {"mlp", "conv", "transformer"} else 1)
    for activation in graphs.values():
        classifier = classifier_of(small, head=head, activation=activation)
        assert furthest(*in_format("onnx", classifier, tmp_path / activation)) < CLOSE, activation


@pytest.mark.parametrize(("head", "lacking", "ways"), [("linear", "", 0), ("lstm", "", 0), ("lstm", "LSTM", 1)])
def test_tensorflow_translates_only_what_has_a_layer_that_is_not_known(
    small, head, lacking, ways, tmp_path, monkeypatch
):
    by_tensorflow, asked = in_onnx._by_tensorflow, []
    monkeypatch.delitem(onnx_graph.LAYERS, lacking, raising=False)
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


def test_openvino_writes_nothing_about_the_machine(tmp_path):
    """Neither in tlkit nor in the programs of artifacts; its package would, into the home folder, and send an event."""
    if not installed("openvino"):
        pytest.skip("comes with the extra openvino")
    program = "import sys; from tlkit.exporting import in_openvino\n"
    program += "in_openvino._silent() if sys.argv[1:] else exec(in_openvino.IMPORTS)\n"
    program += "import openvino; assert openvino.convert_model and not sys.modules.get('openvino_telemetry')"
    for words in ([], ["tlkit"]):
        subprocess.run([sys.executable, "-c", program, *words], env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*"))
