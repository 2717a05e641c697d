"""Training steps in bfloat16: weights stay in float32, only the arithmetic differs; used only after a trial."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.machine import multiplies_bfloat16
from tlkit.extraction.keras_jit import computing_in
from tlkit.options.commands import FinetuneConfig
from tlkit.options.groups import TrainingOptions
from tlkit.pipelines.finetune import run
from tlkit.tasks.single import SINGLE
from tlkit.training import planner, train
from tlkit.training.examples import Examples
from tlkit.training.fit import build_epoch
from tlkit.training.optimizer import Updates, unfreeze_and_compile
from tlkit.training.planner import planned_precision
from tlkit.training.train import Trial

RANDOM = np.random.default_rng(0)
LABELS = np.arange(48) % 3
INPUTS = (RANDOM.normal(0, 1, (48, 8, 8, 3)) + np.eye(3)[LABELS][:, None, None]).astype(np.float32)


def network():
    """A grid of every kind: a convolution with its norm frozen, a depthwise one, one of one pixel; a norm that learns.

    There is no bias before the norm that learns: its gradient would be zero, and Adam would take steps of rounding errors.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    grid = keras.layers.Rescaling(0.5)(inputs)
    grid = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(grid)
    grid = keras.layers.ReLU()(keras.layers.BatchNormalization(trainable=False)(grid))
    grid = keras.layers.ReLU()(keras.layers.DepthwiseConv2D(3, padding="same")(grid))
    grid = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 1, use_bias=False)(grid)))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(grid)))


def compiled(rate=0.01):
    model = network()
    unfreeze_and_compile(model, TrainingOptions(), blocks=(), learn=0, updates=Updates(rate, 100))
    return model


def examples():
    return Examples(
        read=lambda positions, epoch: INPUTS[positions],
        labels=LABELS,
        weights=np.ones(48, np.float32),
        classes=3,
        batch_size=16,
        seed=0,
    )


def test_steps_in_bfloat16_learn_what_those_in_float32_do_and_leave_float32_weights():
    exact, half = compiled(), compiled()
    policies = [layer.dtype_policy.name for layer in half.layers]
    epochs = [build_epoch(exact), build_epoch(half, precision="bfloat16")]
    losses = np.array([[epoch(examples(), number)[0] for epoch in epochs] for number in range(8)])
    np.testing.assert_allclose(losses[:, 1], losses[:, 0], rtol=0.02)
    assert losses[-1, 1] < losses[0, 1] - 0.1
    assert (losses[:, 1] != losses[:, 0]).all()  # or it was computed in float32
    assert {weight.dtype for weight in half.weights} == {"float32"}
    assert [layer.dtype_policy.name for layer in half.layers] == policies
    logits = [np.asarray(model.predict_on_batch(INPUTS)) for model in (exact, half)]
    assert (logits[0].argmax(1) == logits[1].argmax(1)).mean() > 0.9


def test_grids_are_rounded_and_neither_pixels_nor_what_the_head_says():
    model = network()
    with computing_in(model, "bfloat16"):
        computes = {type(layer).__name__: layer.compute_dtype for layer in model.layers}
    rounded = {"Conv2D", "DepthwiseConv2D", "BatchNormalization", "ReLU"}
    assert {name for name, dtype in computes.items() if dtype == "bfloat16"} == rounded
    with computing_in(model, "float32"):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_layers_are_what_they_were_when_a_step_fails():
    model = network()
    with pytest.raises(RuntimeError), computing_in(model, "bfloat16"):
        raise RuntimeError("out of memory")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def stage(**changed):
    given = {"name": "top", "method": "gradient", "seconds": 600.0}
    return SimpleNamespace(**(given | changed))


@pytest.mark.parametrize(
    ("options", "changed", "val", "expected"),
    [
        ({}, {}, 50, ("float32", "")),
        ({"precision": "bfloat16"}, {}, 50, ("bfloat16", "")),
        ({"precision": "bfloat16"}, {"name": "head"}, 50, ("float32", "")),
        ({"precision": "bfloat16"}, {"method": "lbfgs"}, 50, ("float32", "")),
        ({"precision": "auto"}, {}, 50, ("auto", "bfloat16 if a few updates")),
        ({"precision": "auto"}, {"seconds": 60.0}, 50, ("float32", "60 s of training")),
        ({"precision": "auto"}, {}, 0, ("float32", "no validation images")),
    ],
)
def test_where_a_stage_is_tried(options, changed, val, expected, monkeypatch):
    monkeypatch.setattr(planner, "multiplies_bfloat16", lambda: True)
    precision, why = planned_precision(FinetuneConfig(images="images", **options), stage(**changed), val)
    assert precision == expected[0]
    assert why.startswith(expected[1])
    assert bool(why) == bool(expected[1])


def test_a_processor_without_it_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(planner, "gpus", lambda: [])
    found = planned_precision(FinetuneConfig(images="images", precision="auto"), stage(), 50)
    assert found == ("float32", "this processor has no instructions for bfloat16")


def test_jax_on_a_processor_trains_in_float32(monkeypatch):
    """XLA sums the gradients of biases there in bfloat16, where the sums stop growing (JAX 0.10.2)."""
    monkeypatch.setattr(planner.keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(planner, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(planner, "gpus", lambda: [])
    auto, asked = (FinetuneConfig(images="images", precision=value) for value in ("auto", "bfloat16"))
    assert planned_precision(auto, stage(), 50) == (
        "float32",
        "JAX on a processor sums the gradients of biases in bfloat16",
    )
    with pytest.raises(TlkitError, match="--precision bfloat16: stage top cannot train in it with JAX on a processor"):
        planned_precision(asked, stage(), 50)
    assert planned_precision(asked, stage(name="head"), 50) == ("float32", "")
    monkeypatch.setattr(planner, "gpus", lambda: ["gpu:0"])
    assert planned_precision(asked, stage(), 50) == ("bfloat16", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("flags : avx2 avx512_bf16 amx", True), ("Features : fp asimd bf16", True), ("flags : avx2 avx512f", False)],
)
def test_what_a_processor_says_of_itself(text, expected, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is expected
    assert multiplies_bfloat16(tmp_path / "absent")


def compare(seconds=(9.0, 2.0, 2.2), losses=(1.0, 0.99, 0.98), moved=0):
    """Of a trial in float32 (1 s a round at best... 4 s) and one in bfloat16; `moved` decisions of 100 differ."""
    models = [keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Rescaling(1.0)]) for _ in range(2)]
    logits = np.eye(3, dtype=np.float32)[np.arange(100) % 3]
    others = np.where((np.arange(100) < moved)[:, None], 1 - logits, logits)
    models[1].predict_on_batch = lambda inputs: others[inputs[:, 0, 0, 0].astype(int)]
    models[0].predict_on_batch = lambda inputs: logits[inputs[:, 0, 0, 0].astype(int)]
    rows = np.repeat(np.arange(100.0)[:, None], 3, axis=1).astype(np.float32).reshape(100, 1, 1, 3)
    exact = Trial(models[0], None, None, [1.0, 4.0, 4.4], [1.0, 0.99, 0.98])
    half = Trial(models[1], None, None, list(seconds), list(losses))
    given = SimpleNamespace(
        rows=lambda split: np.arange(100), dataset=SimpleNamespace(task=SINGLE), stored={"cut": rows}
    )
    return train._compared(exact, half, SimpleNamespace(source="cut"), given)


def test_it_is_taken_only_where_it_is_faster_and_says_the_same():
    taken, gain, why = compare()
    assert (taken, gain) == (True, 2.0)
    assert why.startswith(
        "a step is 2.00 times as fast, after 6 updates losses within 2% and 100% of the decisions on 100"
    )
    assert compare(seconds=(1.0, 3.5, 3.6))[::2] == (
        False,
        "a step in bfloat16 is 1.14 times as fast here, less than the 1.2 that would pay",
    )
    assert compare(losses=(1.0, 1.1, 1.2))[0] is False
    assert compare(losses=(1.0, np.nan, np.nan))[0] is False
    assert compare(moved=2)[0] is True
    assert compare(moved=3)[::2] == (False, "after these steps 3% of the decisions on 100 held-out images differ")


def test_a_run_tries_its_own_steps_says_so_and_goes_on_with_what_it_found(
    colours, tiny_backbone, tmp_path, monkeypatch, empty_cache
):
    monkeypatch.setattr(planner, "WORTH_TRYING", 0.0)
    monkeypatch.setattr(planner, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(train, "FASTER", 0.0)  # it would not be faster for so small a network
    options = {"images": str(colours), "backbone": str(tiny_backbone), "epochs": (3,), "val": 0.4}
    config = FinetuneConfig(
        **options, stages=("head", "top"), validate="split", precision="auto", out=str(tmp_path / "run")
    )
    run(config)
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert [stage["precision"] for stage in plan["stages"]] == ["float32", "bfloat16"]
    said = {one["option"]: one for one in plan["decisions"]}["precision of top"]
    assert said["value"] == "bfloat16"
    assert "times as fast" in said["reason"]
    shipped = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert {layer.dtype_policy.name for layer in shipped.layers} == {"float32"}
