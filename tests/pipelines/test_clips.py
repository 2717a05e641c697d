"""A run on clips from the folder to the report, resumed, evaluated and used to predict; no frame is computed twice."""

import base64
import csv
import json
import os
import re
import runpy
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import tlkit
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence
from tlkit.classifier.familiarity import fit_familiarity
from tlkit.classifier.heads.build import ORDER
from tlkit.classifier.model import load, save
from tlkit.evaluation.choice import Choice
from tlkit.exporting.answer import write_answer
from tlkit.exporting.formats import installed, runner
from tlkit.options.catalog import FORMATS
from tlkit.options.commands import (
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FinetuneConfig,
    NextConfig,
    PredictConfig,
    ServeConfig,
    VerifyConfig,
)
from tlkit.options.obtain import SampleConfig
from tlkit.pipelines import evaluate, explain, export, finetune, predict, sample, serve, verify
from tlkit.pipelines import next as following
from tlkit.training.choosing import describe_choice


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
    out, result, story = whole
    assert any(text.startswith("choice, by 18 validation clips:") for text in story.said)
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
    finetune.run(FinetuneConfig(**settings | {"hidden": (256,)}, time="mean", out=str(tmp_path / "mean")), story)
    assert any("nothing was computed" in text for text in story.said)
    story = Heard()
    finetune.run(FinetuneConfig(**settings | {"frames": 2}, time="conv1d", out=str(tmp_path / "two")), story)
    assert any("nothing was computed" in text for text in story.said)


def test_whatever_is_said_of_clips_calls_them_clips(whole, settings, tmp_path):
    """Where every clip trains, too; frames are images, and may be called so."""
    story = Heard()
    folds = settings | {"validate": "folds", "frames": 2, "hidden": (256,)}
    finetune.run(FinetuneConfig(**folds, time="mean", out=str(tmp_path / "folds")), story)
    said = "\n".join([*story.said, *whole[2].said])
    assert re.search(r"cross-validation in 5 folds of \d+ training clips", said)
    assert re.search(r"Cross-validated accuracy .* on \d+ training clips, each held out", said)
    assert not re.search(r"(?:training|validation|test) images?", said)


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


@pytest.mark.parametrize(("epochs", "planned"), [(None, (10, 4)), ((3,), (3, 1))])
def test_few_clips_are_gone_through_several_times_between_two_checkpoints(settings, epochs, planned):
    """24 clips are one update: 40 passes, the most there are, in ten epochs; as asked for where that is."""
    asked = FinetuneConfig(**{**settings, "epochs": epochs}, time="conv1d", dry_run=True)
    stage = finetune.run(asked)["plan"]["stages"][-1]
    assert (stage["name"], stage["epochs"], stage["passes"]) == ("time", *planned)


def test_what_is_said_of_clips_says_clips(whole, settings, tmp_path):
    """Also where few are cross-validated, and where the mean over time is all that is asked for."""
    made = Choice.from_json(json.loads((whole[0] / "choice.json").read_text()))
    simplest = replace(made, chosen=made.candidates[0].name)
    assert "Reading the frames in order did not help here" in describe_choice(simplest, "clip")
    story, asked = Heard(), settings | {"validate": "folds", "epochs": None}
    finetune.run(FinetuneConfig(**asked, time="gru", stages=("head",), out=str(tmp_path / "run")), story)
    text = "\n".join(story.said)
    assert "training clips" in text and "training images" not in text
    assert "gru: not trained: the mean over time is all that learns" in text


def test_each_stage_counts_what_it_learns_alone(whole):
    """The mean over time first, a linear layer; then what reads the frames in order and says it."""
    model, plan = load(whole[0] / "model.keras").model, json.loads((whole[0] / "run.json").read_text())["plan"]
    learned = [stage["parameters"] for stage in plan["stages"]]
    later = [layer for layer in model.layers if layer.name.startswith(("head_gru", "head_projection", ORDER))]
    assert learned == [model.get_layer("logits").count_params(), sum(layer.count_params() for layer in later)]


@pytest.mark.parametrize(
    ("option", "value"),
    [("stages", ("head", "top")), ("views", 4), ("head", "mlp"), ("augment", "light"), ("minutes", 3.0)],
)
def test_options_of_single_images_are_refused(settings, tmp_path, option, value):
    chosen = {**settings, "epochs": None, "hidden": (256,), option: value}
    with pytest.raises(TlkitError, match=f"--{option} .* is for single images"):
        finetune.run(FinetuneConfig(**chosen, time="mean", out=str(tmp_path / "run")))


def test_commands_for_single_images_refuse_in_a_sentence(whole, motion, tmp_path):
    run, frame = str(whole[0]), str(motion / "left" / "00003" / "frame_00.jpg")
    asked = [
        (export, ExportConfig(run=run, format=("litert-int8",), out=str(tmp_path / "exported"))),
        (explain, ExplainConfig(run=run, paths=(frame,), out=str(tmp_path / "explained"))),
        (following, NextConfig(images=str(motion), run=run, out=str(tmp_path / "next"))),
        (evaluate, EvaluateConfig(run=run, tta=2)),
        (predict, PredictConfig(run=run, paths=(str(motion),), tta=2)),
    ]
    for command, config in asked:
        with pytest.raises(TlkitError, match="is for classifiers of single images"):
            command.run(config)
    with pytest.raises(TlkitError, match="is neither a folder nor a film, and this classifier takes clips"):
        predict.run(PredictConfig(run=run, paths=(frame,)))


@pytest.mark.parametrize(
    "names", [("onnx",), pytest.param(("savedmodel", "keras", "litert", "openvino"), marks=pytest.mark.slow)]
)
def test_every_format_answers_clips_as_keras_does(whole, motion, tmp_path, names):
    """Golden clips, one of them masked, to 1e-4; and the program beside an artifact says what tlkit says of a folder."""
    formats = tuple(filter(can_write, names))
    if not formats:
        pytest.skip("none of them can be written here")
    asked = ExportConfig(run=str(whole[0]), format=formats, out=str(tmp_path / "out"), check_images=12)
    made = export.run(asked)["artifacts"]
    assert {one["kind"] for one in made} == set(formats)
    for one in made:
        assert one["measured"]["max_difference"] <= 1e-4
        assert (one["measured"]["of"], one["measured"]["images"], one["measured"]["agreement"]) == ("test", 2, 1.0)
        assert one["encoded"] is None
        golden = np.load(Path(one["folder"]) / "golden.npz")
        assert golden["images"].shape[:2] == golden["mask"].shape and (golden["mask"] == 0).any()
        assert verify.run(VerifyConfig(artifact=one["folder"]))["agreement"] == 1.0
    asked = predict.run(PredictConfig(run=str(whole[0]), paths=(str(motion / "left" / "00003"),)))["predictions"][0]
    program = runpy.run_path(str(tmp_path / "out" / formats[0] / "classify.py"))
    chances = program["softmax"](program["logits_of"](*program["clip"](motion / "left" / "00003")))[0]
    assert chances.max() == pytest.approx(asked["probability"], abs=1e-4)
    assert program["CONTRACT"]["classes"][int(chances.argmax())] == asked["class"]


def can_write(name):
    row = FORMATS[name]
    if keras.backend.backend() != "tensorflow" and row.writing:
        return False
    return all(map(installed, row.writing)) and runner(row) is not None


WITHOUT = """
import json, sys
sys.modules["tensorflow"] = None
from tlkit.options.commands import PredictConfig
from tlkit.pipelines import predict
found = predict.run(PredictConfig(run=sys.argv[1], paths=tuple(sys.argv[2:])))
assert "keras" not in sys.modules
print(json.dumps(list(found["predictions"])))
"""


def test_clips_are_answered_without_tensorflow(whole, motion, tmp_path):
    """By the answering file, from the rows of the store and anew; as by Keras."""
    if not (whole[0] / "answer" / "head.onnx").is_file():
        pytest.skip("no answering file is made here")
    clips = [str(motion / "left" / "00003"), str(motion / "growing")]
    expected = predict.run(PredictConfig(run=str(whole[0]), paths=tuple(clips), engine="keras"))["predictions"]
    for cache in (os.environ["TLKIT_CACHE"], str(tmp_path / "cache")):
        command = [sys.executable, "-c", WITHOUT, str(whole[0]), *clips]
        environment = os.environ | {"TLKIT_CACHE": cache}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert [(row["path"], row["class"]) for row in found] == [(row["path"], row["class"]) for row in expected]
        apart = [abs(one["probability"] - other["probability"]) for one, other in zip(found, expected, strict=True)]
        assert max(apart) < 1e-4


def test_a_run_answers_clips_in_memory(whole, motion):
    clip = motion / "left" / "00003"
    frames = [np.asarray(Image.open(file)) for file in sorted(clip.iterdir())]
    run = tlkit.load(whole[0])
    by_path = run.predict(clip)
    for given in (np.stack(frames), frames, [np.stack(frames)], [Image.fromarray(frame) for frame in frames]):
        found = run.predict(given)
        assert list(found["path"]) == ["0"]
        assert found["probability"][0] == pytest.approx(by_path["probability"][0], abs=5e-3)
    assert list(run.predict([clip, np.stack(frames)])["path"]) == [str(clip), "1"]
    paths = [list(map(str, sorted(clip.iterdir())))]
    assert run.predict(paths)["probability"][0] == by_path["probability"][0]
    turned = [Image.fromarray(np.rot90(frame)).convert("CMYK") for frame in frames]
    for frame in turned:
        frame.getexif()[0x0112] = 6  # a quarter turn clockwise makes it upright
    assert run.predict(turned)["probability"][0] == pytest.approx(by_path["probability"][0], abs=5e-3)


def test_the_server_takes_the_frames_of_a_clip(whole, motion, tmp_path):
    """As a form or as JSON; one frame that is no image refuses the clip."""
    pytest.importorskip("fastapi")
    asked = predict.run(PredictConfig(run=str(whole[0]), paths=(str(motion / "left" / "00003"),)))["predictions"][0]
    files = sorted((motion / "left" / "00003").iterdir())
    short = tlkit.load(whole[0]).predict([list(map(str, files[:3]))]).iloc[0]
    stop, heard = threading.Event(), Listening()
    config = ServeConfig(run=str(whole[0]), port=0)
    thread = threading.Thread(target=serve.run, args=(config, heard), kwargs={"stop": stop}, daemon=True)
    thread.start()
    try:
        url = heard.url()
        encoded = [base64.b64encode(file.read_bytes()).decode() for file in files]
        results = posted(url, {"images": encoded})["results"]
        assert len(results) == 1 and results[0]["predicted"] == [asked["class"]]
        assert results[0]["probability"] == pytest.approx(asked["probability"], abs=1e-4)
        few = posted(url, {"images": encoded[:3]})["results"][0]  # fewer frames than the head reads
        assert few["predicted"] == [short["class"]] and few["probability"] == pytest.approx(
            short["probability"], abs=1e-4
        )
        assert posted(url + "?explain=true", {"images": encoded})["detail"].startswith(
            "Explanations are of single images"
        )
        broken = posted(url, {"images": [*encoded[:11], base64.b64encode(b"text").decode()]})
        assert broken["title"] and "results" not in broken
        model = json.loads(urllib.request.urlopen(url.replace("predict", "model")).read())
        assert model["facts"]["clip"] == {"frames": 6, "stride": 1} and not model["explains"]
    finally:
        stop.set()
        thread.join(20)


class Listening(Heard):
    """Waits until the server answers."""

    def __init__(self):
        super().__init__()
        self.ready = threading.Event()

    def say(self, text):
        super().say(text)
        if "engine" in text or "ready" in text:
            self.ready.set()

    def url(self):
        assert self.ready.wait(60), self.said
        base = next(text.split()[2].rstrip(",") for text in self.said if text.startswith("listening on"))
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{base}/v1/model").read()
                break
            except urllib.error.HTTPError:
                time.sleep(0.05)
        return f"{base}/v1/predict"


def posted(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        return json.loads(urllib.request.urlopen(request).read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


def test_a_film_is_answered_like_its_frames(whole, motion, tmp_path):
    av = pytest.importorskip("av")
    files = sorted((motion / "left" / "00003").iterdir())
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        out = container.add_stream("ffv1", rate=10)
        out.height, out.width, out.pix_fmt = 96, 96, "bgr0"
        for file in files:
            frame = av.VideoFrame.from_ndarray(np.asarray(Image.open(file)), format="rgb24")
            container.mux(out.encode(frame))
        container.mux(out.encode())
    asked = (str(motion / "left" / "00003"), str(tmp_path / "film.mkv"))
    folder, film = predict.run(PredictConfig(run=str(whole[0]), paths=asked))["predictions"]
    assert film["path"] == asked[1] and film["class"] == folder["class"]
    assert film["probability"] == pytest.approx(folder["probability"], abs=5e-3)
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "film.mkv").read_bytes()[:2000])
    with pytest.raises(TlkitError, match=r"is cut short|is damaged"):
        predict.run(PredictConfig(run=str(whole[0]), paths=(str(tmp_path / "cut.mkv"),), on_bad="fail"))


def test_how_unfamiliar_a_clip_is_says_every_way(whole, motion, tmp_path):
    """Keras, the answering file and an artifact on its own, of the mean of the frames that are there."""
    if keras.backend.backend() != "tensorflow" or not can_write("onnx"):
        pytest.skip("ONNX files are made by TensorFlow")
    random, model = np.random.default_rng(0), tmp_path / "model.keras"
    known = fit_familiarity(random.normal(size=(30, 16)), random.normal(size=(25, 16)))
    classifier = load(whole[0] / "model.keras").knowing(known)
    save(classifier, model)
    assert write_answer(classifier, model, Silence())
    clip = str(motion / "left" / "00003")
    by_keras, by_file = (
        predict.run(PredictConfig(run=str(model), paths=(clip,), engine=engine))["predictions"][0]
        for engine in ("keras", "onnx")
    )
    assert by_file["unfamiliarity"] == pytest.approx(by_keras["unfamiliarity"], rel=1e-3)
    export.run(ExportConfig(run=str(model), format=("onnx",), out=str(tmp_path / "out"), check_images=0))
    program = runpy.run_path(str(tmp_path / "out" / "onnx" / "classify.py"))
    found = program["outputs_of"](*program["clip"](clip))
    assert program["unfamiliarity"](found["features"][0], found["logits"][0]) == pytest.approx(
        by_keras["unfamiliarity"], rel=2e-3
    )
