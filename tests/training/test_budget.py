import pytest

from tlkit.training.minutes import Budget

MOST = 60  # epochs that the stage can use


class Clock:
    """A clock that only advances on request."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def trained(minutes, expected, takes, after=5.0, compiling=3.0, compiled=None):
    """Train in simulated time, epoch `n` taking `takes(n)`; returns the final time, and the epochs settled after each.

    Compiling takes as long as was reserved for it, or `compiled`.
    """
    clock = Clock()
    budget = Budget(minutes, clock.now, clock, after=after, compiling=compiling)
    epochs, done, settled = budget.begin(expected, MOST), 0, []
    while done < epochs:
        clock.now += takes(done) + ((compiled or compiling) if not done else 0)
        done += 1
        epochs = max(done, budget.again(done, epochs))
        settled.append(epochs)
    return clock.now - 100.0 + after, settled


def test_what_goes_as_expected_is_never_settled_otherwise():
    spent, settled = trained(1, expected=5.0, takes=lambda epoch: 5.0)
    assert settled == [10] * 10  # 60 - 5 - 3 = 52, with 1.2 of slack 10 epochs of 5
    assert spent == 58


@pytest.mark.parametrize("factor", [0.3, 0.7, 1.0, 1.6, 3.0])
def test_a_wrong_expectation_costs_no_time(factor):
    spent, settled = trained(2, expected=4.0, takes=lambda epoch: 4.0 * factor)
    epoch = 4.0 * factor
    assert spent <= 120 * 1.1
    assert spent >= 120 - epoch or len(settled) == MOST


def test_more_epochs_than_a_stage_has_use_for_are_not_trained():
    spent, settled = trained(10, expected=1.0, takes=lambda epoch: 0.5)
    assert settled[-1] == len(settled) == MOST and spent < 60


def test_a_machine_that_slows_down_has_fewer_epochs():
    spent, settled = trained(2, expected=4.0, takes=lambda epoch: 4.0 if epoch < 8 else 8.0)
    assert settled[0] > settled[-1] and spent <= 120 * 1.1


def test_a_first_epoch_that_leaves_hardly_time_is_believed():
    spent, settled = trained(1, expected=2.0, takes=lambda epoch: 24.0)
    assert len(settled) == 2 and spent == pytest.approx(5 + 3 + 48)


def test_compiling_slowly_is_not_taken_for_slow_epochs():
    # 60 - 5 - 19 = 36 s are left: two epochs if they took 15, which is what 19 less 4 for compiling leave to believe.
    spent, settled = trained(1, expected=5.0, takes=lambda epoch: 5.0, compiling=4.0, compiled=14.0)
    assert settled[:2] == [3, 8] and len(settled) == 8 and spent == 5 + 14 + 40


def test_a_schedule_that_has_ended_is_not_gone_on_with():
    clock = Clock()
    budget = Budget(10, clock.now, clock)
    assert budget.begin(5.0, MOST) == MOST
    clock.now += 5
    assert budget.again(2, 2) == 2


def test_no_time_is_no_epoch():
    clock = Clock()
    budget = Budget(0.2, clock.now, clock, after=20.0)
    assert budget.begin(0.5, MOST) == 0 and budget.left < 0
    hardly = Budget(0.2, clock.now, clock)
    assert hardly.begin(3.0, MOST) == 4 and hardly.begin(5.0, MOST) == 0  # two are no schedule


def test_what_follows_training_is_set_aside_by_hand(monkeypatch):
    budget = Budget(1, 0.0, lambda: 0.0)
    budget.set_aside(step=0.03, forward=0.002, val=10, total=100, pace=2.0)
    passes = 0.01 * (8 * 10 + 100) + 0.002 * 100
    assert budget.after == pytest.approx(passes + 2 * (4.0 + 0.1 + 4.5))
    assert budget.compiling == 8 and budget.left == pytest.approx(60 - budget.after)
