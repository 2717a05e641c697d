import csv

import keras
import numpy as np
import pytest

from tlkit.base.story import Silence
from tlkit.options.groups import TrainingOptions
from tlkit.runs.history import COLUMNS, write_event_files, write_history
from tlkit.training.checkpoint import Checkpoint, is_exhausted
from tlkit.training.examples import Examples
from tlkit.training.fit import Epoch, Steps, Stopping, Validation, build_epoch, fit
from tlkit.training.minutes import Budget
from tlkit.training.optimizer import Updates, unfreeze_and_compile

RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) % 3
INPUTS = (RANDOM.normal(0, 1.0, (60, 6)) + np.eye(3)[LABELS].repeat(2, axis=1)).astype(np.float32)


def read(positions, epoch):
    return INPUTS[positions]


def model(seed=0, dropout=0.3):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dropout(dropout, seed=7)(keras.layers.Dense(8, activation="relu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def compiler(network, epochs, rate, options=None):
    def compile_for(parts):
        unfreeze_and_compile(
            network,
            options or TrainingOptions(),
            blocks=(),
            learn=0,
            updates=Updates(rate, epochs * 8, parts=parts),
        )

    return compile_for


def train(
    folder,
    epochs=4,
    rate=0.05,
    patience=None,
    stop_after=None,
    start=None,
    labels=LABELS,
    story=None,
    budget=None,
    least=0,
    expected=0.0,
    **options,
):
    """Train as a stage does; with `stop_after`, die in the middle of the epoch after that one."""
    network = start or model()
    reads = []

    def dying(positions, epoch):
        reads.append(epoch)
        if stop_after is not None and epoch == stop_after and reads.count(epoch) > 1:
            raise RuntimeError("power cut")
        return read(positions, epoch)

    weights = np.ones(60, np.float32)
    return network, fit(
        network,
        Steps(compiler(network, epochs, rate, TrainingOptions(**options))),
        Examples(read=dying, labels=LABELS, weights=weights, classes=3, batch_size=8, seed=1),
        Validation(read=read, labels=labels),
        stage="top",
        stopping=Stopping(epochs=epochs, patience=patience, budget=budget, least=least, expected=expected),
        checkpoint=Checkpoint(folder),
        story=story or Silence(),
    )


def ranks(state):
    return [(row["val_accuracy"], -row["val_loss"]) for row in state.history]


def test_the_end_of_the_schedule_is_kept_and_everything_is_in_the_history(tmp_path):
    network, state = train(tmp_path)
    assert state.done and state.epoch == 4
    assert [row["epoch"] for row in state.history] == [0, 1, 2, 3, 4]
    assert state.best_epoch == 4 and "schedule ends" in state.note
    assert state.best_score == ranks(state)[-1] > ranks(state)[0]
    accuracy, loss = Validation(read=read, labels=LABELS).measure(network)
    assert (accuracy, -loss) == pytest.approx(state.best_score)
    assert state.kept[0].epoch == 4 and state.kept[0].file == state.best and len(state.kept) == 3
    others = sorted(ranks(state)[1:-1], reverse=True)
    assert [one.score for one in state.kept[1:]] == others[:2]
    assert {path.name for path in tmp_path.glob("*.h5")} == {state.start, *(one.file for one in state.kept)}
    assert Checkpoint(tmp_path).read() == state
    Checkpoint(tmp_path).forget_others()
    assert [path.name for path in tmp_path.glob("*.h5")] == [state.best]


def test_with_a_patience_the_best_epoch_is_kept(tmp_path):
    network, state = train(tmp_path, epochs=6, rate=5.0, patience=6)
    best = max(ranks(state))
    assert state.best_score == best and ranks(state)[state.best_epoch] == best != ranks(state)[-1]
    assert state.kept[0].file == state.best and [one.score for one in state.kept] == sorted(ranks(state)[1:])[:-4:-1]
    accuracy, loss = Validation(read=read, labels=LABELS).measure(network)
    assert (accuracy, -loss) == pytest.approx(best)


@pytest.mark.parametrize("patience", [None, 9])
def test_weights_that_take_much_of_the_disk_are_not_kept_for_later(tmp_path, monkeypatch, patience):
    monkeypatch.setattr("tlkit.training.checkpoint.KEPT_BYTES", 1)
    _, state = train(tmp_path, patience=patience)
    assert [one.score for one in state.kept] == [max(ranks(state)[1:]) if patience else ranks(state)[-1]]


def test_no_stage_ends_worse_than_it_began(tmp_path):
    good, _ = train(tmp_path / "good", epochs=6)
    before = [weight.numpy().copy() for weight in good.weights]
    wrecked, state = train(tmp_path / "bad", rate=50.0, start=good)
    assert state.best_epoch == 0 and "start" in state.note
    for old, weight in zip(before, wrecked.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_patience_ends_a_stage_early(tmp_path):
    _, state = train(tmp_path, epochs=50, rate=1e-9, patience=2)
    assert state.epoch < 50 and "without improvement" in state.note


def histories(*rows, start=0.9):
    """A start of so much validation accuracy, and (accuracy on training images, on validation images) of each epoch."""
    told = [{"accuracy": None, "val_accuracy": start}]
    return told + [{"accuracy": accuracy, "val_accuracy": held_out} for accuracy, held_out in rows]


FITTED_AND_NO_BETTER = (1.0, 0.85)


@pytest.mark.parametrize(
    ("rows", "least", "exhausted"),
    [
        ([FITTED_AND_NO_BETTER] * 4, 4, True),
        ([FITTED_AND_NO_BETTER] * 4, 5, False),  # too early
        ([FITTED_AND_NO_BETTER] * 40, 0, False),  # never
        ([FITTED_AND_NO_BETTER] * 2, 1, False),  # two epochs may be chance
        ([(0.7, 0.6), (0.9, 0.8), *[FITTED_AND_NO_BETTER] * 3], 4, True),
        ([(1.0, 0.95), *[FITTED_AND_NO_BETTER] * 3], 4, True),  # an early lucky epoch
        ([*[FITTED_AND_NO_BETTER] * 3, (1.0, 0.95)], 4, False),  # better than the start
        ([*[FITTED_AND_NO_BETTER] * 3, (0.98, 0.85)], 4, False),  # there is something to learn
        ([(0.8, 0.7), (0.85, 0.75), (0.9, 0.8), (0.95, 0.85)], 4, False),  # recovering from what the first epochs lost
        ([(1.0, 0.9)] * 4, 4, True),  # equal is not better
    ],
)
def test_when_nothing_is_left_to_learn(rows, least, exhausted):
    assert is_exhausted(histories(*rows), least) == exhausted


def test_without_validation_images_nobody_knows_what_is_useless():
    assert not is_exhausted(histories(*[(1.0, None)] * 9, start=None), 1)


def test_a_stage_that_is_better_than_its_start_is_never_exhausted():
    random = np.random.default_rng(0)
    for _ in range(200):
        rows = [(1.0, held_out) for held_out in random.uniform(0, 1, random.integers(3, 12))]
        history = histories(*rows, start=random.uniform(0, 1))
        if is_exhausted(history, 1):
            assert history[-1]["val_accuracy"] <= history[0]["val_accuracy"]


def exhausting(monkeypatch):
    """Every epoch is right about all training images; the start has the best validation accuracy."""
    monkeypatch.setattr("tlkit.training.checkpoint.FITTED", 0.0)
    monkeypatch.setattr("tlkit.training.checkpoint.ALIKE", 1)


def test_a_stage_with_nothing_left_to_learn_ends_and_says_so(tmp_path, monkeypatch):
    exhausting(monkeypatch)
    good, _ = train(tmp_path / "good", epochs=8)
    _, state = train(tmp_path / "bad", epochs=9, rate=5.0, least=3, start=good)
    assert state.done and state.epoch == 3 and state.note.startswith("stopped after 3 epochs: the training images")
    assert state.best_epoch == 0 and state.best == state.start  # kept, as it was better
    assert not state.kept  # its schedule was cut short


def test_a_stage_that_was_interrupted_is_exhausted_where_it_would_have_been(tmp_path, monkeypatch):
    exhausting(monkeypatch)
    good, _ = train(tmp_path / "good", epochs=8)
    start = good.get_weights()
    whole, expected = train(tmp_path / "whole", epochs=9, rate=5.0, least=3, start=good)
    after = whole.get_weights()
    good.set_weights(start)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "parts", epochs=9, rate=5.0, start=good, stop_after=3)  # by a version without this check
    resumed, state = train(tmp_path / "parts", epochs=9, rate=5.0, least=3, start=model(seed=9))
    assert (state.epoch, state.note) == (expected.epoch, expected.note) == (3, expected.note)
    for one, other in zip(after, resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("expected", "words"), [(1e9, "not 277777"), (1e-9, "not 0 s")])
def test_a_stage_says_what_it_takes_once_an_epoch_is_done(tmp_path, expected, words):
    story = Told()
    train(tmp_path, story=story, expected=expected)
    told = [line for line in story.lines if "by its first epoch" in line]
    assert len(told) == 1 and words in told[0]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_interrupted_and_resumed_is_the_same_as_never_interrupted(tmp_path, ema):
    whole, _ = train(tmp_path / "whole", ema=ema)
    with pytest.raises(Exception, match="power cut"):
        train(tmp_path / "parts", stop_after=2, ema=ema)
    assert Checkpoint(tmp_path / "parts").read().epoch == 2
    resumed, state = train(tmp_path / "parts", start=model(seed=99), ema=ema)
    assert state.epoch == 4
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_averages_are_what_is_measured_and_kept_and_training_goes_on_without_them(tmp_path):
    plain, before = train(tmp_path / "plain", labels=LABELS[:0])
    averaged, after = train(tmp_path / "averaged", labels=LABELS[:0], ema=0.9)
    assert [row["loss"] for row in before.history] == [row["loss"] for row in after.history]
    (weight, average), *_ = averaged.optimizer.averages()
    assert weight is averaged.weights[0] and (weight.numpy() != plain.weights[0].numpy()).any()
    np.testing.assert_array_equal(average.numpy(), plain.weights[0].numpy())


def test_a_leftover_of_a_killed_write_is_never_read(tmp_path):
    with pytest.raises(Exception, match="power cut"):
        train(tmp_path, stop_after=2)
    (tmp_path / ".tmp-0000-epoch-0003.weights.h5").write_bytes(b"half")
    (tmp_path / "epoch-0003.weights.h5").write_bytes(b"whole, but no state names it")
    _, state = train(tmp_path)
    assert state.epoch == 4


def test_without_validation_images_the_last_epoch_is_kept(tmp_path):
    _, state = train(tmp_path, epochs=2, patience=1, labels=LABELS[:0])
    assert state.best_epoch == 2 and "no validation images" in state.note


class Told(Silence):
    """Keeps the messages."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def failing(monkeypatch, error, most, at_epoch):
    """Memory runs out in batches of more than `most` rows, from an epoch on, after some of its steps."""

    def build(network, *, task, precision):
        epoch = build_epoch(network, task=task, precision=precision)

        def run(examples, number):
            found = epoch(examples, number)
            if number >= at_epoch and examples.part_size > most:
                raise error
            return found

        return Epoch(run)

    monkeypatch.setattr("tlkit.training.fit.build_epoch", build)


@pytest.mark.parametrize("at_epoch", [0, 2])
def test_out_of_memory_is_answered_with_smaller_parts_and_the_same_updates(tmp_path, monkeypatch, at_epoch):
    whole, expected = train(tmp_path / "whole", start=model(dropout=0.0))
    failing(monkeypatch, RuntimeError("RESOURCE_EXHAUSTED: out of memory"), most=3, at_epoch=at_epoch)
    story = Told()
    divided, state = train(tmp_path / "parts", start=model(dropout=0.0), story=story)
    assert [line for line in story.lines if "4 parts of 2" in line] and state.parts == 4
    for one, other in zip(whole.weights, divided.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)
    losses = [[row["loss"] for row in some.history[1:]] for some in (expected, state)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_run_that_ran_out_of_memory_resumes_with_its_smaller_parts(tmp_path, monkeypatch):
    whole, _ = train(tmp_path / "whole", start=model(dropout=0.0))
    failing(monkeypatch, MemoryError(), most=4, at_epoch=0)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "parts", start=model(dropout=0.0), stop_after=2)
    monkeypatch.undo()
    resumed, state = train(tmp_path / "parts", start=model(seed=9, dropout=0.0))
    assert (state.epoch, state.parts) == (4, 2)
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)


def test_out_of_memory_with_a_single_image_and_other_errors_are_errors(tmp_path, monkeypatch):
    failing(monkeypatch, MemoryError(), most=0, at_epoch=0)
    with pytest.raises(MemoryError):
        train(tmp_path / "memory")
    failing(monkeypatch, ValueError("shapes"), most=0, at_epoch=0)
    with pytest.raises(ValueError, match="shapes"):
        train(tmp_path / "shapes")


def test_a_loss_that_explodes_stops_the_stage_and_keeps_the_start(tmp_path):
    network = model()
    network.layers[1].kernel.assign(np.full((6, 8), 1e30, np.float32))
    _, state = train(tmp_path, rate=1e30, start=network)
    assert state.done and state.best_epoch == 0 and "infinite or NaN in epoch 1" in state.note


def test_history_as_a_table_and_for_tensorboard(tmp_path):
    _, state = train(tmp_path / "stage")
    write_history(tmp_path / "history.csv", state.history)
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and rows[0]["loss"] == "" and float(rows[4]["val_loss"]) > 0
    pytest.importorskip("tensorflow")
    assert write_event_files(tmp_path / "logs", state.history)
    from tensorflow.python.summary.summary_iterator import summary_iterator

    events = list(summary_iterator(str(tmp_path / "logs" / "validation" / "events.out.tfevents.0.tlkit")))
    values = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    assert values[4, "epoch_accuracy"] == pytest.approx(state.history[4]["val_accuracy"])


def test_a_schedule_ends_where_the_time_does(tmp_path):
    """Time by the clock of a budget: 10 seconds per epoch where 30 were expected."""
    now = iter(range(0, 10_000))
    clock = lambda: 10 * next(now)  # noqa: E731 - each look at it is 10 seconds later
    budget = Budget(10, 0.0, clock)
    epochs = budget.begin(100.0, 60)
    _, state = train(tmp_path, epochs=epochs, patience=100, budget=budget)
    rates = [row["learning_rate"] for row in state.history[1:]]
    assert state.epoch != epochs and rates[-1] == pytest.approx(0, abs=1e-8)
    assert max(rates) <= 0.05 and rates.index(max(rates)) < len(rates) / 2


def test_a_schedule_that_was_interrupted_ends_with_the_time_there_is_then(tmp_path):
    still = Budget(1, 0.0, lambda: 0.0)
    still.begin(6.0, 60)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path, epochs=10, patience=100, stop_after=4, budget=still)
    clock = iter(range(0, 1000))
    budget = Budget(1, 0.0, lambda: next(clock))
    budget.begin(6.0, 60)
    _, state = train(tmp_path, epochs=10, patience=100, budget=budget)  # the horizon is that of the plan, as it was
    rates = [row["learning_rate"] for row in state.history[1:]]
    assert state.epoch > 4 and rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] < 1e-3 * max(rates)


def test_no_time_for_an_epoch_keeps_the_start(tmp_path):
    _, state = train(tmp_path, epochs=0, budget=Budget(1, 0.0, lambda: 0.0))
    assert state.done and state.epoch == 0 and state.best == state.start and "no time" in state.note
