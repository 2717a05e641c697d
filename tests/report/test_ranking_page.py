import re

from tlkit.evaluation.results import Metric
from tlkit.ranking.ranking import ClassGain, Forecast, LearningCurve, RankedBackbone, Ranking, Skipped
from tlkit.report.ranking_page import RankingPage, render_ranking

HOSTILE = "<script>alert(1)</script>"


def candidate(name, accuracy, milliseconds, frontier=True, tuned=None):
    return RankedBackbone(
        name=name,
        flags=f"--backbone {name}",
        image_size=(32, 48),
        parameters=1_234_567,
        megabytes=4.938,
        features=8,
        milliseconds=milliseconds,
        milliseconds_spread=(milliseconds, milliseconds),
        logme=-0.25,
        explained=0.4,
        accuracy=Metric(accuracy, 100, accuracy - 0.05, min(1.0, accuracy + 0.05)),
        behind=Metric(0.0, 100, -0.01, 0.01),
        error=0.005,
        within_noise=True,
        predicted=tuned,
        frontier=frontier,
        computed=100,
        seconds=1.0,
    )


def page(*candidates, curve=None):
    ranking = Ranking(
        images=100,
        available=100,
        classes=(HOSTILE, "b"),
        rule="All 100 images.",
        candidates=candidates,
        skipped=(Skipped("resnet50", "its weights are elsewhere", "fetch them"),),
        recommended=candidates[-1].name,
        best=candidates[0].name,
        reason=f"{HOSTILE} is cheap.",
        command="tlkit finetune images --backbone nano",
        curve=curve,
    )
    return render_ranking(RankingPage(title="flowers", ranking=ranking))


def curve(**more):
    points = tuple((images, Metric(0.6 + images / 2000, 100, 0.5, 0.95)) for images in (10, 20, 40, 80))
    gains = (ClassGain(HOSTILE, 50, 0.7, 0.02, 0.01),)
    return LearningCurve(candidate="nano", points=points, classes=gains, advice=f"Photograph {HOSTILE} first.", **more)


def test_names_are_shown_and_never_run():
    text = page(candidate(HOSTILE, 0.9, 3.0), candidate("nano", 0.8, 1.0), curve=curve(trouble=HOSTILE))
    assert HOSTILE not in text and "&lt;script&gt;alert(1)" in text


def test_every_candidate_has_a_row_and_a_numbered_dot():
    rows = [candidate("a", 0.9, 3.0), candidate("b", 0.85, 2.0, frontier=False), candidate("c", 0.8, 1.0)]
    text = page(*rows)
    (svg,) = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert svg.count("<circle") == 3 and svg.count("hollow") == 1
    assert all(f'text-anchor="start">{number}</text>' in svg for number in (1, 2, 3))
    assert text.count("<tr><td") == 3 and "1,234,567" in text and "32 × 48" in text and "fetch them" in text


def test_accuracy_after_fine_tuning_has_a_column_where_it_is_predicted():
    text = page(candidate("a", 0.9, 3.0, tuned=Metric(0.953, 100, 0.871, 0.984)), candidate("b", 0.8, 1.0))
    assert "95.3" in text and "87.1" in text
    assert "Expected after fine-tuning" not in page(candidate("b", 0.8, 1.0))


def test_the_forecast_is_drawn_beyond_what_was_measured():
    ahead = (Forecast(1, 100, Metric(0.66, 100, 0.6, 0.7)), Forecast(5, 500, Metric(0.8, 100, 0.7, 0.9)))
    text = page(candidate("nano", 0.8, 1.0), curve=curve(forecasts=ahead, reducible=0.3, rate=0.5, floor=0.05))
    svg = re.findall(r"<svg.*?</svg>", text, re.DOTALL)[1]
    assert svg.count("<circle") == 6 and "second dashed" in svg
    assert "5 times as many" in text and "70.0\u202f% to 90.0\u202f%" in text


def test_without_a_forecast_it_says_why():
    text = page(candidate("nano", 1.0, 1.0), curve=curve(trouble="there are too few images"))
    assert "No forecast: <" not in text and "there are too few images" in text and "times as many" not in text
