import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.classifier import compose
from tlkit.core.config import FinetuneConfig
from tlkit.core.errors import TlkitError
from tlkit.core.input_contract import InputContract
from tlkit.heads.build import build_head
from tlkit.training import plan as module
from tlkit.training.cost import operations, parameters
from tlkit.training.plan import Plan, build_plan, duration, is_convex, planned_views


@pytest.fixture(scope="module")
def backbone(tiny_backbone):
    return build_backbone(str(tiny_backbone))


def planned(backbone, train=200, total=300, **options):
    config = FinetuneConfig(images="images", **options)
    head = build_head(config, backbone.grid_shape, 3)
    classifier = compose(backbone, head, ("a", "b", "c"), InputContract(height=32, width=32))
    return build_plan(config, backbone, classifier, head.reads, train=train, total=total)


def test_a_plan_says_what_learns_and_survives_json(backbone):
    plan = planned(backbone, stages=("head", "top", "all"), epochs=(3, 4, 5), learning_rate=(0.1, 0.2, 0.3))
    assert [(stage.epochs, stage.learning_rate) for stage in plan.stages] == [(3, 0.1), (4, 0.2), (5, 0.3)]
    assert [stage.source for stage in plan.stages] == ["features", "cut", "pixels"]
    assert Plan.from_json(plan.as_json()) == plan
    for stage in plan.stages:
        assert stage.name in plan.text() and stage.reason in plan.text()


def test_the_cut_lies_below_the_blocks_that_learn_and_its_bytes_are_known(backbone):
    stage = planned(backbone, blocks=1, views=2).stages[1]
    assert stage.cut == backbone.blocks[-2].output
    shape = backbone.model.get_layer(stage.cut).output.shape[1:]
    assert stage.stored_bytes == np.prod(shape) * 4 * (300 + 200)


def test_a_cut_too_large_for_the_disk_budget_is_computed_anew(backbone, monkeypatch):
    monkeypatch.setattr(module, "CUT_BYTES", 1000)
    stage = planned(backbone, blocks=1).stages[1]
    assert (stage.source, stage.cut, stage.stored_bytes) == ("pixels", "", 0)


def test_as_many_blocks_as_there_are_cannot_be_the_top(backbone):
    with pytest.raises(TlkitError, match="stays frozen"):
        planned(backbone, blocks=len(backbone.blocks))


@pytest.mark.parametrize(("train", "views"), [(10, 8), (500, 8), (1000, 4), (3000, 1), (100_000, 1)])
def test_fewer_images_get_more_views(train, views):
    assert planned_views(FinetuneConfig(images="i"), train) == views


def test_views_are_as_asked_and_none_without_augmentation():
    assert planned_views(FinetuneConfig(images="i", views=3), 10) == 3
    assert planned_views(FinetuneConfig(images="i", augment="none"), 10) == 1


@pytest.mark.parametrize("options", [{"head": "mlp"}, {"loss": "focal"}, {"label_smoothing": 0.1}, {"dropout": 0.2}])
def test_only_the_plain_linear_head_is_convex(options):
    assert is_convex(FinetuneConfig(images="i"))
    assert not is_convex(FinetuneConfig(images="i", **options))


def test_operations_by_hand(backbone):
    # 16x16x8 from 3x3x3, 8x8x12 from 3x3x8, 4x4x16 from 3x3x12
    assert operations(backbone.model.layers) == 256 * 27 * 8 + 64 * 72 * 12 + 16 * 108 * 16
    assert parameters(backbone.model.layers) == backbone.model.count_params()


def test_durations_read_well():
    assert [duration(seconds) for seconds in (0.1, 8, 150, 9000)] == ["1 s", "8 s", "2 min", "2.5 h"]
