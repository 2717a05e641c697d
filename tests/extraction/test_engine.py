import os

import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.extraction import frozen as tensorflow_frozen
from tlkit.extraction.engine import Engine, build_engine, infer
from tlkit.extraction.frozen import parts


@pytest.fixture(scope="module")
def model(tiny_backbone):
    return build_backbone(str(tiny_backbone)).model


@pytest.mark.parametrize("name", ["auto", "keras"])
def test_an_engine_computes_what_keras_does_for_any_batch(model, name):
    engine = build_engine(model, engine=name)
    for count in (8, 1, 3, 40):
        images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.testing.assert_allclose(engine.run(images)[0], model.predict(images, verbose=0), atol=1e-4)
    assert engine.name and engine.reason


def test_every_output_of_a_model_comes_back_in_its_order(model):
    pooled = keras.layers.GlobalAveragePooling2D()(model.output)
    engine = build_engine(keras.Model(model.input, [pooled, model.output]))
    first, second = engine.run(np.zeros((2, 32, 32, 3), np.uint8))
    assert first.shape == (2, 16) and second.shape == (2, 4, 4, 16)


def test_files_that_cannot_be_read_are_left_out_and_named(model, colours, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    files = [tmp_path / "bad.png", *sorted((colours / "red").iterdir())]
    contract = InputContract(height=32, width=32)
    indices, (outputs,), problems = infer(build_engine(model), files, contract, batch_size=5)
    assert indices.tolist() == list(range(1, 13)) and [index for index, _ in problems] == [0]
    pixels = np.stack([decode(file, contract) for file in files[1:]])
    np.testing.assert_allclose(outputs, model.predict(pixels, verbose=0), atol=1e-4)


def test_nothing_readable_gives_nothing(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    indices, outputs, problems = infer(build_engine(model), [tmp_path / "bad.png"], InputContract(height=32, width=32))
    assert len(indices) == len(outputs) == 0 and len(problems) == 1


def test_the_next_batch_is_begun_before_one_is_waited_for_and_order_is_kept():
    told = []

    def start(batch):
        told.append(f"begin {batch[0]}")
        return lambda: told.append(f"wait {batch[0]}") or (batch,)

    engine = Engine(lambda batch: start(batch)(), "made", "for the test", start=start)
    items = [(item, outputs[0].tolist()) for item, outputs in engine.ahead(range(3), lambda item: np.array([item]))]
    assert items == [(0, [0]), (1, [1]), (2, [2])]
    assert told == ["begin 0", "begin 1", "wait 0", "begin 2", "wait 1", "wait 2"]


def test_other_threads_of_tensorflow_stay_as_they_are(model):
    before = dict(os.environ)
    build_engine(model)
    assert dict(os.environ) == before


def test_a_batch_is_cut_into_small_equal_parts_as_many_for_each_thread():
    sizes = {count: [len(part) for part in parts(np.zeros((count, 1)), 2)] for count in (1, 7, 16, 20, 32)}
    assert sizes == {1: [1], 7: [4, 3], 16: [8, 8], 20: [5] * 4, 32: [8] * 4}


def test_an_engine_that_cannot_compute_a_model_is_refused(model, monkeypatch):
    monkeypatch.setattr(tensorflow_frozen, "MOST_BYTES", 1000)
    assert build_engine(model).name == "keras"
    with pytest.raises(TlkitError, match="weights are more than one graph holds") as caught:
        build_engine(model, engine="tensorflow-frozen")
    assert "--engine auto" in caught.value.hint
