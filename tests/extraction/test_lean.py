"""Networks computed with fewer multiplications where there are enough images; the rows are the same."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from tests.contracts.lively import quickly_drawn
from tests.listener import Listener
from tlkit.backbones import arithmetic
from tlkit.backbones.build import build_backbone
from tlkit.backbones.graph import calls
from tlkit.base.machine import usable_cores
from tlkit.data.dataset import InputContract
from tlkit.data.scan import scan
from tlkit.extraction import engine, onnx_engine, onnx_graph, translate
from tlkit.extraction.source import FeatureSource, Tap

pytest.importorskip("onnxruntime", reason="comes with tlkit")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends compute for themselves")


@pytest.fixture
def source(tiny_backbone, monkeypatch, empty_cache):
    """A grid and its mean, with the rewritten network always considered worthwhile."""
    monkeypatch.setattr(arithmetic, "FASTER", 0.0)
    monkeypatch.setattr(arithmetic, "gain", lambda model: 1.0)
    monkeypatch.setattr(engine, "START", 40 / engine.RATE / usable_cores())  # forty images and more
    backbone = build_backbone(str(tiny_backbone))
    last = backbone.model.layers[-1].name
    return FeatureSource.of_backbone(backbone, InputContract(height=32, width=32), Tap(last, "avg"), Tap(last))


def test_enough_images_are_computed_so_and_the_numbers_are_those_of_keras(source):
    found = source.engine_for(40)
    assert found.name == "onnx" and "fewer multiplications" in found.reason
    pixels = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    for values, expected in zip(found.run(pixels), source.built(pixels), strict=True):
        np.testing.assert_allclose(values, np.asarray(expected), atol=1e-4)


def test_fewer_are_not_worth_writing_it(source):
    assert source.engine_for(39).name == "tensorflow-frozen"


def test_rows_are_stored_where_those_of_another_engine_are(source, colours):
    dataset = scan(colours)
    first = source.extract(dataset)
    assert first.passes and "fewer multiplications" not in first.engine  # few images
    more = source.extract(dataset, story=Listener())
    assert more.passes == 0


@pytest.mark.parametrize("name", ["tensorflow-frozen", "keras"])
def test_an_engine_asked_for_by_name_is_taken(source, name):
    assert replace(source, engine_name=name).engine_for(1000).name == name


def test_a_layer_without_translation_and_numbers_too_far_away_leave_it_to_tensorflow(source, monkeypatch):
    images = keras.Input((32, 32, 3))
    wider = keras.layers.UpSampling2D(2)(images)
    strange = replace(source, model=keras.Model(images, keras.layers.Conv2D(4, 3)(wider)), outputs=("wider",))
    assert strange.engine_for(1000).name == "tensorflow-frozen"
    monkeypatch.setattr(translate, "CLOSE", 0.0)
    assert source.engine_for(1000).name == "tensorflow-frozen"


@pytest.mark.parametrize(
    ("side", "channels", "filters", "taken"),
    [(28, 512, 512, True), (28, 128, 128, True), (224, 64, 64, False), (1, 512, 512, False), (5, 64, 2048, False)],
)
def test_it_is_taken_where_its_sums_cost_less_than_the_products_it_spares(side, channels, filters, taken):
    images = keras.Input((side, side, channels))
    model = keras.Model(images, keras.layers.Conv2D(filters, 3, padding="same")(images))
    assert (arithmetic.spared(calls(model)[-1]) > 0) == taken


@pytest.mark.parametrize(
    ("name", "least", "most"), [("vgg16", 0.25, 0.5), ("resnet50", 0.0, 0.1), ("mobilenetv2", -0.1, 0.0)]
)
def test_what_a_backbone_gains(name, least, most):
    with quickly_drawn():
        model = build_backbone(name, weights="none", image_size=(224, 224)).model
    assert least < arithmetic.gain(model) / arithmetic.operations(model.layers) < most
    assert (engine.worth_from(model) is None) == (name == "mobilenetv2")


@pytest.mark.parametrize(("side", "at_once"), [(32, "4"), (256, "2"), (512, "1")])
def test_a_file_says_how_many_images_a_core_computes_at_once_and_so_many_are(side, at_once, monkeypatch):
    """8 channels of float32 are 0.03, 2 and 8 MiB per image: as many images as fit into 4 MiB."""
    monkeypatch.setattr(onnx_graph, "ROOM", 2**22)
    images = keras.Input((side, side, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 1)(images))
    written = onnx_graph.to_onnx(keras.Model(images, pooled), lean=True)
    assert {each.key: each.value for each in written.metadata_props} == {"images_at_once": at_once}
    asked = []

    def watched(path, threads, *, open_file=onnx_engine.open_file):
        session = open_file(path, threads)

        class Watched:
            get_inputs, get_outputs, get_modelmeta = session.get_inputs, session.get_outputs, session.get_modelmeta

            def run(self, names, given):
                asked.append(len(given["images"]))
                return session.run(names, given)

        return Watched()

    monkeypatch.setattr(onnx_engine, "open_file", watched)
    pixels = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    (found,) = onnx_engine.open_parts(written.SerializeToString(), cores=2)(pixels)().values()
    assert set(asked) == {int(at_once)} and len(found) == 8
