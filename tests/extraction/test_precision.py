import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.base.story import PlainStory
from tlkit.data.dataset import InputContract
from tlkit.extraction import engine as module
from tlkit.extraction.engine import Engine, _Probe, build_engine, cosines, judge, settle_engine
from tlkit.extraction.keras_jit import in_bfloat16

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tiny_backbone):
    return build_backbone(str(tiny_backbone)).model


def engine(monkeypatch, *outputs, seconds):
    """An engine with known outputs and a known speed."""
    made = Engine(lambda images: outputs, "made", "for the test")
    times[id(made)] = seconds
    monkeypatch.setattr(module, "_seconds", lambda engine, images: times[id(engine)])
    return made


times: dict[int, float] = {}


def test_bfloat16_is_taken_when_it_is_faster_and_says_the_same(monkeypatch):
    features = np.random.default_rng(1).normal(size=(64, 10))
    exact = engine(monkeypatch, features, seconds=1.3)
    half = engine(monkeypatch, features + 1e-5, seconds=1.0)
    verdict = judge(exact, half, IMAGES, lambda rows: rows.argmax(axis=1))
    assert verdict.taken and verdict.reason.startswith("1.30 times as fast")


def test_bfloat16_is_refused_for_pace_for_direction_and_for_decisions(monkeypatch):
    features = np.random.default_rng(1).normal(size=(64, 10))
    exact = engine(monkeypatch, features, seconds=1.1)
    half = engine(monkeypatch, features, seconds=1.0)
    assert "1.10 times as fast" in judge(exact, half, IMAGES, np.ndarray.argmax).reason
    exact = engine(monkeypatch, features, seconds=2.0)
    turned = features.copy()
    turned[3] += 1.0  # one image is enough
    half = engine(monkeypatch, turned, seconds=1.0)
    assert "to a cosine of" in judge(exact, half, IMAGES, np.ndarray.argmax).reason
    near = np.tile([1.0, 1.0 + 1e-6], (64, 1))
    exact = engine(monkeypatch, near, seconds=2.0)
    half = engine(monkeypatch, np.where(np.arange(64)[:, None] < 2, near[:, ::-1], near), seconds=1.0)
    verdict = judge(exact, half, IMAGES, lambda rows: rows.argmax(axis=1))
    assert not verdict.taken and "3 % of the decisions" in verdict.reason


def test_cosines_by_hand():
    one = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    other = np.array([[0.0, 2.0], [6.0, 8.0], [0.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(cosines(one, other), [0, 1, 1, 0])


def test_the_probe_finds_classes_that_are_apart_and_ignores_images_without_a_label():
    labels = np.arange(40) // 2 % 3
    features = np.random.default_rng(2).normal(size=(40, 6))
    features[np.arange(40), labels] += 50
    known = np.where(np.arange(40) < 34, labels, -1)
    np.testing.assert_array_equal(_Probe(known)(features), labels)


def test_a_copy_in_bfloat16_answers_in_float32_near_the_original(model):
    half = in_bfloat16(model)
    inputs = IMAGES[:4].repeat(4, axis=1).repeat(4, axis=2)
    found, wanted = half.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    assert (
        half.get_layer("block1_conv").compute_dtype == "bfloat16"
        and model.get_layer("block1_conv").compute_dtype == "float32"
    )
    assert 1e-5 < np.abs(found - wanted).max() / np.abs(wanted).max() < 0.05


@pytest.mark.parametrize("name", ["tensorflow-frozen", "keras"])
def test_an_engine_in_bfloat16_is_near_float32_but_not_the_same(model, name):
    inputs = IMAGES[:20].repeat(4, axis=1).repeat(4, axis=2)
    try:
        half = build_engine(model, engine=name, precision="bfloat16")
    except TlkitError as error:
        pytest.skip(error.message)
    [found], [exact] = half.run(inputs), build_engine(model, engine=name).run(inputs)
    assert found.dtype == np.float32 and not np.array_equal(found, exact)
    assert cosines(found, exact).min() > 0.99


def test_auto_says_what_it_chose_and_why(model, colours, capsys, monkeypatch):
    files = sorted(colours.rglob("*.png"))
    contract = InputContract(height=32, width=32)
    chosen = settle_engine(model, files, contract, engine="auto", precision="auto", story=PlainStory())
    assert chosen.precision == "float32" and "36 images are too few" in capsys.readouterr().err
    monkeypatch.setattr(module, "FEWEST", 1)
    labels = np.array([["blue", "green", "red"].index(file.parent.name) for file in files])
    pooled = keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(model.output))
    chosen = settle_engine(pooled, files, contract, engine="auto", precision="auto", labels=labels, story=PlainStory())
    assert f"precision {chosen.precision}: " in capsys.readouterr().err
