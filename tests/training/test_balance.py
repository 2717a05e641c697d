import keras
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from tlkit.classifier.answers import softmax
from tlkit.options.commands import FinetuneConfig
from tlkit.training.balance import (
    TAUS,
    balanced_accuracy,
    choose,
    choose_strength,
    drawn_equally,
    image_weights,
    log_prior,
    macro_f1,
    solve,
)
from tlkit.training.optimizer import build_loss


def unequal(seed=0, counts=(200, 20, 12), spread=1.0):
    """Overlapping blobs of unequal size: features (N, 6), labels, and units."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(9).normal(0, 1, (len(counts), 6))[labels]
    features = features + random.normal(0, spread, features.shape)
    return features.astype(np.float32), labels, np.arange(len(labels))


def test_weights_give_every_class_the_same_mass():
    labels = np.array([0] * 8 + [1] * 2)
    weights = image_weights(labels, 3, "weights")
    assert weights[:8].sum() == pytest.approx(weights[8:].sum())
    assert weights.mean() == pytest.approx(1)
    for balance in ("none", "sample", "logit-adjust"):
        assert (image_weights(labels, 2, balance) == 1).all()


def test_the_log_prior_by_hand_and_a_class_without_images_stays_finite():
    np.testing.assert_allclose(log_prior(np.array([0, 0, 0, 1]), 2), np.log([0.75, 0.25]), rtol=1e-6)
    np.testing.assert_allclose(log_prior(np.array([0, 0, 0]), 2), np.log([0.75, 0.25]), rtol=1e-6)


def test_every_image_of_a_rare_class_is_drawn_before_any_comes_again():
    labels = np.array([0] * 20 + [1] * 3 + [2])
    drawn = drawn_equally(labels, np.random.default_rng(0))
    assert len(drawn) == 24
    for start in range(0, 24, 3):
        assert sorted(labels[drawn[start : start + 3]]) == [0, 1, 2]
    rare = drawn[labels[drawn] == 1]
    assert sorted(rare[:3]) == sorted(rare[3:6]) == [20, 21, 22]
    assert len(np.unique(drawn[labels[drawn] == 0])) == 8


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"loss": "focal"}, {"loss": "squared"}])
def test_the_adjusted_loss_is_the_plain_one_on_adjusted_logits_and_rows_keep_their_weights(options):
    config, random = FinetuneConfig(images="i", **options), np.random.default_rng(0)
    logits, weights = random.normal(0, 2, (4, 3)).astype(np.float32), np.array([1, 2, 0, 1], np.float32)
    one_hot, added = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], np.log(np.array([0.7, 0.2, 0.1], np.float32))

    def measured(loss, logits):
        model = keras.Sequential([keras.Input((3,))])
        model.compile(loss=loss)
        return float(model.compute_loss(y=one_hot, y_pred=logits, sample_weight=weights))

    expected = measured(build_loss(config), logits + added)
    assert measured(build_loss(config, added), logits) == pytest.approx(expected, rel=1e-5)
    assert measured(build_loss(config), logits) != pytest.approx(expected, rel=1e-3)


def test_a_head_adjusted_after_it_is_solved_is_the_head_trained_on_adjusted_logits():
    from scipy.optimize import minimize

    features, labels, units = unequal(counts=(60, 12, 8))
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    prior, one_hot, strength = log_prior(labels, 3), np.eye(3)[labels], 0.05

    def objective(flat):  # scikit-learn's, with the log prior inside the loss
        kernel, bias = flat[:18].reshape(6, 3), flat[18:]
        probabilities = softmax(features @ kernel + bias + prior)
        return strength * -np.log(probabilities[one_hot > 0]).sum() + (kernel**2).sum() / 2

    found = minimize(objective, np.zeros(21), method="BFGS").x
    expected = softmax(features @ found[:18].reshape(6, 3) + found[18:])
    probe = solve([features], labels, balance="logit-adjust", units=units, strength=strength)
    np.testing.assert_allclose(softmax(features @ probe.kernel + probe.bias), expected, atol=2e-3)


def test_a_drawn_head_is_solved_with_weights():
    features, labels, units = unequal()
    given = {"units": units, "strength": 0.1}
    drawn, weighted = (solve([features], labels, balance=name, **given) for name in ("sample", "weights"))
    np.testing.assert_array_equal(drawn.kernel, weighted.kernel)


def test_macro_f1_is_scikit_learns_also_of_drawn_images():
    random = np.random.default_rng(3)
    labels, predicted = random.integers(0, 4, 60), random.integers(0, 3, 60)
    draws = random.multinomial(60, np.full(60, 1 / 60), size=5)
    found = macro_f1(draws, labels, predicted, 4)
    for counts, score in zip(draws, found, strict=True):
        expected = f1_score(
            labels.repeat(counts), predicted.repeat(counts), average="macro", labels=range(4), zero_division=0
        )
        assert score == pytest.approx(expected)


def test_what_is_clearly_ahead_is_chosen_and_the_numbers_are_told():
    features, labels, units = unequal(counts=(200, 40, 30), spread=3.0)
    choice = choose(features, labels, classes=3, units=units)
    both = {name: choice.macro_f1[name] + choice.balanced_accuracy[name] for name in choice.macro_f1}
    assert choice.balance != "none" and both[choice.balance] == max(both.values())
    assert f"{choice.macro_f1['none']:.3f}" in choice.reason and "ahead of none" in choice.reason


def test_without_an_advantage_nothing_is_balanced():
    features, labels, units = unequal(spread=0.01)
    assert choose(features, labels, classes=3, units=units).balance == "none"
    equal = choose(features, np.arange(len(labels)) % 3, classes=3, units=units)
    assert equal.balance == "none" and "nearly equal" in equal.reason and not equal.macro_f1
    lone = choose(features[:201], labels[:201], classes=2, units=units[:201])
    assert lone.balance == "none" and "too few" in lone.reason


def test_the_choice_is_a_function_of_features_and_seed():
    features, labels, units = unequal(spread=1.3)
    first, again = (choose(features, labels, classes=3, units=units, seed=4) for _ in range(2))
    assert first == again


def test_balanced_accuracy_is_scikit_learns_also_of_drawn_images():
    random = np.random.default_rng(3)
    labels, predicted = random.integers(0, 4, 60), random.integers(0, 3, 60)
    draws = random.multinomial(60, np.full(60, 1 / 60), size=5)
    found = balanced_accuracy(draws, labels, predicted, 4)
    for counts, score in zip(draws, found, strict=True):
        assert score == pytest.approx(balanced_accuracy_score(labels.repeat(counts), predicted.repeat(counts)))


def test_post_hoc_shifts_the_plain_head_by_its_strength():
    features, labels, units = unequal()
    given = {"units": units, "strength": 0.1}
    plain = solve([features], labels, balance="none", **given)
    shifted = solve([features], labels, balance="post-hoc", tau=0.5, **given)
    np.testing.assert_allclose(shifted.bias, plain.bias - 0.5 * log_prior(labels, 3), rtol=1e-6)
    np.testing.assert_array_equal(shifted.kernel, plain.kernel)


def test_the_strength_is_the_best_of_those_tried_in_cross_validation():
    features, labels, units = unequal(counts=(200, 40, 30), spread=2.0)
    choice = choose_strength(features, labels, classes=3, units=units)
    plain = solve([features], labels, balance="none", units=units).held_out
    scores = [
        f1_score(labels, guess, average="macro") + balanced_accuracy_score(labels, guess)
        for guess in ((plain - log_prior(labels, 3, tau)).argmax(axis=1) for tau in TAUS)
    ]
    assert scores[TAUS.index(choice.tau)] == pytest.approx(max(scores)) and choice.tau > 0
    assert f"tau {choice.tau:g}" in choice.reason
    lone = choose_strength(features[:201], labels[:201], classes=2, units=units[:201])
    assert lone.tau == 1 and "too few" in lone.reason


def test_a_record_of_before_is_still_read():
    from tlkit.training.balance import notes

    assert notes({"balance": {"balance": "weights", "reason": "r", "macro_f1": {}}}) == ("balance weights: r",)
