import keras
import numpy as np
import pytest

from tlkit.options.groups import TrainingOptions
from tlkit.training import examples as module
from tlkit.training.examples import Examples
from tlkit.training.fit import build_epoch
from tlkit.training.optimizer import Updates, unfreeze_and_compile

RANDOM = np.random.default_rng(3)
INPUTS = RANDOM.normal(0, 1, (50, 5)).astype(np.float32)
LABELS = RANDOM.integers(0, 3, 50)
WEIGHTS = RANDOM.uniform(0.5, 2.0, 50).astype(np.float32)


def model():
    keras.utils.set_random_seed(4)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(7, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def examples(count=50, batch_size=16, parts=1):
    return Examples(
        read=lambda positions, epoch: INPUTS[positions],
        labels=LABELS[:count],
        weights=WEIGHTS[:count],
        classes=3,
        batch_size=batch_size,
        seed=1,
        parts=parts,
    )


def trained(given, epochs=3, **options):
    """Weights and (loss, accuracy) of every epoch."""
    network = model()
    unfreeze_and_compile(
        network,
        TrainingOptions(**options),
        blocks=(),
        learn=0,
        updates=Updates(0.05, epochs * given.updates, parts=given.parts),
    )
    epoch = build_epoch(network)
    scores = [epoch(given, number) for number in range(epochs)]
    return [keras.ops.convert_to_numpy(weight) for weight in network.weights], scores, network


def assert_close(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("steps", [1, 64])
def test_an_epoch_is_keras_s_own_steps_on_the_real_rows(steps, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_STEPS", steps)
    given = examples()
    found, scores, _ = trained(given, epochs=2)
    network = model()
    unfreeze_and_compile(network, TrainingOptions(), blocks=(), learn=0, updates=Updates(0.05, 2 * given.updates))
    losses = []
    for number in range(2):
        for rows in np.array_split(np.random.default_rng((1, number)).permutation(50), given.updates):
            one_hot = np.eye(3, dtype=np.float32)[LABELS[rows]]
            losses.append(network.train_on_batch(INPUTS[rows], one_hot, WEIGHTS[rows]))
    assert_close(found, [keras.ops.convert_to_numpy(weight) for weight in network.weights])
    assert scores[0][0] > scores[1][0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize(("count", "parts"), [(48, 2), (50, 3), (50, 16)])
def test_an_update_in_parts_is_the_update_of_the_whole_batch(optimizer, count, parts):
    whole, scores, _ = trained(examples(count), optimizer=optimizer)
    divided, others, network = trained(examples(count, parts=parts), optimizer=optimizer)
    assert_close(divided, whole)
    np.testing.assert_allclose(others, scores, rtol=1e-5)
    assert int(network.optimizer.iterations) == 3 * examples(count).updates


def test_loss_and_accuracy_by_hand():
    given = examples(count=7, batch_size=4)
    _, [(loss, accuracy)], _ = trained(given, epochs=1, optimizer="sgd", momentum=0.0, label_smoothing=0.0)
    network = model()
    logits = keras.ops.convert_to_numpy(network(INPUTS[:7]))
    # The first rate of the warm-up is zero, so that two updates see the weights of the start.
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = -np.log(probabilities[np.arange(7), LABELS[:7]]) * WEIGHTS[:7]
    groups = np.array_split(np.random.default_rng((1, 0)).permutation(7), 2)
    decay = 0.01 * float(np.square(keras.ops.convert_to_numpy(network.layers[1].kernel)).sum())
    assert accuracy == pytest.approx((logits.argmax(axis=1) == LABELS[:7]).mean())
    assert loss == pytest.approx(np.mean([each[rows].mean() for rows in groups]) + decay, rel=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others trace for themselves")
def test_a_last_chunk_of_fewer_steps_is_not_traced_for_itself_and_compiling_takes_no_step(monkeypatch):
    from tlkit.training import fit

    traced, made = [], fit.learning_forward

    def counting(network):
        forward = made(network)
        return lambda inputs: (traced.append(inputs.shape), forward(inputs))[1]

    monkeypatch.setattr(fit, "learning_forward", counting)
    monkeypatch.setattr(module, "CHUNK_STEPS", 3)  # of four updates
    _, _, network = trained(examples(), epochs=3)
    assert len(traced) == 1
    assert int(network.optimizer.iterations) == 3 * 4
