"""The verdict: the baseline of the classifier, and when the difference counts."""

import numpy as np
import pytest

from tests.report.pages import evaluation, predictions
from tlkit.evaluation.results import ClassResult, EvaluationResult, Metric, SplitResult
from tlkit.report.headline import headline, main_split


def result(low, value, high, split="test"):
    classes = (ClassResult("ants", 60, 50, 1.0, 1.0, 1.0), ClassResult("bees", 40, 50, 1.0, 1.0, 1.0))
    return SplitResult(split, 100, {"accuracy": Metric(value, 100, low, high)}, np.zeros((2, 2), int), classes, ())


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.7, 0.8, 0.9, "better"),
        (0.55, 0.65, 0.75, "unclear"),
        (0.6, 0.7, 0.8, "unclear"),
        (0.3, 0.4, 0.5, "worse"),
        (None, 0.8, None, "better"),
    ],
)
def test_the_interval_decides(low, value, high, verdict):
    found = headline(result(low, value, high))
    assert (found.verdict, found.majority, found.baseline) == (verdict, "ants", 0.6)


def test_test_speaks_before_val_before_train_and_says_what_val_is_worth():
    everything = evaluation(predictions())
    assert main_split(everything).split == "test"
    without = EvaluationResult({name: found for name, found in everything.splits.items() if name != "test"})
    assert main_split(without).split == "val"
    assert "no test split" in headline(main_split(without)).caveat
    assert headline(main_split(everything)).caveat == ""


def test_nothing_measured_has_no_headline():
    assert main_split(None) is None
    assert main_split(EvaluationResult({})) is None
    assert headline(result(None, None, None)) is None
