"""Remarks on the results: the most serious first, each only where it applies."""

from dataclasses import replace

import numpy as np
import pytest

from tests.report.pages import audit
from tlkit.evaluation.results import (
    Abstention,
    ClassResult,
    EvaluationResult,
    Leak,
    Metric,
    Reliability,
    SliceResult,
    SplitResult,
)
from tlkit.report.page import Page
from tlkit.report.verdict import TONES, chance_gap, remarks

CLASSES = (
    ClassResult("ants", 500, 500, 0.9, 0.9, 0.9, recall_interval=(0.87, 0.92)),
    ClassResult("bees", 500, 500, 0.9, 0.9, 0.9, recall_interval=(0.87, 0.92)),
)


def split(name="test", **fields):
    known = {
        "n": 1000,
        "metrics": {"accuracy": Metric(0.9, 1000, 0.88, 0.92)},
        "confusion": np.zeros((2, 2), int),
        "classes": CLASSES,
        "confused": (),
    }
    return SplitResult(name, **(known | fields))


def said(result, audit=None, **others):
    page = Page(title="", evaluation=EvaluationResult({result.split: result, **others}), audit=audit)
    return remarks(page, result)


def tones(found, section):
    return [remark.tone for remark in found if remark.section == section]


def test_enough_images_are_said_to_be_enough():
    (remark,) = said(split())
    assert (remark.tone, remark.text) == (
        "good",
        "1,000 test images determine the accuracy to about ±2.0 points.",
    )


def test_too_few_images_are_said_to_be_few_with_how_many_it_takes():
    (remark,) = said(split(metrics={"accuracy": Metric(0.9, 60, 0.8, 0.95)}))
    assert remark.tone == "warn"
    assert "only to about ±7 points, so smaller differences" in remark.text
    assert "An interval of ±2 points takes about 870 images." in remark.text  # 0.9 * 0.1 * (1.96 / 0.02)^2 = 864.4


def test_groups_are_named_where_the_interval_rests_on_them():
    (remark,) = said(split(metrics={"accuracy": Metric(0.9, 600, 0.8, 0.95, groups=12)}))
    assert "600 test images from 12 groups determine" in remark.text
    assert "takes about" not in remark.text


def test_flattering_images_are_bad_where_they_matter_and_minded_where_not():
    unseen = split("test_unseen", n=900, metrics={"accuracy": Metric(0.8, 900, 0.77, 0.83)})
    known = split(leak=Leak(60, 40, 1000))
    (first, *_) = said(known, test_unseen=unseen)
    assert first.tone == "bad"
    assert first.text == (
        "100 images of these 1000 are in the training set or are close to an image of it. "
        "On the other 900, accuracy is 80.0 % (77.0 to 83.0)."
    )
    same = replace(unseen, metrics={"accuracy": Metric(0.899, 900)})
    assert said(known, test_unseen=same)[0].tone == "warn"
    assert said(known)[0] == ("bad", first.text.split(".")[0] + ": the results are too optimistic.", "numbers")
    assert "None of the test images was trained on" in said(split(leak=Leak(0, 0, 1000)))[0].text


def test_chance_gap_by_simulation():
    rng = np.random.default_rng(0)
    edges, count, confidence = np.linspace(0, 1, 4), np.array([40, 100, 400]), np.array([0.3, 0.6, 0.95])
    bins = Reliability(edges, count, confidence, confidence)
    gaps = [
        replace(bins, accuracy=rng.binomial(count, confidence) / count).expected_calibration_error for _ in range(4000)
    ]
    mean, deviation = chance_gap(bins)
    assert np.mean(gaps) == pytest.approx(mean, rel=0.04)
    assert np.std(gaps) == pytest.approx(deviation, rel=0.06)


@pytest.mark.parametrize(
    ("accuracy", "tone", "words"),
    [(0.9, "good", "is calibrated as far as"), (0.75, "warn", "overconfident"), (0.99, "warn", "underconfident")],
)
def test_confidence_is_judged_against_chance(accuracy, tone, words):
    bins = Reliability(np.array([0, 1.0]), np.array([400]), np.array([0.9]), np.array([accuracy]))
    remark = next(remark for remark in said(split(reliability=bins)) if remark.section == "reliability")
    assert remark.tone == tone
    assert words in remark.text


def test_what_was_fitted_on_the_very_images_is_said():
    bins = Reliability(np.array([0, 1.0]), np.array([400]), np.array([0.9]), np.array([0.9]))
    held = Abstention(0.9, 0.8, Metric(0.8, 1000), Metric(0.95, 800))
    fields = {"reliability": bins, "uncalibrated": bins, "abstention": held}
    on = {
        name: sum("these same images" in remark.text for remark in said(split(name, **fields)))
        for name in ("val", "test")
    }
    assert on == {"val": 2, "test": 0}


def test_the_weakest_class_is_named_only_where_it_is_surely_weaker():
    weak = ClassResult("wasps", 100, 80, 0.9, 0.6, 0.7, recall_interval=(0.5, 0.7))
    assert "of 100 images of wasps, 60 were recognised" in said(split(classes=(*CLASSES, weak)))[0].text
    unsure = replace(weak, recall_interval=(0.5, 0.95))
    assert tones(said(split(classes=(*CLASSES, unsure))), "classes") == []


def test_a_single_error_in_the_weakest_of_ten_classes_is_chance():
    whole = [ClassResult(str(i), 41, 41, 1.0, 1.0, 1.0, recall_interval=(0.91, 1.0)) for i in range(9)]
    weak = ClassResult(
        "9", 41, 40, 1.0, 40 / 41, 0.99, recall_interval=(0.87, 0.995)
    )  # one error of 410: 10 % by chance
    accuracy = {"accuracy": Metric(409 / 410, 410, 0.98, 1.0)}
    assert tones(said(split(classes=(*whole, weak), metrics=accuracy)), "classes") == []
    assert "28 were" in said(split(classes=(*whole, replace(weak, recall=28 / 41)), metrics=accuracy))[0].text


def test_small_classes_are_named():
    small = ClassResult("gnats", 3, 2, 0.5, 0.3, 0.4)
    assert "gnats (3)" in said(split(classes=(*CLASSES, small)))[0].text


def test_slices_that_are_worse_are_told():
    dark = SliceResult("brightness", "dark", Metric(0.5, 40, 0.35, 0.65), Metric(0.92, 960), 0.001, True)
    (first, *_) = said(split(slices=(dark, replace(dark, value="bright", worse=False))))
    assert first.text == "Accuracy is lower where brightness is dark: 50.0 % (35.0 to 65.0), against 92.0 % elsewhere."


@pytest.mark.parametrize(
    ("precision", "tone"),
    [
        (Metric(0.97, 800, 0.95, 0.985), "good"),
        (Metric(0.9, 800, 0.87, 0.92), "warn"),
        (Metric(1.0, 30, 0.89, 1.0), "warn"),  # no errors among 30 do not show 98 %
    ],
)
def test_a_threshold_is_held_to_its_aim(precision, tone):
    found = said(split(abstention=Abstention(0.98, 0.8, Metric(0.8, 1000), precision)))
    assert tones(found, "abstention") == [tone]
    assert "the target was 98 %" in next(remark for remark in found if remark.section == "abstention").text


def test_a_threshold_that_nothing_reaches():
    found = said(split(abstention=Abstention(0.98, 1.0, Metric(0.0, 1000), Metric(None, 0))))
    assert "answers none" in found[0].text


def test_serious_findings_come_before_everything():
    found = said(split(), audit(("ants", "bees"), [f"{i}.jpg" for i in range(30)]))
    assert found[0] == ("bad", "1 image of ants is in train and in test.", "audit")
    assert tones(found, "audit") == ["bad", "warn"]
    assert [TONES.index(remark.tone) for remark in found] == sorted(TONES.index(remark.tone) for remark in found)


def test_many_serious_findings_are_counted():
    several = audit(("ants", "bees"), [f"{i}.jpg" for i in range(30)])
    several = replace(several, findings=several.findings[:1] * 5)
    assert [remark.text for remark in said(split(), several)][3] == "The audit has 2 further serious findings."


def test_a_clean_audit_is_worth_a_word():
    clean = replace(audit(("ants", "bees"), ["a.jpg"] * 30), findings=())
    assert tones(said(split(), clean), "audit") == ["good"]


def test_nothing_measured_nothing_said():
    assert remarks(Page(title=""), None) == ()
    assert said(split(metrics={"accuracy": Metric(None, 0)}, classes=())) == ()


def test_calibration_of_few_images_is_not_praised():
    edges, count = np.linspace(0, 1, 16), np.zeros(15, np.int64)
    confidence, accuracy = np.full(15, np.nan), np.full(15, np.nan)
    for place, number, sure, right in ((9, 6, 0.63, 0.5), (11, 8, 0.77, 1.0), (13, 10, 0.9, 0.7), (14, 12, 0.97, 0.92)):
        count[place], confidence[place], accuracy[place] = number, sure, right
    few = Reliability(edges, count, confidence, accuracy)
    assert few.expected_calibration_error > 0.1
    (remark,) = [remark for remark in said(split(reliability=few)) if remark.section == "reliability"]
    assert remark.tone == "warn" and "36 images are too few to judge its confidence" in remark.text
