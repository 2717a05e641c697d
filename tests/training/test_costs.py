import pytest

from tlkit.training.costs import AUDITING, CHOOSING, COSTS, EVALUATING, Cost, parts


def test_the_cost_of_a_part_by_hand():
    cost = Cost(fixed=2.0, image=0.5, pair=0.25, answer=0.125, label=1.0)
    assert cost.seconds(4, 3) == 2 + 0.5 * 4 + 0.25 * 6 + 0.125 * 12 + 3
    judging = Cost(fixed=2.0, answer=1.0, judges=True)
    assert judging.seconds(4, 3) == 2 + 12 and judging.seconds(30_000, 10_000) == 2  # too many to judge


def test_parts_come_in_the_order_of_their_names_and_take_longer_on_a_slower_machine():
    names = (AUDITING, CHOOSING, EVALUATING)
    once, twice = parts(names, 1000, 10, 1.0), parts(names, 1000, 10, 2.0)
    assert [name for name, _ in once] == list(names)
    assert [seconds for _, seconds in twice] == pytest.approx([2 * seconds for _, seconds in once])
    assert all(COSTS[name].seconds(100_000, 10) > COSTS[name].seconds(1000, 10) for name in names)
