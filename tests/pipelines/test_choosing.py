"""The weights a run keeps: the probe bit for bit, candidates in between, and a choice that is made once."""

import csv
import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from tlkit.base.story import Silence
from tlkit.classifier.answers import softmax
from tlkit.classifier.model import load
from tlkit.evaluation.choice import Choice
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run
from tlkit.runs import record as run_record
from tlkit.runs.folder import RunDir
from tlkit.training import choosing


class Listener(Silence):
    """Keeps what is said."""

    def __init__(self):
        self.text = ""

    def say(self, text):
        self.text += text + "\n"


def read(out):
    return Choice.from_json(json.loads((out / "choice.json").read_text()))


def weights(path, prefix="block"):
    model = keras.saving.load_model(path)
    return {weight.path: np.array(weight) for weight in model.weights if weight.path.startswith(prefix)}


def test_candidates_are_what_the_stages_left(finished):
    out, _ = finished
    made = read(out)
    with (out / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    head, *_ = (float(row["val_accuracy"]) for row in history if row["stage"] == "head")
    assert made.candidates[0].kind == "probe" and made.candidates[0].accuracy.value == pytest.approx(head)
    tuned = [one for one in made.candidates if one.kind == "fine-tuned"]
    for stage, one in zip(("top", "all"), tuned, strict=True):
        own = [row for row in history if row["stage"] == stage and row["epoch"] != "0"]
        assert one.name == f"{stage} after epoch {own[-1]['epoch']}"
        assert one.accuracy.value == pytest.approx(float(own[-1]["val_accuracy"]))
    assert [one.kind for one in made.candidates][3:6] == ["interpolated"] * 3
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["val"]["accuracy"]["value"] == pytest.approx(made.taken.accuracy.value)
    assert ("accuracy_over_probe" in metrics["test"]) == (made.taken.kind != "probe")
    assert 'id="choice"' in (out / "report.html").read_text() and made.chosen in (out / "report.md").read_text()


def test_where_fine_tuning_wrecks_the_probe_ships_on_the_pretrained_backbone(options, tiny_backbone, tmp_path):
    story = Listener()
    run(FinetuneConfig(**options, out=str(tmp_path / "run"), blocks=2, learning_rate=(1.0, 30.0)), story)
    made = read(tmp_path / "run")
    assert made.chosen == choosing.PROBE and made.gained is None
    before, after = weights(tiny_backbone), weights(tmp_path / "run" / "model.keras")
    assert len(before) > 10 and before.keys() == after.keys()
    for name, weight in before.items():
        np.testing.assert_array_equal(weight, after[name])
    assert "did not help" in story.text and "did not help" in (tmp_path / "run" / "report.html").read_text()
    assert len(list((tmp_path / "run" / "checkpoints" / "top").glob("*.h5"))) == 1


def test_what_was_chosen_is_in_the_model_and_is_chosen_once(options, tmp_path, monkeypatch):
    entries, decide = [], choosing.decide

    def taking_the_middle(given, labels, **how):
        entries.extend(given)
        return replace(
            decide(given, labels, **how), chosen=next(one.name for one in given if one.name.startswith("0.5"))
        )

    monkeypatch.setattr(choosing, "decide", taking_the_middle)
    out = tmp_path / "run"
    result = run(FinetuneConfig(**options, out=str(out), stages=("head", "top", "all"), blocks=1))
    made, run_dir = read(out), RunDir(out)
    assert made.taken.kind == "interpolated" and made.gained["test"].n == 9
    assert result["metrics"]["test"]["accuracy_over_probe"] == made.gained["test"].as_json()
    assert {(one.kind, one.tried) for one in entries} - {("soup", 4)} == {
        (kind, 1) for kind in ("probe", "fine-tuned", "interpolated")
    }  # two epochs of two stages were measured, of which only a soup is chosen
    said = next(one.logits for one in entries if one.name == made.chosen)
    temperature, saved = load(run_dir.model).facts.temperature, weights(run_dir.model, "")
    with run_dir.predictions.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    shown = np.array([[float(row[f"p:{name}"]) for name in ("blue", "green", "red")] for row in rows])
    np.testing.assert_allclose(shown, softmax(said, temperature), atol=1e-4)

    # As if killed before the report: the choice is not made again, and the result is the same.
    monkeypatch.setattr(choosing, "decide", lambda *given, **how: pytest.fail("chosen again"))
    run_record.update(run_dir, state="running")
    run_dir.model.unlink()
    run_dir.metrics.unlink()
    assert run(FinetuneConfig(resume=str(out)))["metrics"] == result["metrics"]
    for name, weight in weights(run_dir.model, "").items():
        np.testing.assert_array_equal(weight, saved[name])


def test_what_validation_picks_counts_as_often_as_it_had_to_pick_from(options, tmp_path, monkeypatch):
    entries, decide = [], choosing.decide

    def listening(given, labels, **how):
        entries.extend(given)
        return decide(given, labels, **how)

    monkeypatch.setattr(choosing, "decide", listening)
    settings = options | {"epochs": (3,), "stages": ("head", "top"), "blocks": 1, "patience": 9}
    run(FinetuneConfig(**settings, out=str(tmp_path / "run")))
    tried = {(one.kind, one.tried) for one in entries}
    assert tried - {("soup", 3)} == {("probe", 1), ("fine-tuned", 3), ("interpolated", 3)}


def test_a_head_alone_leaves_nothing_to_choose(options, tmp_path):
    story = Listener()
    run(FinetuneConfig(**options, out=str(tmp_path / "run"), stages=("head",)), story)
    assert not (tmp_path / "run" / "choice.json").exists() and "choice" not in story.text
