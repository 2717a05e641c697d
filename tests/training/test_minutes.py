import pytest

from tlkit.backbones.build import build_backbone
from tlkit.base.errors import TlkitError
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import compose
from tlkit.data.dataset import InputContract
from tlkit.options.commands import FinetuneConfig
from tlkit.training import minutes as module
from tlkit.training.minutes import Budget, Throughput, fit_into
from tlkit.training.plan import Sizes

TRAIN, TOTAL = 1000, 1400


@pytest.fixture
def fitted(tiny_backbone, monkeypatch):
    """Plans for a network of three blocks that passes 1,000 images a second, on a machine like that of the constants."""
    backbone = build_backbone(str(tiny_backbone))
    whole = module.work(backbone.model.layers)
    monkeypatch.setattr(module, "_measure", lambda *_: Throughput(0.0008, 0.0002, 0.002 / whole))
    monkeypatch.setattr(module, "slowness", lambda: 1.0)

    def plan(minutes, train=TRAIN, **options):
        config = FinetuneConfig(images="images", minutes=minutes, **options)
        head = build_head(config, backbone.grid_shape, 3)
        classifier = compose(backbone, head, ("a", "b", "c"), InputContract(height=32, width=32))
        budget = Budget(minutes, 0.0, lambda: 10.0)
        sizes = Sizes(train, val=200, total=train + 400, disk=2**30, disk_reason="given")
        return fit_into(budget, config, backbone, classifier, head.reads, sizes, decode=0.0002)

    return plan


def depth(plan):
    return {"all": 3}.get(plan.third, plan.blocks) if "top" in plan.in_stages else 0


def test_more_minutes_buy_blocks_then_views_and_epochs(fitted):
    plans = [fitted(minutes).options for minutes in (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 8, 20)]
    depths = list(map(depth, plans))
    assert depths == sorted(depths) and set(depths) == {0, 1, 2}
    assert plans[-1].epochs[1] == 2 * 19 and plans[-2].epochs[1] >= 19  # for 600 updates
    assert plans[-1].views >= plans[-2].views >= 1
    for plan in plans:
        assert plan.minutes is None


def test_many_images_and_minutes_train_every_block(fitted):
    depths = [depth(fitted(minutes, train=2000).options) for minutes in (1, 2, 3, 5, 10, 20)]
    assert depths == sorted(depths) and depths[-2:] == [3, 3]
    assert "time for every block" in fitted(20, train=2000).decision.reason
    assert depth(fitted(20, train=1999).options) == 2


def test_the_plan_takes_no_longer_than_there_is_time(fitted):
    for minutes in (2, 3, 5, 8):
        plan, pace, _ = (found := fitted(minutes)).options, found.pace, found.decision
        seconds = 10 + pace.forward * (TOTAL + (plan.views - 1) * TRAIN)
        if "top" in plan.in_stages:
            seconds += plan.epochs[1] * pace.step * TRAIN
        assert seconds < 60 * minutes


def test_too_few_minutes_are_said_and_the_head_is_trained_all_the_same(fitted):
    found = fitted(0.7)
    assert (
        found.options.in_stages == ("head",)
        and found.options.views >= 1
        and "no time to train" in found.decision.reason
    )
    assert "WARNING: too little even for that" in fitted(0.3).decision.reason


def test_what_was_asked_for_stays(fitted):
    assert fitted(8, blocks=1, views=3).options.blocks == 1
    assert fitted(8, blocks=1, views=3).options.views == 3
    assert fitted(20, stages=("head", "all")).options.in_stages == ("head", "all")
    assert fitted(8, unfreeze="middle").options.third == "middle"
    assert fitted(8, stages=("head",)).options.in_stages == ("head",)
    for options in ({"views": 3}, {"augment": "none"}):  # not fresh
        assert fitted(20, train=2000, **options).options.third == "last"


@pytest.mark.parametrize("options", [{"epochs": (3,)}, {"stages": ("head", "top", "all")}])
def test_minutes_are_not_asked_for_together_with_what_contradicts_them(options):
    with pytest.raises(TlkitError, match="--minutes 2"):
        FinetuneConfig(images="i", minutes=2, **options)
