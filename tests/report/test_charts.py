"""Drawings: one for light and dark, letters as text, nothing global touched."""

import re

import matplotlib as mpl
import numpy as np
import pytest

from tlkit.core.results import Reliability
from tlkit.report.charts import curves, reliability_diagram
from tlkit.report.page import EpochRow


def epochs(count, stages=("head",)):
    return [
        EpochRow(stage=stages[i * len(stages) // count], epoch=i, loss=1 / (i + 1), val_loss=1.2 / (i + 1))
        for i in range(count)
    ]


@pytest.fixture
def drawing():
    return curves(epochs(10, ("head", "top & <all>")), "loss", 'Loss "by" epoch')


def test_colours_come_from_the_page(drawing):
    assert "var(--first)" in drawing and "var(--second)" in drawing
    assert not re.findall(r"#[0-9a-f]{6}\b", drawing)


def test_letters_stay_text_and_are_escaped(drawing):
    assert "top &amp; &lt;all&gt;" in drawing
    assert 'aria-label="Loss &#34;by&#34; epoch"' in drawing
    assert "epoch</text>" in drawing


def test_a_drawing_brings_neither_style_nor_metadata_nor_address(drawing):
    assert not re.findall(r"<style|<metadata|https?:|<\?xml|DOCTYPE", drawing)


def test_the_same_numbers_give_the_same_drawing():
    assert curves(epochs(10), "loss", "l") == curves(epochs(10), "loss", "l")


def test_nothing_to_draw():
    assert curves([], "loss", "l") is None
    assert curves(epochs(3), "accuracy", "l") is None


@pytest.mark.parametrize("count", [1, 2, 500])
def test_any_number_of_epochs(count):
    assert curves(epochs(count), "loss", "l").startswith("<svg")


def test_empty_bins_are_left_out():
    empty = np.array([np.nan, 0.7, np.nan])
    drawn = reliability_diagram(Reliability(np.linspace(0, 1, 4), np.array([0, 9, 0]), empty, empty), "r")
    assert "nan" not in drawn.lower()


def test_matplotlib_is_left_as_it_was():
    before = dict(mpl.rcParams)
    curves(epochs(5), "loss", "l")
    assert dict(mpl.rcParams) == before
