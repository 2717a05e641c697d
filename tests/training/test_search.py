import pytest

from tlkit.base.errors import TlkitError
from tlkit.options.commands import FinetuneConfig
from tlkit.tasks.multi import MULTI
from tlkit.tasks.single import SINGLE
from tlkit.training.plan import Plan, Stage
from tlkit.training.search import of_the_plan, of_the_stage, space, with_augment, with_rate, worth


def plan(name="top", blocks=4):
    empty = {"views": 1, "parameters": 1, "stored_bytes": 0, "seconds": 1.0, "reason": "", "cut": ""}
    head = Stage(name="head", method="lbfgs", source="features", blocks=0, epochs=30, learning_rate=1e-3, **empty)
    last = Stage(name=name, method="gradient", source="cut", blocks=blocks, epochs=8, learning_rate=3e-4, **empty)
    return Plan(stages=(head, last), extraction_seconds=1.0)


def test_the_planned_values_lie_in_the_space_so_that_they_can_be_the_first_trial():
    found = with_augment(space(FinetuneConfig(images="i"), plan(), 17), "none")
    assert set(found.defaults) == set(found.ranges) | set(found.choices)
    for name, (low, high, _) in found.ranges.items():
        assert low <= found.defaults[name] <= high
    for name, values in found.choices.items():
        assert found.defaults[name] in values
    assert found.choices["blocks"] == (2, 4, 8) and "none" in found.choices["augment"]


def test_what_was_asked_for_is_not_searched():
    asked = FinetuneConfig(images="i", learning_rate=(1e-3,), blocks=4)
    assert not {"learning_rate", "blocks"} & set(space(asked, plan(), 17).defaults)
    assert "blocks" not in space(FinetuneConfig(images="i", stages=("head", "all")), plan("all"), 17).defaults
    assert "blocks" not in space(FinetuneConfig(images="i", unfreeze="middle"), plan(), 17).defaults
    assert "label_smoothing" not in space(FinetuneConfig(images="i", loss="focal"), plan(), 17).defaults
    planned = [space(FinetuneConfig(images="i"), plan(), 17, task).defaults for task in (SINGLE, MULTI)]
    assert [values["label_smoothing"] for values in planned] == [0.1, 0.0]


def test_depth_stays_within_the_network():
    assert space(FinetuneConfig(images="i"), plan(blocks=1), 3).choices["blocks"] == (1, 2)
    assert space(FinetuneConfig(images="i"), plan(blocks=2), 3).choices["blocks"] == (1, 2)


def test_each_value_reaches_the_place_where_it_is_read():
    config = FinetuneConfig(images="i")
    values = {"blocks": 2, "augment": "strong", "learning_rate": 0.1, "layer_decay": 0.7, "weight_decay": 0.01}
    assert (of_the_plan(config, values).blocks, of_the_plan(config, values).augment) == (2, "strong")
    assert (of_the_stage(config, values).layer_decay, of_the_stage(config, values).weight_decay) == (0.7, 0.01)
    assert with_rate(plan().stages[1], values).learning_rate == 0.1


def test_trials_are_worth_their_accuracy_and_less_than_one_image_more_for_their_loss():
    scores = [(0.5, -9.0), (0.5, -0.1), (0.6, -50.0), (0.6, 0.0)]
    values = [worth(score, 10) for score in scores]
    assert values == sorted(values) and len(set(values)) == 4


@pytest.mark.parametrize("options", [{"stages": ("head",)}, {"minutes": 3}])
def test_a_search_is_not_asked_for_together_with_what_contradicts_it(options):
    with pytest.raises(TlkitError, match="--search 3"):
        FinetuneConfig(images="i", search=3, **options)
