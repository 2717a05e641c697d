import numpy as np

from tlkit.evaluation.results import Metric
from tlkit.ranking.choose import BackboneScores, Score, compare, in_turn, recommend


def entry(name, shares, logme=0.0):
    shares = np.array(shares)
    return BackboneScores(
        name=name,
        flags=f"--backbone {name}",
        image_size=(32, 32),
        parameters=1_000_000,
        features=8,
        score=Score(logme, 0.5, shares),
        computed=0,
        seconds=0.0,
    )


def ranked(*rows):
    """(name, shares, milliseconds) -> candidates."""
    return compare(
        [entry(name, shares) for name, shares, _ in rows], {name: [ms] * 3 for name, _, ms in rows}, 5, 100, {}
    )


SLOW = [0.90, 0.92, 0.94, 0.91, 0.93]


def test_a_small_steady_lead_is_no_noise_and_a_scattered_one_is():
    steady = ranked(("slow", SLOW, 9.0), ("fast", [share - 0.03 for share in SLOW], 1.0))
    assert [one.within_noise for one in steady] == [True, False] and recommend(steady, "speed")[0].name == "slow"
    scattered = ranked(("slow", SLOW, 9.0), ("fast", [0.95, 0.85, 0.97, 0.84, 0.94], 1.0))
    chosen, reason = recommend(scattered, "speed")
    assert chosen.name == "fast" and "9.0 times as long" in reason and "If cost is no object, take slow." in reason


def test_the_frontier_is_what_nothing_faster_equals():
    found = ranked(("a", SLOW, 9.0), ("b", [0.8] * 5, 5.0), ("c", [0.85] * 5, 4.0), ("d", [0.3] * 5, 1.0))
    assert {one.name: one.frontier for one in found} == {"a": True, "c": True, "b": False, "d": True}


def test_equal_accuracy_is_ordered_by_logme_and_the_faster_one_is_taken():
    entries = [entry("low", SLOW, 0.1), entry("high", SLOW, 0.2)]
    found = compare(entries, {"low": [1.0], "high": [2.0]}, 5, 100, {})
    assert [one.name for one in found] == ["high", "low"]
    assert recommend(found, "speed")[0].name == "low"


def test_what_is_expected_to_be_best_is_taken_and_the_fast_one_named():
    rows = (
        ("slow", SLOW, 0.9, 9.0),
        ("fast", [0.95, 0.85, 0.97, 0.84, 0.94], 0.93, 1.0),
        ("deep", [0.89] * 5, 0.96, 5.0),
    )
    entries = [entry(name, shares) for name, shares, *_ in rows]
    after = {name: Metric(tuned, 100, tuned - 0.1, tuned + 0.02) for name, _, tuned, _ in rows}
    found = compare(entries, {name: [ms] for name, *_, ms in rows}, 5, 100, after)
    chosen, reason = recommend(found)
    assert chosen.name == "deep" and found[0].name == "slow"
    assert "96.0" in reason and "86.0" in reason and "the next one, fast," in reason
    assert "fast is 5.0 times as fast" in reason and "--prefer speed takes it" in reason
    assert recommend(found[:1])[1] == "It is the only candidate that was measured."


def test_where_nothing_is_predicted_features_alone_decide():
    found = ranked(("slow", SLOW, 9.0), ("fast", [0.95, 0.85, 0.97, 0.84, 0.94], 1.0))
    chosen, reason = recommend(found)
    assert chosen.name == "slow" and "features alone" in reason


def test_numbers_and_spread_are_of_the_rounds_after_the_first():
    calls = {"a": 0, "b": 0}
    order = []

    def work(name):
        def call():
            calls[name] += 1
            order.append(name)

        return call

    found = in_turn({name: work(name) for name in calls}, images=4)
    assert calls == {"a": 6, "b": 6} and order[:4] == ["a", "b", "a", "b"]
    assert [len(rounds) for rounds in found.values()] == [5, 5]
