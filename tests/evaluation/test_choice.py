"""What ships: computed by hand where possible, by properties elsewhere."""

import json

import numpy as np
import pytest

from tlkit.evaluation.choice import Choice, Entry, chance_bound, choose, difference, gain, judge, why_better

RANDOM = np.random.default_rng(3)


def logits(labels, right, sure=3.0, classes=2):
    """Logits that are right where `right` says so, with confidence `sure` (a number, or one for each image)."""
    said = np.where(right, labels, (labels + 1) % classes)
    return (np.eye(classes)[said] * np.broadcast_to(sure, labels.shape)[:, None]).astype(np.float32)


def hits(n, wrong):
    return ~np.isin(np.arange(n), wrong)


LABELS = np.arange(40) % 2
PROBE = Entry("the probe", "probe", logits(LABELS, hits(40, [0, 1, 2, 3])))


def test_the_standard_error_of_a_difference_by_hand():
    # 2 of 8 changed for the better: mean 1/4, variance (2/8)(6/8) * 8/7, over 8, the root of it.
    mean, error = difference(np.array([1.0, 1, 0, 0, 0, 0, 0, 0]))
    assert mean == 0.25 and error == pytest.approx(np.sqrt(0.25 * 0.75 * (8 / 7) / 8))
    # The same in four groups of two: group sums 2, 0, 0, 0 about a mean of 1/2; sandwich with 4/3, over 8 squared.
    mean, error = difference(np.array([1.0, 1, 0, 0, 0, 0, 0, 0]), np.repeat(np.arange(4), 2))
    assert mean == 0.25 and error == pytest.approx(np.sqrt((1.5**2 + 3 * 0.5**2) * 4 / 3) / 8)
    assert difference(np.array([1.0])) == (1.0, np.inf)


def test_two_more_right_and_none_less_is_enough_and_one_is_not():
    # One image more: the difference is its own standard error. The losses differ by as little where the wrong one
    # is hardly confident.
    probe = Entry("the probe", "probe", logits(LABELS, hits(40, [0, 1]), np.where(hits(40, [0, 1]), 3.0, 0.01)))
    for wrong, chosen in (([0], "the probe"), ([], "tuned")):
        tuned = Entry("tuned", "fine-tuned", logits(LABELS, hits(40, wrong), np.where(hits(40, [0, 1]), 3.0, 0.01)))
        assert choose([probe, tuned], LABELS).chosen == chosen


def test_equal_candidates_ship_the_simplest():
    others = [Entry(kind, kind, PROBE.logits.copy()) for kind in ("fine-tuned", "interpolated", "soup")]
    made = choose([PROBE, *others], LABELS)
    assert made.chosen == "the probe" and "simplest" in made.reason
    assert all(one.gained.value == 0 and one.lowered.value == 0 for one in made.candidates[1:])
    assert all(one.gained.low < 0 < one.gained.high for one in made.candidates[1:])


def test_where_accuracies_are_alike_the_log_loss_decides():
    # The same four are wrong, but one of the two is only half as confident about them.
    wrong = hits(40, [0, 1, 2, 3])
    knowing = Entry("tuned", "fine-tuned", logits(LABELS, wrong, np.where(wrong, 3.0, 0.2)))
    made = choose([PROBE, knowing], LABELS)
    assert made.chosen == "tuned" and "log loss" in made.reason
    simple = Entry("the probe", "probe", knowing.logits)
    assert choose([simple, PROBE._replace(kind="fine-tuned")], LABELS).chosen == "the probe"


def test_a_better_log_loss_does_not_buy_a_clearly_worse_accuracy():
    sure = np.where(hits(40, range(8)), 9.0, 0.05)
    worse = judge(Entry("tuned", "fine-tuned", logits(LABELS, hits(40, range(8)), sure)), LABELS)
    probe = judge(PROBE, LABELS)
    assert worse.loss.mean() < probe.loss.mean()
    assert why_better(probe, worse) == ""


def test_being_too_sure_is_not_held_against_a_candidate():
    colder = Entry("tuned", "fine-tuned", 5 * PROBE.logits)
    assert judge(colder, LABELS).loss.mean() == pytest.approx(judge(PROBE, LABELS).loss.mean(), rel=1e-3)


def test_with_balanced_classes_a_rare_one_weighs_as_much():
    labels = np.array([0] * 36 + [1] * 4)
    common = Entry("the probe", "probe", logits(labels, hits(40, [36, 37, 38])))  # finds 1 of 4 rare ones
    rare = Entry("tuned", "fine-tuned", logits(labels, hits(40, [0, 1, 2, 3])))  # all of them, at 4 common ones
    made = choose([common, rare], labels, balanced=True)
    assert made.measure == "balanced accuracy" and made.chosen == "tuned"
    assert made.candidates[0].accuracy.value == pytest.approx((1 + 1 / 4) / 2)
    assert made.candidates[1].accuracy.value == pytest.approx((32 / 36 + 1) / 2)
    assert choose([common, rare], labels).chosen == "the probe"


def test_the_best_of_a_kind_stands_for_it_and_has_to_beat_what_was_chosen_before():
    sure = np.where(hits(40, [1]), 3.0, 0.01)
    tuned = Entry("tuned", "fine-tuned", logits(LABELS, hits(40, [0, 1]), sure))
    early = Entry("early", "fine-tuned", logits(LABELS, hits(40, range(9))))
    half = Entry("half", "interpolated", logits(LABELS, hits(40, [0]), sure))  # one more than tuned: within the noise
    assert choose([PROBE, early, tuned, half], LABELS).chosen == "tuned"
    best = Entry("soup", "soup", logits(LABELS, hits(40, []), np.where(hits(40, []), 3.0, 0)))
    assert choose([PROBE, early, tuned, half, best], LABELS).chosen == "soup"


def test_the_luckiest_of_many_has_to_be_further_ahead():
    # Four more right of 40 and none less: 2.08 standard errors, and as clearly by the losses.
    tuned = Entry("tuned", "fine-tuned", logits(LABELS, hits(40, [])))
    made = choose([PROBE, tuned], LABELS)
    assert made.chosen == "tuned" and "more than the standard error of 4.8" in made.reason
    assert choose([PROBE, tuned._replace(tried=6)], LABELS).chosen == "tuned"  # 1.9
    made = choose([PROBE, tuned._replace(tried=40)], LABELS)
    assert made.chosen == "the probe" and "more than chance" in made.reason
    made = choose([Entry("the probe", "probe", logits(LABELS, hits(40, range(12)))), tuned._replace(tried=40)], LABELS)
    assert (
        made.chosen == "tuned"
        and "2.6 standard errors, which the best of 40 may reach by chance, of 7.3" in made.reason
    )


def test_a_soup_refines_fine_tuning_and_is_no_way_around_it():
    probe = Entry("the probe", "probe", logits(LABELS, hits(40, range(12))))
    soup = Entry("soup", "soup", logits(LABELS, hits(40, [])), 40)
    worse = Entry("tuned", "fine-tuned", logits(LABELS, hits(40, range(14))))
    better = Entry("tuned", "fine-tuned", logits(LABELS, hits(40, range(10))))
    assert choose([probe, worse, soup], LABELS).chosen == "the probe"
    assert choose([probe, better, soup], LABELS).chosen == "soup"


def test_several_of_a_kind_are_as_many_tries():
    sure = np.where(hits(40, [0, 1, 2, 3]), 3.0, 0.01)  # so that losses hardly differ
    probe = Entry("the probe", "probe", logits(LABELS, hits(40, [0, 1, 2, 3]), sure))
    almost = [Entry(name, "interpolated", logits(LABELS, hits(40, [0, 1]), sure)) for name in ("0.25", "0.5", "0.75")]
    assert choose([probe, almost[0]], LABELS).chosen == "0.25"  # 1.43 standard errors
    assert choose([probe, *almost], LABELS).chosen == "the probe"  # of 1.59


def test_the_best_of_many_equals_is_as_seldom_lucky_as_one():
    assert chance_bound(1) == pytest.approx(1.0) and chance_bound(3) == pytest.approx(1.59, abs=0.01)
    for tried in (1, 3, 40, 300):
        best = RANDOM.normal(size=(4000, tried)).max(axis=1)
        assert (best > chance_bound(tried)).mean() == pytest.approx(0.159, abs=0.03)


def test_images_of_a_group_are_one_piece_of_evidence():
    better = Entry("tuned", "fine-tuned", logits(LABELS, hits(40, [])))
    assert choose([PROBE, better], LABELS).chosen == "tuned"
    # All four images that changed are of one group, which counts once: no more than its own standard error.
    groups = np.arange(40) // 4
    verdicts = [judge(entry, LABELS) for entry in (PROBE, better)]
    mean, error = difference(verdicts[1].right - verdicts[0].right, groups)
    assert mean == pytest.approx(error)
    assert choose([PROBE, better], LABELS, groups=groups).candidates[1].gained.groups == 10


def test_a_single_image_chooses_nothing():
    one = [Entry("the probe", "probe", np.array([[0.0, 1.0]])), Entry("tuned", "fine-tuned", np.array([[9.0, 0.0]]))]
    assert choose(one, np.array([0])).chosen == "the probe"


def test_a_choice_survives_its_file():
    entries = [PROBE, Entry("tuned", "fine-tuned", RANDOM.normal(size=(40, 2)).astype(np.float32))]
    made = choose(entries, LABELS, groups=LABELS)
    again = Choice.from_json(json.loads(json.dumps(made.as_json(), allow_nan=False)))
    assert again == made and again.taken.name == made.chosen


def test_what_is_gained_by_hand():
    found = gain(PROBE.logits, logits(LABELS, hits(40, [0])), LABELS)
    assert found.value == pytest.approx(3 / 40) and found.n == 40 and found.low < 3 / 40 < found.high
