import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import InputContract
from tlkit.options.catalog import PRESETS
from tlkit.options.commands import FinetuneConfig
from tlkit.training import planner as module
from tlkit.training.costs import HEAD_EPOCHS, is_convex, planned_views
from tlkit.training.minutes import EVERY_FROM
from tlkit.training.plan import (
    MOVED,
    USEFUL,
    Plan,
    Sizes,
    duration,
    fastest,
    operations,
    parameters,
    planned_epochs,
    useful_epochs,
    work,
)
from tlkit.training.planner import build_plan
from tlkit.training.settle import READYING, _judging, preset


@pytest.fixture(scope="module")
def backbone(tiny_backbone):
    return build_backbone(str(tiny_backbone))


def planned(backbone, train=200, total=300, disk=2**30, **options):
    config = FinetuneConfig(images="images", **options)
    head = build_head(config, backbone.grid_shape, 3)
    classifier = compose(backbone, head, ("a", "b", "c"), InputContract(height=32, width=32))
    return build_plan(config, backbone, classifier, head.reads, Sizes(train, total - train, total, disk, "given"))


def test_a_plan_says_what_learns_and_survives_json(backbone):
    plan = planned(backbone, stages=("head", "top", "all"), epochs=(3, 4, 5), learning_rate=(0.1, 0.2, 0.3))
    assert [(stage.epochs, stage.learning_rate) for stage in plan.stages] == [(3, 0.1), (4, 0.2), (5, 0.3)]
    assert [stage.source for stage in plan.stages] == ["features", "cut", "pixels"]
    whole = replace(plan, besides=(("auditing", 30.0), ("evaluating", 20.0)))
    assert Plan.from_json(json.loads(json.dumps(whole.as_json()))) == whole and Plan.from_json(plan.as_json()) == plan
    assert whole.seconds == pytest.approx(plan.extraction_seconds + sum(stage.seconds for stage in plan.stages) + 50)
    assert f"auditing about 30 s, evaluating about 20 s; in all about {duration(whole.seconds)}" in whole.text()
    for stage in plan.stages:
        assert stage.name in plan.text() and stage.reason in plan.text()


def test_the_cut_lies_below_the_blocks_that_learn_and_its_bytes_are_known(backbone):
    stage = planned(backbone, blocks=1, views=2).stages[1]
    assert stage.cut == backbone.blocks[-2].output
    shape = backbone.model.get_layer(stage.cut).output.shape[1:]
    assert stage.stored_bytes == np.prod(shape) * 4 * (300 + 200)


def test_a_cut_too_large_for_the_disk_is_computed_every_epoch(backbone):
    stage = planned(backbone, blocks=1, disk=100_000, views=1).stages[1]
    assert (stage.source, stage.cut, stage.stored_bytes) == ("pixels", backbone.blocks[-2].output, 0)
    assert "would take" in stage.reason


def test_the_disk_decides_how_many_views_are_stored_unless_their_number_is_asked_for(backbone):
    rows = 4 * (16 + np.prod(backbone.model.get_layer(backbone.blocks[-2].output).output.shape[1:]))
    disk = rows * (300 + 2 * 200)
    plan = planned(backbone, blocks=1, disk=disk)
    assert [stage.views for stage in plan.stages] == [3, 3] and plan.stages[1].source == "cut"
    assert planned(backbone, blocks=1, disk=disk, views=8).stages[1].source == "pixels"
    halved = planned(backbone, blocks=1, disk=disk, stored_as="float16")
    assert halved.stages[1].views == 6 and halved.stages[1].stored_bytes == 2 * (rows // 4 - 16) * (300 + 5 * 200)


def test_a_grid_too_large_for_the_disk_is_computed_every_epoch_too(backbone):
    plan = planned(backbone, blocks=1, head="conv", disk=1000)
    assert [(stage.source, stage.views, stage.stored_bytes) for stage in plan.stages] == [("pixels", 0, 0)] * 2
    assert plan.extraction_seconds == 0 and "extract  nothing" in plan.text()
    assert f"the grid and the output of {backbone.blocks[-2].output} computed every epoch" in plan.text()


def test_fresh_views_where_they_are_asked_for(backbone):
    plan = planned(backbone, blocks=1, views=0)
    assert [(stage.source, stage.views, stage.method) for stage in plan.stages] == [
        ("features", 0, "gradient"),
        ("cut", 0, "gradient"),
    ]
    assert "fresh views every epoch" in plan.text()


def test_stored_and_fresh_views_are_held_against_each_other(backbone):
    plan = planned(backbone, blocks=1, head="mlp")
    assert plan.stages[0].views == 8 and "fresh views every epoch: " in plan.text()
    few = planned(backbone, train=12_000, total=12_001, head="mlp", epochs=(1,), stages=("head",), views=None)
    assert few.stages[0].views == 1


def test_what_is_close_and_long_is_measured(backbone, monkeypatch):
    assert "(estimated)" in planned(backbone, blocks=1, head="mlp").text()
    monkeypatch.setattr(module, "CLOSE", float("inf"))
    monkeypatch.setattr(module, "WORTH_MEASURING", 0.0)
    before = [weight.numpy().copy() for weight in backbone.model.weights]
    assert "(measured)" in planned(backbone, blocks=1, head="mlp").text()
    for old, weight in zip(before, backbone.model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_an_update_that_does_not_fit_into_memory_is_taken_in_parts(backbone, monkeypatch):
    asked = planned(backbone, blocks=1, accumulate=2).stages[1]
    assert asked.parts == 2 and asked.memory_bytes > 0 and "WARNING" not in asked.reason
    monkeypatch.setattr(module, "room", lambda: (asked.memory_bytes - 2**20, "this machine"))
    stage = planned(backbone, blocks=1, accumulate=2).stages[1]
    assert stage.parts > 2 and f"in {stage.parts} parts" in stage.reason
    monkeypatch.setattr(module, "room", lambda: (1, "this machine"))
    assert "WARNING" in planned(backbone, blocks=1).stages[1].reason


def test_as_many_blocks_as_there_are_cannot_be_the_top(backbone):
    with pytest.raises(TlkitError, match="stays frozen"):
        planned(backbone, blocks=len(backbone.blocks))


@pytest.mark.parametrize(("train", "views"), [(10, 8), (1500, 8), (3000, 4), (9000, 1), (100_000, 1)])
def test_fewer_images_get_more_views(train, views):
    assert planned_views(FinetuneConfig(images="i"), train) == views


def test_views_are_as_asked_and_none_without_augmentation():
    assert planned_views(FinetuneConfig(images="i", views=3), 10) == 3
    assert planned_views(FinetuneConfig(images="i", augment="none"), 10) == 1


def test_stages_by_gradient_descent_centralize_on_few_images_and_the_plan_says_so(backbone):
    few, many = (planned(backbone, train=train, total=train) for train in (200, 3000))
    assert [stage.centralize for stage in few.stages] == [False, True]  # the head is solved
    assert not any(stage.centralize for stage in many.stages)
    assert [plan.decision("centralize").value for plan in (few, many)] == ["on", "off"]
    assert planned(backbone, stages=("head",)).decision("centralize") is None


def test_a_stage_may_end_early_only_where_nothing_was_asked_for_and_something_can_judge(backbone):
    plan = planned(backbone)
    assert [stage.least for stage in plan.stages] == [0, 10] and plan.stages[1].epochs == 40
    assert "after top 10 a stage may end early" in plan.decision("epochs").reason
    asked = [{"epochs": (40,)}, {"patience": 9}, {"stages": ("head", "top", "all")}, {"total": 200}]
    for options in asked:
        plan = planned(backbone, **options)
        assert not any(stage.least for stage in plan.stages), options
        assert "early" not in plan.text()


def test_what_was_left_open_about_augmentation_is_settled_and_said(backbone):
    few = planned(backbone, train=30, head="mlp")
    assert few.augment == "medium" and [stage.mix for stage in few.stages] == ["mixup", "mixup"]
    assert "10.0 training images a class" in few.decision("augment").reason
    cut = planned(backbone, head="mlp", mix="cutmix")
    assert [stage.mix for stage in cut.stages] == ["none", "cutmix"] and "no regions" in cut.stages[0].reason
    assert "--no-flip" in cut.decision("flip").reason  # the classes are a, b and c


@pytest.mark.parametrize("options", [{"head": "mlp"}, {"loss": "focal"}, {"dropout": 0.2}])
def test_only_the_plain_linear_head_is_convex(options):
    assert is_convex(FinetuneConfig(images="i"))
    assert not is_convex(FinetuneConfig(images="i", **options))


def test_operations_by_hand(backbone):
    # 16x16x8 from 3x3x3, 8x8x12 from 3x3x8, 4x4x16 from 3x3x12
    computed = 256 * 27 * 8 + 64 * 72 * 12 + 16 * 108 * 16
    assert operations(backbone.model.layers) == computed
    made = 32 * 32 * 3 + 3 * (256 * 8 + 64 * 12 + 16 * 16)  # by the rescaling; by convolution, norm and activation
    assert work(backbone.model.layers) == computed + MOVED * made
    assert parameters(backbone.model.layers) == backbone.model.count_params()


def test_choosing_goes_by_the_pace_of_the_last_stage(backbone):
    head, top = planned(backbone).stages
    plan = replace(planned(backbone), stages=(head, replace(top, seconds=30.0, epochs=10)))
    # Eight times 20 images and once 140, of which an epoch of 3 s passes 100 three times
    assert _judging(plan, 100, 20, 140) == pytest.approx(READYING + 3.0)
    assert _judging(replace(plan, stages=(head,)), 100, 20, 140) == 0.0


def test_the_fastest_run_is_looked_for_as_long_as_is_asked(monkeypatch):
    runs, clock = [], itertools.count()  # every look at the clock is a second later
    monkeypatch.setattr("tlkit.training.plan.time.perf_counter", lambda: float(next(clock)))
    assert fastest(lambda: runs.append(0)) == 1.0 and len(runs) == 1 + 3
    runs.clear()
    assert fastest(lambda: runs.append(0), repeats=1, least=9.0) == 1.0 and len(runs) == 1 + 3


def test_deep_where_it_can_be_paid_for_and_the_reason_is_said(backbone):
    few, many = planned(backbone), planned(backbone, train=10**9, views=1)
    assert (few.stages[1].blocks, many.stages[1].blocks) == (2, 1)  # 216 + 32, 864 + 48 and 1728 + 64 parameters
    assert "94 % of the parameters" in few.stages[1].reason and "--blocks 2 does" in many.stages[1].reason
    assert planned(backbone, blocks=1).stages[1].blocks == 1


@pytest.mark.parametrize(("images", "batch", "epochs"), [(10, 32, 40), (870, 32, 22), (2800, 32, 10), (2800, 256, 40)])
def test_epochs_make_about_as_many_updates(images, batch, epochs):
    assert planned_epochs(images, batch) == epochs


def test_durations_read_well():
    assert [duration(seconds) for seconds in (0.1, 8, 150, 9000)] == ["1 s", "8 s", "2 min", "2.5 h"]


@pytest.mark.parametrize(("third", "first", "last"), [("first", 0, 0), ("middle", 1, 1), ("all", 0, 2)])
def test_a_third_learns_and_only_what_lies_before_it_is_stored(backbone, third, first, last):
    stage = planned(backbone, unfreeze=third, views=1).stages[1]
    assert len(backbone.blocks) == 3
    assert (stage.blocks, stage.skipped) == (last - first + 1, 2 - last)
    assert stage.cut == (backbone.blocks[first - 1].output if first else "")
    assert (stage.source, stage.views) == (("cut", 1) if first else ("pixels", 0))
    assert stage.parameters == parameters(
        [backbone.model.get_layer(name) for block in backbone.blocks[first : last + 1] for name in block.layers]
    ) + 3 * (16 + 1)


def test_passing_gradients_through_frozen_blocks_costs_what_it_costs(backbone, monkeypatch):
    monkeypatch.setattr(module, "WORTH_MEASURING", float("inf"))
    monkeypatch.setattr(module.plan, "seconds_per_operation", lambda: 1e-9)
    last = planned(backbone, blocks=1, train=10**6, total=10**6, disk=2**50, views=1).stages[1]
    middle = planned(backbone, unfreeze="middle", train=10**6, total=10**6, disk=2**50, views=1).stages[1]
    whole = work(backbone.model.layers)
    of_the_last, of_the_middle = (
        work(backbone.model.get_layer(name) for name in backbone.blocks[number].layers) for number in (2, 1)
    )
    assert whole > of_the_last + of_the_middle
    expected = (2 * (of_the_last + of_the_middle) + of_the_middle) / (3 * of_the_last)
    assert middle.seconds / last.seconds == pytest.approx(expected, rel=0.01)  # nothing to speak of besides


@pytest.mark.parametrize(
    "options", [{"unfreeze": "first", "blocks": 2}, {"unfreeze": "middle", "stages": ("head", "all")}]
)
def test_a_third_is_not_asked_for_together_with_what_contradicts_it(options):
    with pytest.raises(TlkitError, match="--unfreeze"):
        FinetuneConfig(images="i", **options)


def preset_of(train=200, **options):
    return preset(FinetuneConfig(images="images", **options), train)


def test_a_preset_says_what_was_not_given_and_the_plan_says_so():
    fast, (decision,) = preset_of(preset="fast")
    assert (fast.stages, fast.views, fast.preset) == (("head",), 1, None)
    assert str(decision).startswith("preset      fast (stages head, views 1): ")
    plain, decisions = preset_of()
    assert plain == FinetuneConfig(images="images") and decisions == []
    same, (decision,) = preset_of(preset="default")
    assert same == plain and "nothing else than planned" in decision.value


def test_what_is_given_beside_a_preset_wins_and_that_is_said():
    found, (decision,) = preset_of(preset="fast", views=3)
    assert (found.stages, found.views) == (("head",), 3) and "--views as given" in decision.reason
    found, (decision,) = preset_of(preset="best", epochs=(5,))
    assert found.epochs == (5,) and "--epochs as given" in decision.reason
    found, _ = preset_of(preset="best", blocks=3, train=5000)
    assert found.blocks == 3 and found.unfreeze is None
    found, _ = preset_of(preset="best", unfreeze="last", train=5000)
    assert found.unfreeze == "last"


def test_the_best_preset_is_what_minutes_find_where_there_is_time(backbone):
    few, many = preset_of(preset="best")[0], preset_of(preset="best", train=2000)[0]
    assert few.epochs == (HEAD_EPOCHS, useful_epochs(200, 32)) and few.unfreeze is None
    assert many.epochs == (HEAD_EPOCHS, useful_epochs(2000, 32)) and many.unfreeze == "all"
    assert PRESETS["best"].every_from == EVERY_FROM and PRESETS["best"].longer == USEFUL


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "best", "minutes": 3}, "--minutes 3 and --preset best both say how long"),
        ({"preset": "fast", "blocks": 3}, "--blocks 3 has no effect with --preset fast"),
        ({"preset": "bets"}, "'bets' is not a value of --preset"),
    ],
)
def test_what_does_not_go_with_a_preset_is_refused(options, said):
    with pytest.raises(TlkitError, match=said):
        FinetuneConfig(images="images", **options)
