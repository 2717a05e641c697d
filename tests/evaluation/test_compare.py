"""Two runs: tests and intervals against hand-computed values, by simulation, and in words."""

import numpy as np
import pytest
from scipy.stats import binomtest

from tlkit.classifier.answers import Predictions
from tlkit.evaluation.compare import compare, flipped, mcnemar, paired_interval


def run(correct, groups=None, seed=0):
    """Predictions of two classes that are right where `correct` says."""
    labels = np.arange(len(correct)) % 2
    sure = np.random.default_rng(seed).uniform(0.5, 3, len(correct))
    logits = np.zeros((len(correct), 2), np.float32)
    logits[np.arange(len(correct)), np.where(correct, labels, 1 - labels)] = sure
    return Predictions(
        paths=[f"{i}.png" for i in range(len(correct))],
        sha256=[f"{i:064x}" for i in range(len(correct))],
        labels=labels.astype(np.int32),
        splits=np.full(len(correct), 2, np.int8),
        logits=logits,
        classes=("a", "b"),
        groups=groups,
    )


def test_mcnemar_by_hand_and_by_scipy():
    assert mcnemar(1, 5) == pytest.approx(2 * 7 / 64)  # two tails of (1 + 6) / 2^6
    assert mcnemar(3, 12) == pytest.approx(binomtest(3, 15).pvalue)
    for pair in ((7, 7), (0, 9), (40, 31), (3, 900)):
        assert mcnemar(*pair) == pytest.approx(binomtest(pair[0], sum(pair)).pvalue, rel=1e-9)
    assert mcnemar(0, 0) == 1.0


def test_sign_flips_of_single_images_are_mcnemar():
    differences = np.repeat([1.0, -1.0, 0.0], [12, 3, 100])
    assert flipped(differences, np.arange(115)) == pytest.approx(mcnemar(3, 12), abs=0.01)


def test_a_group_is_one_piece_of_evidence():
    differences = np.repeat([1.0, 0.0], [20, 80])
    assert mcnemar(0, 20) < 1e-4
    assert flipped(differences, np.repeat(np.arange(10), 10)) > 0.4  # two groups: a quarter of the flips, both ends


@pytest.mark.parametrize(("n", "first", "second"), [(100, 0.04, 0.08), (300, 0.05, 0.05), (300, 0.02, 0.1)])
def test_the_difference_is_covered(n, first, second):
    rng, times, covered = np.random.default_rng(1), 400, 0
    for seed in range(times):
        drawn = rng.choice([-1.0, 1.0, 0.0], n, p=[first, second, 1 - first - second])
        low, high = paired_interval(drawn, step=1.0, seed=seed)
        covered += low <= second - first <= high
    assert 0.925 <= covered / times <= 0.985


def test_no_difference_at_all_is_no_certainty():
    low, high = paired_interval(np.zeros(100), step=1.0)
    assert low < 0 < high and high < 0.05


def test_the_sentence_says_it_all():
    correct = np.arange(200) < 160
    better = correct.copy()
    better[160:170], better[0] = True, False
    (found,) = compare({"old": run(correct), "new": run(better)})
    assert found.differences["accuracy"].value == pytest.approx(0.045)
    assert found.p_value == pytest.approx(binomtest(1, 11).pvalue) and found.significant
    assert found.only_first == ("0.png",) and found.only_second == tuple(f"{i}.png" for i in range(160, 170))
    assert found.sentence.startswith("new is better than old by 4.5 points, 95 % interval ")
    assert "on 200 images: significant (McNemar's exact test, p = 0.012)" in found.sentence
    (other,) = compare({"new": run(better), "old": run(correct)})
    assert other.sentence[:45] == found.sentence[:45] and other.sentence.endswith("p = 0.012).")
    assert other.differences["accuracy"].value == pytest.approx(-0.045)


def test_equal_runs_are_said_to_be_equal():
    correct = np.arange(50) < 40
    (found,) = compare({"a": run(correct), "b": run(correct)})
    assert "have the same accuracy" in found.sentence and not found.significant and found.p_value == 1


def test_groups_take_the_place_of_images():
    correct = np.arange(200) < 120
    better = correct.copy()
    better[120:140] = True
    groups = [f"clip {i // 20}" for i in range(200)]
    (found,) = compare({"a": run(correct, groups), "b": run(better, groups)})
    assert not found.significant and found.test == "sign flips of 10 groups"
    assert "on 200 images in 10 groups: not significant" in found.sentence
    assert found.differences["accuracy"].groups == 10


def test_several_runs_are_held_against_the_first_and_pay_for_it():
    correct = np.arange(200) < 160
    better = correct.copy()
    better[160:167] = True
    alone = compare({"a": run(correct), "b": run(better)})[0]
    found = compare({"a": run(correct), "b": run(better), "c": run(correct), "d": run(correct)})
    assert [(row.first, row.second) for row in found] == [("a", "b"), ("a", "c"), ("a", "d")]
    assert found[0].p_value == pytest.approx(3 * alone.p_value) and "Holm's correction for 3 pairs" in found[0].sentence
    assert alone.significant


def test_balanced_accuracy_and_log_loss_are_differences_of_their_means():
    rng = np.random.default_rng(3)
    a, b = run(rng.random(80) < 0.7, seed=1), run(rng.random(80) < 0.9, seed=2)
    (found,) = compare({"a": a, "b": b})
    losses = [-np.log(rows.probabilities[np.arange(80), rows.labels]).mean() for rows in (a, b)]
    recalls = [np.mean([(rows.predicted == rows.labels)[rows.labels == k].mean() for k in (0, 1)]) for rows in (a, b)]
    assert found.differences["log_loss"].value == pytest.approx(losses[1] - losses[0])
    assert found.differences["balanced_accuracy"].value == pytest.approx(recalls[1] - recalls[0])
    for row in found.differences.values():
        assert row.low <= row.value <= row.high


def test_every_image_may_be_drawn_into_every_resample():
    for one in range(3):
        low, high = paired_interval(np.eye(3)[one])
        assert (low, high) == (0.0, pytest.approx(1.0))
