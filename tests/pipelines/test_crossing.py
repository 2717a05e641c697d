"""Few images: every image trains, and choices are cross-validated instead."""

import contextlib
import csv
import json
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from tests.pipelines.test_choosing import Listener
from tlkit.base.errors import TlkitError
from tlkit.classifier.model import load
from tlkit.data.dataset import UNASSIGNED, Dataset, Splits
from tlkit.extraction import executors
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run
from tlkit.runs.folder import RunDir
from tlkit.training import crossing
from tlkit.training.crossing import join_few

STAGES = {"stages": ("head", "top"), "blocks": 1, "epochs": (2,), "views": 2, "audit": False, "validate": "folds"}


@pytest.fixture(scope="module")
def few(colours, tmp_path_factory):
    """A folder with so many images of each class."""

    def make(*counts):
        root = tmp_path_factory.mktemp("images")
        for name, count in zip(("blue", "green", "red"), counts, strict=True):
            (root / name).mkdir()
            for number in range(count):
                shutil.copy(colours / name / f"{number:02d}.png", root / name)
        return str(root)

    return make


@pytest.fixture(scope="module")
def whole(few, tiny_backbone, tmp_path_factory):
    """A run on five images a class, its options, what it returned and said, and the rows that each stage trained on."""
    seen, stage, story, out = [], crossing.run_stage, Listener(), tmp_path_factory.mktemp("whole") / "run"

    def watched(given, material, *others):
        seen.append((given.name, set(material.rows("train").tolist())))
        assert not len(material.rows("val"))
        return stage(given, material, *others)

    options = {"images": few(5, 5, 5), "backbone": str(tiny_backbone), **STAGES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossing, "run_stage", watched)
        result = run(FinetuneConfig(**options, out=str(out)), story)
    return SimpleNamespace(out=out, options=options, result=result, story=story, seen=seen)


def splits_of(out):
    with (out / "splits.csv").open(newline="") as file:
        return [row["split"] for row in csv.DictReader(file)]


def test_every_image_is_held_out_once_by_networks_that_have_not_seen_it(whole):
    seen, story, out, result = whole.seen, whole.story, whole.out, whole.result
    assert set(splits_of(out)) == {"train", "test"}
    trained = {row for row, name in enumerate(splits_of(out)) if name == "train"}
    folds = [rows for name, rows in seen if name == "head"]
    held = [trained - rows for rows in folds]
    assert len(folds) == 4 and sum(map(len, held)) == len(set().union(*held)) == len(trained) == 12
    assert [rows for name, rows in seen if name == "top"] == folds

    made = json.loads((out / "choice.json").read_text())
    assert made["held_out"] == "12 training images, each held out of one of 4 folds"
    kinds = [one["kind"] for one in made["candidates"]]
    assert kinds == ["probe", "fine-tuned", "interpolated", "interpolated", "interpolated"]
    assert "cross-validated" in json.loads((out / "run.json").read_text())["split_rule"]
    assert "Cross-validated accuracy" in (out / "report.md").read_text() and "cross-validation in 4 folds" in story.text
    assert result["metrics"]["test"]["accuracy"]["n"] == 3
    assert not [path for path in (out / "checkpoints" / "folds").iterdir() if path.is_dir()]


class Sent(executors.Here):
    """Work that goes to other processes and comes back in any order, as far as pickling shows."""

    def each(self, function, items, story, named=str):
        for place in reversed(range(len(items))):
            yield place, pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(items[place])))


def test_killed_between_folds_the_rest_may_be_sent_elsewhere_and_nothing_changes(whole, tmp_path, monkeypatch):
    fold, done, options = crossing._fold, [], whole.options

    def dying(*given):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(given[-1].name)
        return fold(*given)

    monkeypatch.setattr(crossing, "_fold", dying)
    with pytest.raises(KeyboardInterrupt):
        run(FinetuneConfig(**options, out=str(tmp_path / "run")))
    monkeypatch.setattr(crossing, "_fold", lambda *given: (done.append(given[-1].name), fold(*given))[1])
    monkeypatch.setitem(executors.EXECUTORS, "here", lambda address: contextlib.nullcontext(Sent()))
    resumed = run(FinetuneConfig(resume=str(tmp_path / "run")))
    assert done == ["1", "2", "4", "3"]
    assert resumed["metrics"] == whole.result["metrics"]
    read = [json.loads((folder / "choice.json").read_text()) for folder in (whole.out, tmp_path / "run")]
    assert read[0] == read[1]
    for number in range(1, 5):
        one, other = (np.load(out / "checkpoints/folds" / f"{number}.npz") for out in (whole.out, tmp_path / "run"))
        assert one.files == other.files and all((one[name] == other[name]).all() for name in one.files)
    temperatures = {load(folder / "model.keras").facts.temperature for folder in (whole.out, tmp_path / "run")}
    assert len(temperatures) == 1


def test_what_wins_is_trained_anew_on_every_image(few, tiny_backbone, tmp_path, monkeypatch):
    decide = crossing.decide

    def tuned(entries, labels, **how):
        made = decide(entries, labels, **how)
        return crossing.replace(made, chosen=entries[-2].name)  # the interpolation halfway

    monkeypatch.setattr(crossing, "decide", tuned)
    out = tmp_path / "run"
    result = run(FinetuneConfig(images=few(4, 4, 4), backbone=str(tiny_backbone), out=str(out), **STAGES))
    made = json.loads((out / "choice.json").read_text())
    assert made["chosen"].startswith("0.5 of the way") and "test" in made["gained"]
    state = json.loads((out / "checkpoints" / "top" / "state.json").read_text())
    assert state["done"] and state["epoch"] == 2 and state["best_score"] is None
    assert (out / "checkpoints" / "choice" / "chosen.weights.h5").is_file()
    assert result["metrics"]["train"]["accuracy"]["n"] == splits_of(out).count("train")


@pytest.mark.parametrize(("counts", "folds"), [((2, 2, 2), 2), ((1, 3, 3), 0)])
def test_so_few_that_nothing_can_be_spared(few, tiny_backbone, tmp_path, counts, folds):
    story, out = Listener(), tmp_path / "run"
    options = STAGES | {"stages": None}  # they would be refused if requested
    run(FinetuneConfig(images=few(*counts), backbone=str(tiny_backbone), out=str(out), **options), story)
    assert RunDir(out).model.is_file() and "val" not in splits_of(out)
    assert (f"cross-validation in {folds} folds" in story.text) == bool(folds)
    assert ("Fine-tuning is left out" in story.text) == (not folds)
    assert (out / "choice.json").is_file() == bool(folds)
    assert ("what validation would decide is cross-validated" in story.text) == bool(folds)


def test_so_few_that_the_folds_together_could_not_decide(few, tiny_backbone, tmp_path):
    story, out = Listener(), tmp_path / "run"
    options = STAGES | {"validate": "auto", "stages": None}
    run(FinetuneConfig(images=few(3, 3, 3), backbone=str(tiny_backbone), out=str(out), **options), story)
    assert "training images are too few to choose by (fewer than 50)" in story.text
    assert "cross-validation in" in story.text and "Cross-validated accuracy" in (out / "report.md").read_text()
    assert not (out / "checkpoints" / "top").exists() and not (out / "choice.json").exists()


def dataset(count, given=None):
    hashes = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    made = Dataset.__new__(Dataset)
    codes = np.full(count, UNASSIGNED, np.int8) if given is None else given
    fields = {"given": codes, "labels": np.zeros(count, np.int32), "targets": None, "sha256": hashes, "groups": None}
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def test_when_the_validation_images_train():
    codes = np.array([0] * 70 + [1] * 29 + [2] * 20, np.int8)
    drawn = Splits(codes, "train 70, val 29, test 20: drawn by content.")
    enough = Splits(np.where(codes == 2, 1, codes).astype(np.int8), "train 70, val 49: drawn by content.")

    def joined(splits, given=None, **options):
        found = join_few(FinetuneConfig(images="images", **options), dataset(119, given), splits)
        assert found is splits or not len(found.indices("val"))
        assert (found.codes == 2).sum() == (splits.codes == 2).sum()
        return found is not splits

    assert joined(drawn)
    rule = join_few(FinetuneConfig(images="images"), dataset(119), drawn).rule
    assert rule.startswith("train 99, test 20: drawn by content. 29 validation images would be too few")
    assert not joined(enough) and joined(enough, validate="folds")
    assert not joined(drawn, given=codes) and joined(drawn, given=codes, validate="folds")
    assert not joined(drawn, validate="split") and not joined(drawn, val=0.0)
    assert not joined(drawn, minutes=3.0) and not joined(drawn, target_precision=0.5)
    with pytest.raises(TlkitError, match="--target-precision needs validation images"):
        FinetuneConfig(images="images", validate="folds", target_precision=0.9).check()


def test_folds_take_one_beginning_together_and_workers_share_them(monkeypatch):
    class Beside(executors.Here):
        def turns(self, items):
            return 2

    monkeypatch.setitem(executors.EXECUTORS, "ray", lambda address: contextlib.nullcontext(Beside()))
    stages = [SimpleNamespace(name=name, seconds=crossing.COMPILING + 8.0) for name in ("head", "top", "all")]
    here, there = (FinetuneConfig(images="images", backbone="nano", executor=name) for name in ("here", "ray"))
    seconds = [crossing._seconds(SimpleNamespace(stages=stages), here, folds) for folds in (0, 1, 3, 5)]
    each = 2 * (8.0 + crossing.AROUND)
    assert seconds == pytest.approx([0, *(2 * crossing.BEGINNING + folds * each for folds in (1, 3, 5))])
    assert crossing._seconds(SimpleNamespace(stages=stages), there, 5) == pytest.approx(seconds[1] + each)
    assert crossing._seconds(SimpleNamespace(stages=stages[:1]), here, 5) == 0


def test_clips_that_are_too_few_are_called_clips():
    given = dataset(99)
    object.__setattr__(given, "clips", object())
    splits = Splits(np.array([0] * 70 + [1] * 29, np.int8), "train 70, val 29: drawn by content.")
    assert "29 validation clips would be too few" in join_few(FinetuneConfig(images="clips"), given, splits).rule
