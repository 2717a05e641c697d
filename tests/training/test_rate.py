"""The peak rate of a stage, tried on its first updates: a high one where training tolerates it."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tlkit.base.story import Silence
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run
from tlkit.tasks.registry import TASKS
from tlkit.training import planner, train
from tlkit.training.costs import briefer, is_tried
from tlkit.training.fit import Epoch
from tlkit.training.plan import TRIED, Plan, Sizes, Stage, planned_epochs
from tlkit.training.stages import Ready

EMPTY = {"source": "cut", "blocks": 1, "cut": "c", "views": 4, "parameters": 1, "stored_bytes": 1, "seconds": 15.0}
TOP = Stage(name="top", method="gradient", epochs=10, learning_rate=1e-3, reason="", tried=True, warm_up=0.3, **EMPTY)


def tried(losses, monkeypatch):
    """The result of a trial whose parts have these losses, the first at the start; its rate rises by 1e-4 per part."""
    given, optimizer = iter(losses[1:]), SimpleNamespace(learning_rate=0.0, variables=[])

    def epoch(examples, number):
        optimizer.learning_rate += 1e-4
        return next(given), 1.0

    whole = SimpleNamespace(updates=30, labels=np.zeros(915))
    monkeypatch.setattr(train, "examples_of", lambda *_: whole)
    monkeypatch.setattr(train, "_drawn", lambda whole, updates, seed, part: (updates, part))
    monkeypatch.setattr(train, "_loss", lambda *_: losses[0])
    model = SimpleNamespace(optimizer=optimizer, variables=[])
    monkeypatch.setattr(train, "made_ready", lambda *_: Ready(model, Epoch(epoch, compiling=2.0)))
    kept = {}
    sink = SimpleNamespace(write=kept.__setitem__)
    material = SimpleNamespace(config=FinetuneConfig(images="images", seed=0), labels=lambda split: np.zeros(915))
    plan, ready = train.settle_rate(Plan(stages=(TOP,), extraction_seconds=0.0), 0, material, sink, Silence())
    assert kept["plan"] == plan.as_json()
    assert not plan.stages[0].tried
    return plan, ready, list(given)


@pytest.mark.parametrize(
    ("losses", "borne", "left"),
    [
        ((0.7, 0.7, 0.75, 0.8, 0.83), True, 0),
        ((0.7, 0.7, 0.75, 0.85, 9.0), False, 1),  # 1.21 times the start in the third part
        ((0.7, 0.85, 9.0, 9.0, 9.0), False, 3),
        ((0.7, 0.7, float("nan"), 9.0, 9.0), False, 2),
        ((0.7, 0.7, 0.7, 0.7, 0.85), False, 0),
        ((float("nan"), 0.7, 0.7, 0.7, 0.7), False, 3),
    ],
)
def test_a_high_rate_is_taken_where_the_loss_bears_it(losses, borne, left, monkeypatch):
    plan, ready, unread = tried(losses, monkeypatch)
    top = plan.stages[0]
    assert (ready.epoch.known and not ready.epoch.compiling) if borne else ready is None
    assert (top.learning_rate, top.epochs, top.warm_up) == ((1e-3, 10, 0.3) if borne else (3e-4, 21, 0.1))
    assert top.least == (0 if borne else 6) and top.seconds == pytest.approx(10.0 if borne else 21.0)
    assert len(unread) == left
    said = plan.decision("learning_rate")
    assert said.value == ("top 0.001" if borne else "top 0.0003")
    assert ("instead of 10" in said.reason) is not borne


def test_what_was_compiled_for_the_trial_goes_on_at_the_lower_rate_where_it_can(monkeypatch):
    asked = []
    model = SimpleNamespace(optimizer=SimpleNamespace(follow=lambda *course: asked.append(course)))
    stage, examples = replace(TOP, learning_rate=3e-4, epochs=21, warm_up=0.1), SimpleNamespace(updates=29)
    fixed, open_ = (Ready(model, Epoch(lambda *_: (0.0, 0.0), follows=follows)) for follows in (False, True))
    assert train.steered(fixed, stage, examples) is None and not asked
    assert train.steered(open_, stage, examples) is open_
    assert asked == [(3e-4, 609, 0.1)]


def test_without_memory_for_a_trial_a_stage_is_trained_as_before(monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr(train, "_bearing", exhausted)
    material = SimpleNamespace(config=FinetuneConfig(images="images"), labels=lambda split: np.zeros(915))
    plan = Plan(stages=(TOP,), extraction_seconds=0.0)
    plan, ready = train.settle_rate(plan, 0, material, SimpleNamespace(write=lambda *_: None), Silence())
    assert ready is None
    assert (plan.stages[0].learning_rate, plan.stages[0].epochs, plan.stages[0].tried) == (3e-4, 21, False)
    assert plan.decision("learning_rate").reason.startswith("there is no memory for a trial")


def test_a_rate_that_was_asked_for_is_not_tried(monkeypatch):
    monkeypatch.setattr(train, "made_ready", None)
    plan = Plan(stages=(replace(TOP, tried=False),), extraction_seconds=0.0)
    assert train.settle_rate(plan, 0, None, None, Silence()) == (plan, None)


SIZES = Sizes(train=900, val=100, total=1200, disk=1, disk_reason="")


@pytest.mark.parametrize(
    ("options", "sizes", "task", "expected"),
    [
        ({}, {}, "single", True),
        ({}, {"train": 1999}, "single", True),
        ({}, {"train": 2000}, "single", False),
        ({}, {"val": 0}, "single", False),
        ({}, {"train": 224}, "single", False),  # 40 epochs either way
        ({}, {}, "multi", False),
        ({}, {}, "number", False),
        ({"learning_rate": (3e-4,)}, {}, "single", False),
        ({"epochs": (5,)}, {}, "single", False),
        ({"stages": ("head", "top")}, {}, "single", False),
        ({"optimizer": "sgd"}, {}, "single", False),
        ({"minutes": 3.0}, {}, "single", False),
    ],
)
def test_where_it_is_tried(options, sizes, task, expected):
    config = FinetuneConfig(images="images", **options)
    assert is_tried(config, replace(SIZES, **sizes), TASKS[task]) is expected


@pytest.mark.parametrize(("images", "epochs"), [(330, 28), (648, 15), (915, 11), (1402, 7), (1999, 5)])
def test_half_of_the_updates_and_a_view_for_every_three_epochs(images, epochs):
    assert planned_epochs(images, 32, *TRIED) == epochs
    options, views = briefer(FinetuneConfig(images="images"), images)
    assert options.epochs == (30, epochs)
    assert views == min(8, -(-epochs // 3))


def test_a_run_tries_the_rate_once_and_trains_at_what_it_found(colours, tiny_backbone, tmp_path, empty_cache):
    options = {"images": str(colours), "backbone": str(tiny_backbone), "val": 0.4, "validate": "split", "seed": 3}
    run(FinetuneConfig(**options, out=str(tmp_path / "run")))
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    top = plan["stages"][-1]
    assert top["tried"] is False and (top["warm_up"], top["learning_rate"]) in ((0.3, 1e-3), (0.1, 3e-4))
    said = {one["option"]: one for one in plan["decisions"]}["learning_rate"]
    assert said["value"] == f"top {top['learning_rate']:g}"
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert sum(row.startswith("top,") for row in rows) - 1 <= top["epochs"] <= 40


def test_drawn_parts_hold_every_image_once_before_any_comes_again():
    examples = train.Examples(
        read=lambda positions, epoch: positions,
        labels=np.arange(10) % 2,
        weights=np.ones(10, np.float32),
        classes=2,
        batch_size=4,
        seed=0,
    )
    parts = [train._drawn(examples, 1, 0, part) for part in range(5)]
    drawn = np.concatenate([part.read(np.arange(4), 0) for part in parts])
    assert sorted(drawn[:10]) == list(range(10)) and sorted(drawn[10:]) == list(range(10))
    assert all((part.labels == drawn[4 * k : 4 * k + 4] % 2).all() for k, part in enumerate(parts))


@pytest.mark.parametrize("borne", [np.inf, 0.0], ids=["borne", "not borne"])
def test_a_stage_that_was_made_ready_learns_what_one_compiled_anew_learns(
    borne, colours, tiny_backbone, tmp_path, empty_cache, monkeypatch
):
    options = {"images": str(colours), "backbone": str(tiny_backbone), "val": 0.4, "validate": "split", "seed": 3}
    monkeypatch.setattr(train, "RISEN", borne)
    monkeypatch.setattr(planner, "is_tried", lambda *_: True)  # for any number of images

    def history(name):
        run(FinetuneConfig(**options, out=str(tmp_path / name)))
        with (tmp_path / name / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{key: float(row[key] or "nan") for key in row if key not in ("stage", "seconds")} for row in rows]

    made, known = [], train.settle_rate
    monkeypatch.setattr(train, "settle_rate", lambda *given: made.append(known(*given)) or made[-1])
    ready = history("ready")
    assert any(found is not None for _, found in made) or (keras.backend.backend() == "jax" and not borne)
    assert made[-1][0].stages[-1].learning_rate == (1e-3 if borne else 3e-4)
    monkeypatch.setattr(train, "settle_rate", lambda *given: (known(*given)[0], None))
    anew = history("anew")
    assert len(ready) == len(anew) > 5
    for one, other in zip(ready, anew, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    ("images", "batch", "parts"), [(245, 32, 1), (9, 4, 1), (33, 32, 1), (245, 32, 4), (31, 32, 2)]
)
def test_drawn_updates_are_of_the_size_of_the_stage_s_own(images, batch, parts):
    """Otherwise the step that was traced on them would be traced again for the stage."""
    examples = train.Examples(
        read=lambda positions, epoch: positions,
        labels=np.arange(images) % 2,
        weights=np.ones(images, np.float32),
        classes=2,
        batch_size=batch,
        seed=0,
        parts=parts,
    )
    drawn = train._drawn(examples, 3, 0)
    assert (drawn.part_size, drawn.updates) == (examples.part_size, 3)
