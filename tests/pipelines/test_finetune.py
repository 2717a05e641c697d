import csv
import json
import os
import shutil

import keras
import numpy as np
import pytest

from tests.listener import Listener
from tlkit.base.errors import OutOfDate, TlkitError
from tlkit.classifier.facts import read_facts
from tlkit.classifier.model import load
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.data.scan import scan
from tlkit.options.commands import FinetuneConfig, PredictConfig
from tlkit.pipelines import predict
from tlkit.pipelines.finetune import run
from tlkit.runs.folder import LOCK

FILES = {
    "answer",
    "audit.json",
    "choice.json",
    "config.toml",
    "run.json",
    "manifest.csv",
    "splits.csv",
    "history.csv",
    "model.keras",
    "class_indices.json",
    "labels.txt",
    "predictions.csv",
    "metrics.json",
    "evaluation.json",
    "per_class.csv",
    "report.html",
    "report.md",
    "checkpoints",
}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_folder_holds_what_the_format_promises(finished):
    out, result = finished
    assert {path.name for path in out.iterdir()} - {"logs"} == FILES
    assert json.loads((out / "class_indices.json").read_text()) == {"blue": 0, "green": 1, "red": 2}
    assert (out / "labels.txt").read_text() == "blue\ngreen\nred\n"
    assert result["images"] == 36 and result["set_aside"] == []
    assert result["metrics"] == json.loads((out / "metrics.json").read_text())
    assert json.loads((out / "run.json").read_text())["state"] == "finished"
    assert "<html" in (out / "report.html").read_text()


def test_per_class_results_are_a_table(finished):
    out, result = finished
    found = [row for row in rows(out / "per_class.csv") if row["split"] == "test"]
    assert [row["class"] for row in found] == ["blue", "green", "red"]
    assert np.mean([float(row["f1"]) for row in found]) == pytest.approx(result["metrics"]["test"]["macro_f1"]["value"])


def test_easy_colours_are_learnt(finished):
    _, result = finished
    for split, count in (("train", 18), ("val", 9), ("test", 9)):
        assert result["metrics"][split]["accuracy"]["n"] == count
    assert result["metrics"]["test"]["accuracy"]["value"] >= 0.8


def test_no_stage_ends_below_the_one_before(finished):
    out, _ = finished
    history = rows(out / "history.csv")
    best = {}
    for row in history:
        best[row["stage"]] = max(best.get(row["stage"], 0), float(row["val_accuracy"]))
    assert list(best) == ["head", "top", "all"]
    assert best["head"] <= best["top"] <= best["all"]


def test_predictions_are_those_of_the_saved_model_in_plain_keras(finished, colours):
    out, _ = finished
    model = keras.models.load_model(out / "model.keras")
    facts = load(out / "model.keras").facts
    found = rows(out / "predictions.csv")
    pixels = np.stack([decode(colours / row["path"], InputContract(height=32, width=32)) for row in found])
    logits = model.predict(pixels, verbose=0) / facts.temperature
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    stored = np.array([[float(row[f"p:{name}"]) for name in facts.classes] for row in found])
    np.testing.assert_allclose(stored, probabilities, atol=1e-4)
    assert [row["path"] for row in found] == [row["path"] for row in rows(out / "splits.csv")]


@pytest.fixture(scope="module")
def plain(options, tmp_path_factory):
    """A run without further options, to be copied, and what it returned."""
    out = tmp_path_factory.mktemp("plain") / "run"
    return out, run(FinetuneConfig(**options, out=str(out)))


def test_the_same_seed_gives_the_same_metrics(plain, options, tmp_path, empty_cache):
    assert run(FinetuneConfig(**options, out=str(tmp_path / "other")))["metrics"] == plain[1]["metrics"]


@pytest.mark.parametrize("head", ["mlp", "gru"])
def test_heads_that_are_not_convex_train_by_gradient(options, tmp_path, head):
    config = FinetuneConfig(
        **options | {"stages": ("head", "top"), "blocks": 1},
        out=str(tmp_path / "run"),
        head=head,
        hidden=(8,),
        dropout=0.1,
        layer_decay=0.5,
        ema=0.9,
    )
    result = run(config)
    history = rows(tmp_path / "run" / "history.csv")
    assert [row["epoch"] for row in history if row["stage"] == "head"] == ["0", "1", "2"]
    assert result["metrics"]["val"]["accuracy"]["value"] is not None
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert plan["augment"] == "medium" and [stage["mix"] for stage in plan["stages"]] == ["mixup", "mixup"]
    assert not keras.saving.load_model(tmp_path / "run" / "model.keras").compiled  # the file holds no training state


def test_a_cut_too_large_to_store_trains_from_pixels(options, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE_BYTES", "20000")
    story = Listener()
    result = run(FinetuneConfig(**options, out=str(tmp_path / "run"), blocks=1), story)
    assert any("from pixels: the output of" in line for line in story.said)
    assert result["metrics"]["val"]["accuracy"]["n"] == 9


@pytest.mark.parametrize("disk", ["1GB", "100"])
def test_fresh_views_every_epoch_with_and_without_room_on_disk(options, tmp_path, monkeypatch, disk):
    monkeypatch.setenv("TLKIT_CACHE_BYTES", disk)
    asked = options | {"views": 0, "head": "conv", "hidden": (8,), "blocks": 1, "accumulate": 2}
    result = run(FinetuneConfig(**asked, out=str(tmp_path / "run")))
    assert [row["stage"] for row in rows(tmp_path / "run" / "history.csv")] == ["head"] * 3 + ["top"] * 3
    assert result["metrics"]["test"]["accuracy"]["n"] == 9


def test_a_dry_run_prints_the_plan_and_writes_nothing(options, tmp_path):
    story = Listener()
    result = run(FinetuneConfig(**options, out=str(tmp_path / "run"), dry_run=True), story)
    assert not (tmp_path / "run").exists()
    assert [stage["name"] for stage in result["plan"]["stages"]] == ["head", "top"]
    assert any("plan:" in line for line in story.said)


def test_bad_files_are_set_aside_listed_and_never_stop_a_run(options, colours, tmp_path):
    images = shutil.copytree(colours, tmp_path / "images")
    whole = (images / "red" / "00.png").read_bytes()
    (images / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "red" / "empty.jpg").write_bytes(b"")
    options = options | {"images": str(images), "stages": ("head",)}
    result = run(FinetuneConfig(**options, out=str(tmp_path / "run")))
    assert result["images"] == 36
    assert sorted(problem["path"] for problem in result["set_aside"]) == ["red/cut.png", "red/empty.jpg"]
    assert all(problem["reason"] for problem in result["set_aside"])
    assert "cut.png" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(TlkitError, match=r"cut\.png|empty\.jpg"):
        run(FinetuneConfig(**options, out=str(tmp_path / "fails"), on_bad="fail"))
    assert not (tmp_path / "fails").exists()


def test_an_occupied_folder_is_refused_and_a_foreign_one_never_deleted(options, finished, tmp_path):
    out, _ = finished
    with pytest.raises(TlkitError, match="already exists") as caught:
        run(FinetuneConfig(**options, out=str(out)))
    assert "--resume" in caught.value.hint
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TlkitError, match="not a run folder"):
        run(FinetuneConfig(**options, out=str(tmp_path), overwrite=True))
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, TlkitError("no network"), OSError(28, "No space left on device")])
def test_a_run_is_there_until_training_begins_in_its_place(options, finished, tmp_path, monkeypatch, stop):
    out = shutil.copytree(finished[0], tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr("tlkit.pipelines.finetune.build_parts", lambda *_, **__: stopped(stop))
        with pytest.raises(type(stop) if isinstance(stop, Exception) else stop):
            run(FinetuneConfig(**options, out=str(out), overwrite=True))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != LOCK} == before


def stopped(how):
    raise how


def test_resuming_a_finished_run_changes_nothing(finished):
    out, result = finished
    before = (out / "metrics.json").stat().st_mtime_ns
    again = run(FinetuneConfig(resume=str(out)))
    assert again == result and (out / "metrics.json").stat().st_mtime_ns == before


def test_other_options_on_resume_are_refused_with_the_differences(finished):
    out, _ = finished
    with pytest.raises(OutOfDate, match=r"seed: 0 -> 7.*batch_size|batch_size.*seed: 0 -> 7") as caught:
        run(FinetuneConfig(resume=str(out), seed=7, batch_size=8))
    assert "batch_size: 32 -> 8" in caught.value.message


def test_images_that_changed_since_are_named_on_resume(options, colours, tmp_path):
    images = shutil.copytree(colours, tmp_path / "images")
    out = tmp_path / "run"
    run(FinetuneConfig(**options | {"images": str(images)}, out=str(out)))
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"state": "running", "checksum": None}))
    file = images / "red" / "00.png"
    content, times = bytearray(file.read_bytes()), file.stat()
    file.unlink()
    with pytest.raises(OutOfDate, match=r"red/00\.png"):
        run(FinetuneConfig(resume=str(out)))
    content[-20] ^= 1
    file.write_bytes(content)  # of the same size
    os.utime(file, (times.st_atime, times.st_mtime))  # and time
    with pytest.raises(OutOfDate, match=r"red/00\.png"):
        run(FinetuneConfig(resume=str(out)))
    content[-20] ^= 1
    file.write_bytes(content)
    assert run(FinetuneConfig(resume=str(out)))["images"] == 36


def test_a_finished_run_that_lost_a_file_makes_it_again(plain, options, tmp_path):
    out, first = shutil.copytree(plain[0], tmp_path / "run"), plain[1]
    model = out / "model.keras"
    before = dict(read_facts(model).__dict__)
    model.write_bytes(model.read_bytes()[:-1000] + bytes(1000))
    with pytest.raises(TlkitError, match=r"model\.keras' is not what was written") as caught:
        predict.run(PredictConfig(run=str(out), paths=(options["images"],)))
    assert f"--resume {out}" in caught.value.hint
    (out / "predictions.csv").unlink()
    assert run(FinetuneConfig(resume=str(out)))["metrics"] == first["metrics"]
    assert read_facts(model).__dict__ == before and (out / "predictions.csv").is_file()


def test_without_validation_images_every_stage_keeps_its_end(options, tmp_path):
    config = FinetuneConfig(**options | {"val": 0.0, "test": 0.25}, out=str(tmp_path / "run"), blocks=1)
    result = run(config)
    assert set(result["metrics"]) == {"train", "test"}


def test_groups_never_straddle_splits(options, tmp_path):
    config = FinetuneConfig(**options | {"stages": ("head",)}, out=str(tmp_path / "run"), group_by=r"(\d)\d\.png")
    run(config)
    splits = {row["path"]: row["split"] for row in rows(tmp_path / "run" / "splits.csv")}
    groups = {}
    for row in rows(tmp_path / "run" / "manifest.csv"):
        groups.setdefault(row["group"], set()).add(splits[row["path"]])
    assert all(len(found) == 1 for found in groups.values())


def test_hostile_names_are_shown_and_never_run(options, colours, tmp_path):
    names = ["<script>alert(1)</script>", 'a, "b"\n', "\u202egnp.exe"]
    for source, name in zip(sorted(colours.iterdir()), names, strict=True):
        shutil.copytree(source, tmp_path / "images" / name.replace("/", "\u2215"))
    out = tmp_path / "run"
    result = run(FinetuneConfig(**options | {"images": str(tmp_path / "images"), "stages": ("head",)}, out=str(out)))
    assert len(result["classes"]) == 3
    assert "<script>alert" not in (out / "report.html").read_text()
    facts = load(out / "model.keras").facts
    assert (
        sorted(facts.classes)
        == result["classes"]
        == list(json.loads((out / "class_indices.json").read_text(encoding="utf-8")))
    )
    again = run(FinetuneConfig(resume=str(out)))
    assert again["classes"] == result["classes"]


@pytest.mark.slow
def test_the_default_recipe_on_real_photographs(shared_file, tmp_path, monkeypatch, empty_cache):
    """Hymenoptera with genuine ImageNet weights: at least 0.90 on its own validation split."""
    weights = shared_file("keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5")
    images = shared_file("data/hymenoptera")
    assert len(scan(images)) == 398
    config = FinetuneConfig(
        images=str(images), backbone="mobilenetv2:alpha=0.35", weights=str(weights), out=str(tmp_path / "run")
    )
    assert run(config)["metrics"]["val"]["accuracy"]["value"] >= 0.90
