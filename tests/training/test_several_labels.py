"""Training where an image may have several labels: loss, hits, padding, the score of an epoch."""

import keras
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score, log_loss

from tlkit.evaluation.calibration import fit_temperature, negative_log_likelihood
from tlkit.options.groups import TrainingOptions
from tlkit.tasks.multi import MULTI
from tlkit.training.examples import Examples
from tlkit.training.fit import Validation, build_epoch
from tlkit.training.optimizer import Updates, build_loss, unfreeze_and_compile

RANDOM = np.random.default_rng(5)
INPUTS = RANDOM.normal(size=(50, 6)).astype(np.float32)
TARGETS = (RANDOM.random((50, 4)) < 0.4).astype(np.int8)
TARGETS[:3] = 0  # images of none of the classes


def model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(4)(inputs))


def examples(**options):
    return Examples(
        read=lambda positions, epoch: INPUTS[positions],
        labels=TARGETS,
        weights=np.ones(50, np.float32),
        classes=4,
        seed=1,
        **{"batch_size": 16, **options},
    )


def compiled(rate, given, **options):
    network = model()
    updates = given.updates
    unfreeze_and_compile(
        network, TrainingOptions(**options), blocks=(), learn=0, updates=Updates(rate, updates), task=MULTI
    )
    return network


def test_an_epoch_reports_the_binary_log_loss_and_the_f1_of_images_on_real_rows_alone():
    given = examples()  # 50 images in updates of 13: two rows of padding
    network = compiled(1e-12, given)
    loss, score = build_epoch(network, task=MULTI)(given, 0)
    logits = np.asarray(network(INPUTS))
    assert score == pytest.approx(f1_score(TARGETS, logits >= 0, average="samples", zero_division=1), abs=1e-6)
    assert loss == pytest.approx(np.mean([log_loss(TARGETS[:, k], expit(logits[:, k])) for k in range(4)]), rel=0.02)
    measured = Validation(read=given.read, labels=TARGETS).measure(network)
    assert measured[0] == pytest.approx(score, abs=1e-6)
    assert measured[1] == pytest.approx(negative_log_likelihood(logits, TARGETS), rel=1e-5)


@pytest.mark.parametrize("loss", ["crossentropy", "focal", "squared"])
def test_every_loss_learns_and_tells_labels_from_each_other(loss):
    given = examples()
    network = model()
    unfreeze_and_compile(
        network,
        TrainingOptions(loss=loss, optimizer="adam"),
        blocks=(),
        learn=0,
        updates=Updates(0.1, 20 * given.updates),
        task=MULTI,
    )
    epoch = build_epoch(network, task=MULTI)
    scores = [epoch(given, number) for number in range(20)]
    assert scores[-1][0] < scores[0][0] and scores[-1][1] > scores[0][1]


def test_losses_by_hand():
    targets, logits = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, np.log(3.0)]], np.float32)

    def value(**options):
        return np.asarray(build_loss(TrainingOptions(**options), task=MULTI)(targets, logits)).item()

    assert value() == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-5)
    assert value(loss="squared") == pytest.approx((0.5**2 + 0.75**2) / 2, rel=1e-5)
    assert value(label_smoothing=0.2) == pytest.approx(
        (np.log(2) - 0.1 * np.log(0.75) - 0.9 * np.log(0.25)) / 2, rel=1e-4
    )


def test_the_temperature_of_several_labels_is_found_again():
    random = np.random.default_rng(0)
    true = random.normal(0, 2, (4000, 3))
    targets = (random.random((4000, 3)) < expit(true)).astype(np.int8)
    assert fit_temperature(2.5 * true, targets) == pytest.approx(2.5, rel=0.1)
    sure = np.where(targets == 1, 5.0, -5.0)
    assert fit_temperature(sure, targets) == 1.0  # no errors
