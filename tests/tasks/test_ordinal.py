"""Grades: the median of the probabilities, checked against hand-computed cases and a search over all answers."""

import numpy as np
import pytest

from tlkit.base.errors import TlkitError
from tlkit.tasks.multi import MULTI
from tlkit.tasks.ordinal import ORDINAL, median
from tlkit.tasks.registry import TASKS, of_columns, of_texts, of_truth, row_of
from tlkit.tasks.single import SINGLE, softmax

GRADES = ("none", "mild", "severe")


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        ([0.4, 0.25, 0.35], 1),  # the most probable is 0
        ([0.5, 0.0, 0.5], 0),  # any of the three is a median; the lowest
        ([0.1, 0.2, 0.7], 2),
        ([0.51, 0.09, 0.4], 0),
        ([1.0, 0.0, 0.0], 0),
    ],
)
def test_median_by_hand(chances, expected):
    assert median(np.array([chances])).tolist() == [expected]


def test_no_answer_has_a_smaller_expected_error():
    chances = np.random.default_rng(0).dirichlet(np.ones(6), 500)
    grades = np.arange(6)
    costs = chances @ np.abs(grades[:, None] - grades)  # (n, answer)
    given = median(chances)
    np.testing.assert_allclose(costs[np.arange(500), given], costs.min(axis=1))
    assert (given != chances.argmax(axis=1)).mean() > 0.2  # it is another answer than the most probable class


def test_a_temperature_changes_what_is_said():
    logits = np.array([[3.0, 0.0, 2.6, 2.6]])
    assert ORDINAL.predicted(logits).tolist() == [2] and ORDINAL.predicted(logits, 0.2).tolist() == [0]
    assert SINGLE.predicted(logits, 0.2).tolist() == SINGLE.predicted(logits).tolist() == [0]
    assert softmax(logits)[0].argmax() == 0


def test_truth_is_written_and_read_and_found_by_its_form():
    labels, targets = ORDINAL.read(["mild", "", "none"], GRADES)
    assert labels.tolist() == [1, -1, 0] and targets.tolist() == [[1], [-1], [0]]
    assert of_truth(targets) is ORDINAL and of_truth(labels) is SINGLE
    assert [ORDINAL.write(row, GRADES) for row in targets] == ["mild", "", "none"]
    assert ORDINAL.known(targets).tolist() == [True, False, True]
    assert ORDINAL.counts(targets, 3).tolist() == [1, 1, 0]
    np.testing.assert_array_equal(ORDINAL.as_targets(targets[[0, 2]], 3), np.eye(3)[[1, 0]])
    assert ORDINAL.parsed("severe", GRADES, "line 2").tolist() == [2]
    with pytest.raises(TlkitError, match="class here"):
        ORDINAL.parsed("sever", GRADES, "line 2")


def test_scores_are_one_minus_the_error_over_the_largest():
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]]))
    truth = np.array([[0], [0], [2]], np.int16)
    assert ORDINAL.scores(logits, truth).tolist() == [1.0, 0.0, 0.5]
    np.testing.assert_allclose(ORDINAL.losses(logits, truth), -np.log([0.8, 0.1, 0.2]))
    assert ORDINAL.correct(logits, truth).tolist() == [True, False, False]


def test_an_answer_says_the_median_and_the_mean():
    chances = np.array([0.4, 0.25, 0.35])
    said = ORDINAL.answer(np.log(chances), chances, 1, GRADES, None)
    assert said == {"class": "mild", "probability": 0.25, "expected": 0.95}
    assert ORDINAL.beside(chances, 1, None) == ["0.25", "0.95"]


def test_it_is_a_kind_of_single_and_a_row_of_its_own():
    assert row_of({"single": "s"}, ORDINAL) == "s" and row_of({"single": "s", "ordinal": "o"}, ORDINAL) == "o"
    assert of_columns(["path", "probability", "expected"]) is ORDINAL
    assert of_columns(["path", "probability"]) is SINGLE
    assert of_texts(["a", "b"], ORDINAL) is ORDINAL
    with pytest.raises(TlkitError, match="--task multi"):
        of_texts(["a|b"], ORDINAL)
    assert ORDINAL.understands(SINGLE) and not ORDINAL.understands(TASKS["multi"])


def test_a_ranking_scores_grades_by_their_own_decision():
    scores = np.array([[0.5, -0.5, -0.5], [-0.5, 0.5, -0.5], [-0.5, -0.4, 0.5]])  # of ridge, less one half
    assert ORDINAL.predicted(ORDINAL.of_ridge(scores)).tolist() == [0, 1, 2]


def test_what_a_batch_scores_is_what_the_numbers_score():
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (40, 5)).astype(np.float32)
    truth = random.integers(0, 5, (40, 1)).astype(np.int16)
    targets = ORDINAL.as_targets(truth, 5).astype(np.float32)
    targets[30:] = 0  # padding rows
    found = float(ORDINAL.hits(logits, targets, np.ones(40, np.float32)))
    assert found == pytest.approx(ORDINAL.scores(logits, truth)[:30].sum(), rel=1e-5)


def test_the_most_probable_mistake():
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]], np.float32)
    assert SINGLE.mistaken(logits, np.array([0, 0])).tolist() == [2, 1]
    assert ORDINAL.mistaken(logits, np.array([[0], [1]], np.int16)).tolist() == [[2], [2]]
    truth = np.array([[1, 0, 0], [1, 1, 0]], np.int8)
    assert MULTI.mistaken(np.array([[3.0, -1.0, -2.0], [-0.5, 5.0, -9.0]]), truth).tolist() == [[1, 1, 0], [0, 1, 0]]
