import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.core.input_contract import InputContract
from tlkit.data.images import decode
from tlkit.inference import build_engine, infer


@pytest.fixture(scope="module")
def model(tiny_backbone):
    return build_backbone(str(tiny_backbone)).model


def test_the_engine_computes_what_keras_does_for_any_batch(model):
    engine = build_engine(model)
    for count in (1, 3, 8):
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
    indices, outputs, problems = infer(build_engine(model), files, contract, batch_size=5)
    assert indices.tolist() == list(range(1, 13)) and [index for index, _ in problems] == [0]
    pixels = np.stack([decode(file, contract) for file in files[1:]])
    np.testing.assert_allclose(outputs, model.predict(pixels, verbose=0), atol=1e-4)


def test_nothing_readable_gives_nothing(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    indices, outputs, problems = infer(build_engine(model), [tmp_path / "bad.png"], InputContract(height=32, width=32))
    assert len(indices) == len(outputs) == 0 and len(problems) == 1
