import os
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests.listener import Listener
from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.data.scan import scan
from tlkit.extraction import frozen as tensorflow_frozen
from tlkit.extraction import keras_jit, onnx_engine
from tlkit.extraction.engine import Engine, build_engine, enduring, infer
from tlkit.extraction.frozen import parts
from tlkit.extraction.source import FeatureSource


@pytest.fixture(scope="module")
def model(tiny_backbone):
    return build_backbone(str(tiny_backbone)).model


@pytest.mark.parametrize("name", ["auto", "keras"])
def test_an_engine_computes_what_keras_does_for_any_batch(model, name):
    engine = build_engine(model, engine=name)
    for count in (8, 1, 3, 40):
        images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.testing.assert_allclose(engine.run(images)[0], np.asarray(model(images)), atol=1e-4)
    assert engine.name and engine.reason


def test_every_output_of_a_model_comes_back_in_its_order(model):
    pooled = keras.layers.GlobalAveragePooling2D()(model.output)
    engine = build_engine(keras.Model(model.input, [pooled, model.output]))
    first, second = engine.run(np.zeros((2, 32, 32, 3), np.uint8))
    assert first.shape == (2, 16) and second.shape == (2, 4, 4, 16)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the frozen graph is TensorFlow's")
def test_where_it_was_sent_batches_are_cut_as_where_it_came_from(model, monkeypatch):
    """The last digits depend on how many images are computed at once: 4 and 4 on two cores, 8 on one."""
    opened = build_engine(model, engine="tensorflow-frozen", cores=2).portable()
    cut, parts_of = [], tensorflow_frozen.parts

    def noted(inputs, threads):
        found = parts_of(inputs, threads)
        cut.append([len(part) for part in found])
        return found

    monkeypatch.setattr(tensorflow_frozen, "parts", noted)
    monkeypatch.setattr(tensorflow_frozen, "usable_cores", lambda: 1)
    there = opened()
    for count in (8, 5):
        there.run(np.zeros((count, 32, 32, 3), np.uint8))
    assert cut == [[4, 4], [3, 2]]


def test_so_are_those_of_an_onnx_file(monkeypatch):
    cut = []

    class Session:
        def get_inputs(self):
            return self.get_outputs()

        def get_outputs(self):
            return [SimpleNamespace(name="images")]

        def get_modelmeta(self):
            return SimpleNamespace(custom_metadata_map={})

        def run(self, names, given):
            cut.append(len(given["images"]))
            return [given["images"]]

    monkeypatch.setattr(onnx_engine, "open_file", lambda path, threads: Session())
    monkeypatch.setattr(onnx_engine, "usable_cores", lambda: 1)
    for engine in (onnx_engine.features_engine(b"", "", 2), onnx_engine._answering(b"", 2)):
        opened = engine.portable()()
        for count in (8, 5):
            opened.run(np.zeros((count, 2, 2, 3), np.float32))
        assert cut == [4, 4, 3, 2]
        cut.clear()
    assert onnx_engine._answering(b"", 3).part == 3 * onnx_engine.PART


def test_files_that_cannot_be_read_are_left_out_and_named(model, colours, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    files = [tmp_path / "bad.png", *sorted((colours / "red").iterdir())]
    contract = InputContract(height=32, width=32)
    indices, (outputs,), problems = infer(build_engine(model), files, contract, batch_size=5)
    assert indices.tolist() == list(range(1, 13)) and [index for index, _ in problems] == [0]
    pixels = np.stack([decode(file, contract) for file in files[1:]])
    np.testing.assert_allclose(outputs, np.asarray(model(pixels)), atol=1e-4)


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


def doubling(most, *, late=False, error=MemoryError):
    """An engine that doubles, with memory for `most` images; if `late`, it fails only when it is waited for."""
    taken = []

    def start(batch):
        def fetch():
            if len(batch) > most:
                raise error(f"no room for {len(batch)}")
            taken.append(len(batch))
            return (batch * 2.0, batch + 1.0)

        return fetch if late or len(batch) <= most else fetch()

    return Engine(lambda batch: start(batch)(), "made", "for the test", start=start), taken


@pytest.mark.parametrize("late", [False, True])
def test_when_memory_runs_out_fewer_images_are_computed_at_a_time_and_it_is_said(late):
    (engine, taken), story = doubling(5, late=late), Listener()
    batches = [np.arange(start, start + 16.0)[:, None] for start in (0, 16, 32)]
    found = list(enduring(engine, story).ahead(batches, lambda batch: batch))
    for batch, (twice, more) in found:
        np.testing.assert_array_equal(twice, batch * 2)
        np.testing.assert_array_equal(more, batch + 1)
    assert [batch[0, 0] for batch, _ in found] == [0, 16, 32] and taken == [4] * 12
    assert story.said == [
        "out of memory with 16 images at a time; from here on 8 at a time",
        "out of memory with 8 images at a time; from here on 4 at a time",
    ]


def test_memory_that_does_not_suffice_for_one_image_is_an_error_with_a_remedy():
    engine, _ = doubling(0)
    with pytest.raises(TlkitError, match="one image of 40 by 30 pixels") as caught:
        enduring(engine, Listener()).run(np.zeros((6, 40, 30, 3)))
    assert "--image-size" in caught.value.hint


@pytest.mark.parametrize("late", [False, True])
def test_other_errors_are_not_taken_for_want_of_memory(late):
    engine, _ = doubling(2, late=late, error=ValueError)
    with pytest.raises(ValueError, match="no room for 6"):
        enduring(engine, Listener()).run(np.zeros((6, 1)))


def test_rows_are_the_same_when_memory_runs_out_while_they_are_extracted(model, colours, tmp_path, monkeypatch):
    dataset, found, story = scan(colours), [], Listener()
    exact = build_engine(model)

    def start(batch):
        if len(batch) > 3:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for 12 bytes")
        return exact.start(batch)

    for number, engine in enumerate((exact, replace(exact, start=start, run=lambda batch: start(batch)()))):
        monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / str(number)))
        source = FeatureSource(
            model=model, outputs=("grid",), weights_sha256="5a" * 32, contract=InputContract(height=32, width=32)
        )
        source.__dict__["engine"] = engine
        found.append(source.rows(dataset, story=story)[:])
    np.testing.assert_allclose(*found, atol=1e-6)
    assert [text for text in story.said if "out of memory" in text]


def test_a_batch_that_there_was_no_memory_for_no_longer_says_how_long_the_next_are(model, monkeypatch):
    taken = []

    def predict(inputs):
        if len(inputs) > 8:
            raise MemoryError
        taken.append(len(inputs))
        return inputs

    monkeypatch.setattr(model, "predict_on_batch", predict)
    start = keras_jit.build(model, "float32")
    with pytest.raises(MemoryError):
        start(np.zeros((32, 2)))
    assert start(np.zeros((5, 2)))()[0].shape == (5, 2) and taken == [5]


@pytest.mark.parametrize(("counts", "wide"), [((1, 1, 7, 1), 1), ((7, 1), 0)])
def test_a_single_image_uses_every_core_unless_it_is_the_last_of_many(model, monkeypatch, counts, wide):
    made, build = [], tensorflow_frozen._session
    monkeypatch.setattr(tensorflow_frozen, "usable_cores", lambda: 2)
    monkeypatch.setattr(
        tensorflow_frozen,
        "_session",
        lambda *given, **more: made.append(more.get("threads", 1)) or build(*given, **more),
    )
    engine = build_engine(model, engine="tensorflow-frozen")
    for count in counts:
        images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.testing.assert_allclose(engine.run(images)[0], np.asarray(model(images)), atol=1e-4)
    assert sorted(made) == [1, 1] + [2] * wide


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


# -- Large weights of matrix products, which share the memory of the model ----------------------


@pytest.fixture(scope="module")
def tokens():
    """A network on tokens whose kernels are large, except one."""
    inputs = keras.Input((5, 256))
    tensor = keras.layers.MultiHeadAttention(4, 64)(inputs, inputs)
    tensor = keras.layers.EinsumDense("btc,cd->btd", (None, 256), bias_axes="d")(tensor)
    tensor = keras.layers.Dense(256, activation="gelu")(tensor)
    return keras.Model(inputs, keras.layers.Dense(3)(tensor))


def kernels(model):
    return [weight.numpy() for weight in model.weights if weight.numpy().size >= tensorflow_frozen.LARGE]


@pytest.fixture
def handing(monkeypatch):
    monkeypatch.setattr(tensorflow_frozen, "HANDED_BYTES", 2**19)


def test_a_graph_copies_no_large_kernel_of_a_large_network(tokens, handing, monkeypatch):
    import tensorflow as tf

    frozen = tensorflow_frozen._graph(tokens)
    assert len(kernels(tokens)) == len(frozen.handed) == 6
    assert len(frozen.graph.as_graph_def().SerializeToString()) < kernels(tokens)[0].nbytes
    places = {np.asarray(memoryview(tf.convert_to_tensor(weight.value))).ctypes.data for weight in tokens.weights}
    assert {each.ctypes.data for each in frozen.handed.values()} <= places
    assert not any(each.ctypes.data % 64 for each in frozen.handed.values())  # else TensorFlow copies it for every call
    monkeypatch.setattr(tensorflow_frozen, "HANDED_BYTES", 2**30)
    assert not tensorflow_frozen._graph(tokens).handed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_handed_stays_what_it_was_and_every_batch_size_is_computed_with_it(tokens, handing, precision):
    inputs = np.random.default_rng(0).normal(size=(20, 5, 256)).astype(np.float32)
    expected, before = tokens.predict(inputs, verbose=0), tokens.get_weights()
    try:
        engine = build_engine(tokens, engine="tensorflow-frozen", precision=precision)
    except TlkitError as error:
        pytest.skip(error.message)
    tokens.set_weights([weight * 0 for weight in before])
    try:
        found = [engine.run(inputs[:count])[0] for count in (1, 3, 20)]
    finally:
        tokens.set_weights(before)
    for rows in found:
        np.testing.assert_allclose(rows, expected[: len(rows)], atol=1e-5 if precision == "float32" else 0.1)


def test_a_kernel_with_a_norm_folded_into_it_is_handed_too(handing):
    images = keras.Input((6, 6, 128))
    tensor = keras.layers.BatchNormalization()(keras.layers.Conv2D(128, 3, use_bias=False)(images))
    model = keras.Model(images, keras.layers.Conv2D(512, 1)(tensor))
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1.2, weight.shape) for weight in model.weights])
    assert sorted(each.size for each in tensorflow_frozen._graph(model).handed.values()) == [128 * 512, 9 * 128 * 128]
    inputs = random.normal(size=(3, 6, 6, 128)).astype(np.float32)
    found = build_engine(model, engine="tensorflow-frozen").run(inputs)[0]
    np.testing.assert_allclose(found, np.asarray(model(inputs)), rtol=1e-3, atol=1e-3)
