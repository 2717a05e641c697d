"""A run on clips from the folder to the report, resumed, evaluated and asked; and that no frame is computed twice."""

import csv
import json

import keras
import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence
from tlkit.classifier.model import load
from tlkit.options.commands import (
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FinetuneConfig,
    NextConfig,
    PredictConfig,
    ServeConfig,
)
from tlkit.options.obtain import SampleConfig
from tlkit.pipelines import evaluate, explain, export, finetune, predict, sample, serve
from tlkit.pipelines import next as following


class Heard(Silence):
    """Keeps what is said; may stop the run at a sentence."""

    def __init__(self, stop="\0"):
        self.said, self.stop = [], stop

    def say(self, text):
        self.said.append(text)
        if text.startswith(self.stop):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion") / "clips"
    sample.run(SampleConfig(name="motion", out=str(folder), count=60))
    return folder


@pytest.fixture(scope="module")
def settings(motion, tiny_backbone):
    chosen = {"images": str(motion), "backbone": str(tiny_backbone), "frames": 6, "hidden": (8,), "epochs": (3,)}
    return chosen | {"validate": "split", "val": 0.3, "test": 0.3, "seed": 0}


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    story, out = Heard(), tmp_path_factory.mktemp("runs") / "whole"
    result = finetune.run(FinetuneConfig(**settings, time="gru", out=str(out)), story)
    return out, result, story


def test_the_sample_is_the_same_by_its_seed(motion, tmp_path):
    sample.run(SampleConfig(name="motion", out=str(tmp_path / "again"), count=12))
    for path in (tmp_path / "again").rglob("*.jpg"):
        assert path.read_bytes() == (motion / path.relative_to(tmp_path / "again")).read_bytes()
    assert len(list((motion / "left" / "00003").iterdir())) == 12


def test_every_class_of_the_sample_shows_the_same_values_in_another_order():
    from tlkit.samples.motion import DIRECTIONS, _course

    for way in DIRECTIONS.values():
        courses = [_course(way, what, np.random.default_rng(0)) for what in ("across", "turn", "size")]
        assert all(np.allclose(np.sort(course), np.linspace(0, 1, 12)) for course in courses)
        assert sum(bool((np.diff(course) > 0).all() or (np.diff(course) < 0).all()) for course in courses) == 1


def test_a_run_says_whether_order_matters(whole):
    out, result, _ = whole
    found = json.loads((out / "metrics.json").read_text())
    for split in ("val", "test"):
        assert found[split]["accuracy"]["n"] == 18
        assert {"accuracy_of_mean", "accuracy_shuffled"} <= set(found[split])
        assert found[split]["accuracy_of_mean"]["low"] is not None
    assert "Does order matter?" in (out / "report.html").read_text()
    assert result["images"] == 60
    with (out / "predictions.csv").open(newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} >= {"left/00003", "right/00004"}


def test_the_classifier_says_outside_what_the_run_recorded(whole, motion):
    """The whole graph on pixels, in plain Keras, against the head on stored rows."""
    out = whole[0]
    model = keras.models.load_model(out / "model.keras", compile=False)
    clip = motion / "left" / "00003"
    files = [clip / f"frame_{time:02d}.jpg" for time in np.linspace(0, 11, 6).round().astype(int)]
    from tlkit.data.decode import decode

    contract = load(out / "model.keras").facts.contract
    images = np.stack([decode(file, contract) for file in files]).astype(np.float32)
    logits = np.asarray(model([images[None], np.ones((1, 6), np.float32)]))[0]
    temperature = load(out / "model.keras").facts.temperature
    chances = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    asked = predict.run(PredictConfig(run=str(out), paths=(str(clip),), top=6))["predictions"][0]
    told = {row["class"]: row["probability"] for row in asked["top"]}
    names = load(out / "model.keras").facts.classes
    assert np.allclose([told[name] for name in names], chances, atol=1e-4)


def test_a_second_head_and_other_frames_compute_no_frame_again(whole, settings, tmp_path):
    story = Heard()
    finetune.run(FinetuneConfig(**settings, time="mean", out=str(tmp_path / "mean")), story)
    assert any("nothing was computed" in text for text in story.said)
    story = Heard()
    finetune.run(FinetuneConfig(**settings | {"frames": 2}, time="conv1d", out=str(tmp_path / "two")), story)
    assert any("nothing was computed" in text for text in story.said)


def test_evaluating_a_run_again_finds_what_it_found(whole):
    out, result, _ = whole
    story = Heard()
    again = evaluate.run(EvaluateConfig(run=str(out)), story)
    assert again["metrics"] == json.loads((out / "metrics.json").read_text())
    for split, found in result["metrics"].items():
        assert again["metrics"][split]["accuracy"] == found["accuracy"]
        assert again["metrics"][split]["accuracy_shuffled"] == found["accuracy_shuffled"]
        assert again["metrics"][split]["accuracy_of_mean"] == found["accuracy_of_mean"]
    assert any("nothing was computed" in text for text in story.said)


def test_a_run_killed_in_the_stage_of_time_goes_on_as_if_nothing_had_happened(whole, settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        finetune.run(FinetuneConfig(**settings, time="gru", out=str(tmp_path / "cut")), Heard("  time 1:"))
    resumed = finetune.run(FinetuneConfig(resume=str(tmp_path / "cut")))
    assert resumed["metrics"] == whole[1]["metrics"]
    models = [load(path / "model.keras").model for path in (whole[0], tmp_path / "cut")]
    for one, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other), err_msg=one.path)


@pytest.mark.parametrize(
    ("option", "value"),
    [("stages", ("head", "top")), ("views", 4), ("head", "mlp"), ("augment", "light"), ("minutes", 3.0)],
)
def test_options_of_single_images_are_refused(settings, tmp_path, option, value):
    chosen = {**settings, "epochs": None, option: value}
    with pytest.raises(TlkitError, match=f"--{option} .* is for single images"):
        finetune.run(FinetuneConfig(**chosen, time="mean", out=str(tmp_path / "run")))


def test_commands_for_single_images_refuse_in_a_sentence(whole, motion, tmp_path):
    run, frame = str(whole[0]), str(motion / "left" / "00003" / "frame_00.jpg")
    asked = [
        (export, ExportConfig(run=run, out=str(tmp_path / "exported"))),
        (explain, ExplainConfig(run=run, paths=(frame,), out=str(tmp_path / "explained"))),
        (serve, ServeConfig(run=run)),
        (following, NextConfig(images=str(motion), run=run, out=str(tmp_path / "next"))),
        (evaluate, EvaluateConfig(run=run, tta=2)),
        (predict, PredictConfig(run=run, paths=(str(motion),), tta=2)),
    ]
    for command, config in asked:
        with pytest.raises(TlkitError, match="is for classifiers of single images"):
            command.run(config)
    with pytest.raises(TlkitError, match="is no folder, and this classifier takes clips"):
        predict.run(PredictConfig(run=run, paths=(frame,)))
