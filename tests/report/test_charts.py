"""Charts: one for light and dark, text as text, marks at the right positions."""

import re

import numpy as np
import pytest

from tests.report.pages import evaluation, predictions
from tlkit.evaluation.results import Abstention, Metric, Reliability, RiskCoverage
from tlkit.report import charts
from tlkit.report.charts import RIGHT, TOP, WIDTH, ChartAxis, Plot, curves, picture, reliability_diagram, shares, steps
from tlkit.report.page import EpochRow


def epochs(count, stages=("head",)):
    return [
        EpochRow(stage=stages[i * len(stages) // count], epoch=i, loss=1 / (i + 1), val_loss=1.2 / (i + 1))
        for i in range(count)
    ]


def drawings():
    result = evaluation(predictions()).splits["test"]
    yield curves(epochs(10, ("head", "top & <all>")), "loss", 'Loss "by" epoch')
    yield reliability_diagram(result.reliability, "r", result.uncalibrated)
    yield charts.risk_coverage(result.risk_coverage, "r", result.abstention)
    yield charts.roc(result.curves, "r")
    yield charts.precision_recall(result.curves, "r")


def test_colours_come_from_the_page():
    for drawing in drawings():
        assert not re.findall(r"#[0-9a-f]{3,6}\b|rgb|style=", drawing)


def test_letters_stay_text_and_are_escaped():
    drawing = next(drawings())
    assert "top &amp; &lt;all&gt;" in drawing
    assert 'aria-label="Loss &#34;by&#34; epoch"' in drawing
    assert "epoch</text>" in drawing


def test_every_mark_and_word_lies_within_the_picture():
    for drawing in drawings():
        _, _, width, height = map(float, re.search(r'viewBox="([^"]*)"', drawing)[1].split())
        across = [float(x) for x in re.findall(r'(?:c?x=")([-\d.]+)', drawing)]
        down = [float(y) for y in re.findall(r'(?:c?y=")([-\d.]+)', drawing)]
        for pair in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", drawing):
            across.append(float(pair[0]))
            down.append(float(pair[1]))
        assert min(across) >= 0 and max(across) <= width
        assert min(down) >= 0 and max(down) <= height


def test_words_keep_clear_of_the_edges():
    for drawing in drawings():
        for x, anchor, text in re.findall(r'<text x="([-\d.]+)" y="[-\d.]+" text-anchor="(\w+)">([^<]*)<', drawing):
            width, x = 6.5 * len(text.replace("&amp;", "&")), float(x)
            left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
            assert left >= -1 and left + width <= WIDTH + 1, text


def test_a_value_stands_where_the_axis_says():
    plot = Plot(shares("a"), ChartAxis(0, 10, (0, 10)), height=200)
    assert (plot.across(0), plot.across(1)) == (plot.left, WIDTH - RIGHT)
    assert (plot.up(10), plot.up(0)) == (TOP, plot.bottom)
    assert plot.up(5) == pytest.approx((TOP + plot.bottom) / 2)


def test_a_line_breaks_where_nothing_was_measured():
    plot = Plot(ChartAxis(0, 3, ()), ChartAxis(0, 1, ()))
    plot.line([0, 1, 2, 3], [0.5, 0.5, np.nan, 0.5])
    assert re.sub(r"[\d. ]+", "", re.search(r' d="([^"]*)"', plot.marks[0])[1]) == "MLM"


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.93, 0.97, False, [0.93, 0.94, 0.95, 0.96, 0.97]),
        (1, 3, True, [1, 2, 3]),
        (1, 1, True, [1]),
        (0, 0.011, False, [0, 0.0025, 0.005, 0.0075, 0.01]),
        (-3, 4000, False, [0, 1000, 2000, 3000, 4000]),
    ],
)
def test_ticks_are_round_and_inside(low, high, whole, expected):
    assert steps(low, high, 5, whole=whole) == pytest.approx(expected)


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e20])
def test_numbers_of_any_size_have_ticks_and_bars(unit):
    assert steps(0, unit, 5) == pytest.approx([share * unit for share in (0, 0.2, 0.4, 0.6, 0.8, 1)], rel=1e-9, abs=0)
    drawing = charts.residuals(np.array([-2.0, 0.5, 1.0]) * unit, "r")
    assert drawing.count("<rect") == charts.residuals(np.array([-2.0, 0.5, 1.0]), "r").count("<rect") > 2


def test_a_chosen_threshold_is_marked_at_its_coverage_and_risk():
    found = RiskCoverage(np.array([0.5, 1.0]), np.array([0.0, 0.2]), np.array([0.9, 0.4]), Metric(0.1, 2))
    bare = charts.risk_coverage(found, "r")
    marked = charts.risk_coverage(found, "r", Abstention(0.9, 0.75, Metric(0.5, 2), Metric(0.9, 1)))
    assert "threshold 0.75" in marked and "<circle" in marked
    assert "threshold" not in bare and "<circle" not in bare
    assert "<circle" not in charts.risk_coverage(found, "r", Abstention(0.9, 1.0, Metric(0.0, 2), Metric(None, 0)))


def test_the_same_numbers_give_the_same_drawing():
    assert list(drawings()) == list(drawings())


def test_one_epoch_is_no_curve():
    assert curves([], "loss", "l") is None
    assert curves(epochs(1), "loss", "l") is None
    assert curves(epochs(3), "accuracy", "l") is None


@pytest.mark.parametrize("count", [2, 41, 500])
def test_any_number_of_epochs(count):
    drawn = curves(epochs(count), "loss", "l")
    assert drawn.count("<circle") == (2 * count if count <= 40 else 0)


def test_a_loss_that_never_moves_is_drawn():
    assert "nan" not in curves([EpochRow(stage="head", epoch=i, loss=0.0) for i in range(3)], "loss", "l")


def test_empty_bins_are_left_out():
    empty = np.array([np.nan, 0.7, np.nan])
    drawn = reliability_diagram(Reliability(np.linspace(0, 1, 4), np.array([0, 9, 0]), empty, empty), "r")
    assert "nan" not in drawn.lower()
    assert drawn.count("<circle") == 1


def test_two_plots_share_a_picture():
    drawn = picture("p", Plot(shares(""), shares("")), Plot(shares(""), shares(""), height=50, top=300))
    assert 'viewBox="0 0 400 350"' in drawn


def rows(stage, epochs):
    return [EpochRow(stage=stage, epoch=epoch, loss=1.0, val_loss=1.0 - epoch / 100) for epoch in epochs]


def test_a_solved_head_takes_no_place_on_the_axis_and_stages_do_not_overprint():
    one = str(curves(rows("head", [1]) + rows("top", range(31)), "loss", "l"))
    assert ">head<" not in one and ">top<" not in one  # a single curve needs no name
    assert ">0</text>" in one and ">30</text>" in one
    three = str(curves(rows("head", range(3)) + rows("top", range(3)) + rows("all", range(60)), "loss", "l"))
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="start">(head|top|all)</text>', three)
    assert [name for *_, name in places] == ["head", "top", "all"]
    assert len({y for _, y, _ in places}) == 3  # each a line lower, for they start 2 epochs apart
    assert three.count('class="line first"') == 3  # a line for each stage


def test_one_row_of_each_stage_is_no_curve():
    assert curves(rows("head", [1]) + rows("top", [0]), "loss", "l") is None
