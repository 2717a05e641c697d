"""The promises of a plan: it lists everything before anything happens, and every file is inspected once."""

import os
import shutil
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.listener import Listener
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence
from tlkit.data.scan import scan
from tlkit.data.split import split
from tlkit.extraction import extract as extraction
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run
from tlkit.report import outcome
from tlkit.training import planner
from tlkit.training.checkpoint import FolderSink
from tlkit.training.plan import Plan
from tlkit.training.stages import build_parts
from tlkit.training.train import train


@pytest.fixture
def few(colours, tmp_path):
    """Four images of each class."""
    for name in ("blue", "green", "red"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(4):
            shutil.copy(colours / name / f"{number:02d}.png", tmp_path / "few" / name)
    return str(tmp_path / "few")


def computed(*_, **__):
    raise AssertionError("something is computed")


def test_a_dry_run_needs_no_weights_and_measures_nothing(colours, monkeypatch):
    monkeypatch.setattr("tlkit.backbones.weights.load_imagenet", computed)
    for name in ("measure_forward", "measure_step", "measure_disk"):
        monkeypatch.setattr(planner.plan, name, computed)
    monkeypatch.setattr(planner, "WORTH_MEASURING", 0.0)
    monkeypatch.setattr(planner, "CLOSE", float("inf"))
    asked = FinetuneConfig(
        images=str(colours), backbone="mobilenetv2:alpha=0.35", image_size=32, head="mlp", dry_run=True
    )
    for config in (asked, replace(asked, minutes=30.0), replace(asked, precision="auto", validate="split")):
        result = run(config)
        assert result["plan"]["stages"][0]["name"] == "head"


def test_the_plan_of_a_dry_run_is_that_of_the_run(options, finished, tmp_path):
    _, result = finished
    out = result["out"]
    dry = run(
        FinetuneConfig(**options, out=str(tmp_path / "run"), stages=("head", "top", "all"), blocks=1, dry_run=True)
    )
    planned, done = Plan.from_json(dry["plan"]), Plan.from_json(outcome_of(out)["plan"])
    for one, other in zip(planned.stages, done.stages, strict=True):
        assert replace(one, seconds=0.0, memory_bytes=0) == replace(other, seconds=0.0, memory_bytes=0)
    told = [[(one.option, one.value) for one in plan.decisions] for plan in (planned, done)]
    assert told[0] == told[1] and ("validate", "split") in told[0]
    assert all(one.reason for one in planned.decisions)


def outcome_of(out):
    from tlkit.runs.folder import RunDir

    return RunDir(outcome.Path(out)).read_record()


def test_where_the_head_alone_trains_the_plan_says_so_and_why(few, tiny_backbone, tmp_path):
    config = FinetuneConfig(images=few, backbone=str(tiny_backbone), views=1, audit=False, out=str(tmp_path / "run"))
    story = Listener()
    dry = run(replace(config, dry_run=True), story)
    assert [stage["name"] for stage in dry["plan"]["stages"]] == ["head"]
    assert "too few to choose by" in Plan.from_json(dry["plan"]).decision("stages").reason
    assert "Fine-tuning is left out" in "\n".join(story.said)
    run(config, story := Listener())
    assert [stage["name"] for stage in outcome_of(config.out)["plan"]["stages"]] == ["head"]
    assert not (tmp_path / "run" / "checkpoints" / "top").exists()
    text = "\n".join(story.said)
    assert text.index("Fine-tuning is left out") < text.index("stage head")
    report = (tmp_path / "run" / "report.md").read_text()
    assert "Fine-tuning is left out" in report and "| validate |" in report


def test_stages_that_were_asked_for_are_honoured_or_refused_before_anything_is_computed(
    few, tiny_backbone, tmp_path, monkeypatch
):
    monkeypatch.setattr(extraction, "extract", computed)
    asked = {"images": few, "backbone": str(tiny_backbone), "blocks": 1, "stages": ("head", "top", "all")}
    config = FinetuneConfig(**asked, out=str(tmp_path / "run"))
    for one in (config, replace(config, dry_run=True)):
        with pytest.raises(TlkitError, match="--stages head,top,all cannot be done here") as caught:
            run(one)
        assert "--val 0" in str(caught.value) and not (tmp_path / "run").exists()
    unchecked = run(replace(config, val=0.0, dry_run=True))
    assert [stage["name"] for stage in unchecked["plan"]["stages"]] == ["head", "top", "all"]


OPENED: Counter | None = None  # an audit hook cannot be removed, so it counts only while active


def _count(event, arguments):
    if event == "open" and OPENED is not None and isinstance(arguments[0], str | os.PathLike):
        OPENED[os.fspath(arguments[0])] += 1


def test_a_file_is_opened_to_be_looked_at_and_to_be_computed_and_no_more(
    options, colours, tmp_path, monkeypatch, empty_cache
):
    global OPENED
    monkeypatch.setattr(outcome, "thumbnails", lambda root: lambda path: None)
    monkeypatch.setattr("tlkit.report.overlays.overlays", lambda *_: None)
    images = shutil.copytree(colours, tmp_path / "images")
    whole = (images / "red" / "00.png").read_bytes()
    (images / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])
    sys.addaudithook(_count)
    OPENED = Counter()
    try:
        given = options | {"images": str(images), "views": 1, "augment": "none", "audit": False, "blocks": 1}
        run(FinetuneConfig(**given, out=str(tmp_path / "run")))
        counts = [count for path, count in OPENED.items() if path.startswith(str(images)) and path.endswith(".png")]
        once = OPENED[str(images / "red" / "cut.png")]
    finally:
        OPENED = None
    # The header of a PNG is read once more, to see whether it has more than 8 bits per sample; the plan times the
    # decoding of up to 32 files, and of the first of them once before, which starts threads.
    assert len(counts) == 37 and sorted(counts)[-6:] == [4, 4, 4, 4, 4, 5] and counts.count(3) == 4 and once == 1


def test_python_trains_without_a_run_folder_and_finds_again_what_is_done(options, colours, tmp_path):
    config = FinetuneConfig(**options | {"blocks": 1, "audit": False})
    dataset = scan(colours)
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed)
    parts = build_parts(config, dataset, Silence())
    made = [train(dataset, splits, parts, config, FolderSink(tmp_path)) for _ in range(2)]
    np.testing.assert_array_equal(made[0].logits, made[1].logits)
    assert made[0].logits.shape == (36, 3) and [state.done for state in made[0].states] == [True, True]
    assert made[0].choice.chosen == made[1].choice.chosen
    assert not (tmp_path / "run.json").exists() and len(FolderSink(tmp_path).read("history")) >= 3
    np.testing.assert_allclose(
        made[0].classifier.model.predict(pixels(dataset), verbose=0), made[0].logits, rtol=1e-3, atol=1e-3
    )


def pixels(dataset):
    from tlkit.data.dataset import InputContract
    from tlkit.data.decode import batches

    files = [dataset.file(row) for row in range(len(dataset))]
    return np.concatenate([batch.images for batch in batches(files, InputContract(height=32, width=32), 36)])


def test_plans_from_before_decisions_are_read(options, tmp_path):
    dry = run(FinetuneConfig(**options, out=str(tmp_path / "run"), dry_run=True))["plan"]
    old = {name: value for name, value in dry.items() if name != "decisions"}
    old["notes"] = ["augment  medium, 6.0 training images a class", "unfreeze last: as asked for"]
    plan = Plan.from_json(old)
    assert plan.stages == Plan.from_json(dry).stages and plan.decision("unfreeze").reason == "as asked for"
    assert "6.0 training images a class" in plan.text()
