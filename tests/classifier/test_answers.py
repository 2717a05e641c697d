"""Answers: logits and unfamiliarity, by name, as a whole and in parts."""

import numpy as np
import pytest

from tlkit.classifier.answers import Answers
from tlkit.classifier.facts import Facts
from tlkit.data.dataset import InputContract

FACTS = Facts(
    classes=("ant", "bee"),
    contract=InputContract(height=8, width=8),
    backbone="none",
    grid_layer="none",
    temperature=2.0,
    threshold=0.6,
)
LOGITS = np.array([[0.0, 4.0], [0.2, 0.0]], np.float32)


def test_rows_hold_what_is_known_of_each_image():
    first, second = Answers(LOGITS, np.array([0.25, 1.5], np.float32)).rows(["a.jpg", "b.jpg"], FACTS, 2)
    chance = 1 / (1 + np.exp(-2.0))
    assert first["class"] == "bee" and first["probability"] == pytest.approx(chance, abs=1e-6)
    assert (first["abstain"], first["unfamiliar"], first["unfamiliarity"]) == (False, False, 0.25)
    assert [entry["class"] for entry in second["top"]] == ["ant", "bee"]
    assert (second["abstain"], second["unfamiliar"], second["path"]) == (True, True, "b.jpg")


def test_without_a_reference_nothing_is_said_of_familiarity():
    (row,) = Answers(LOGITS[:1]).rows(["a.jpg"], FACTS, 1)
    assert not {"unfamiliar", "unfamiliarity"} & set(row)


@pytest.mark.parametrize("far", [None, np.array([0.25, 1.5], np.float32)])
def test_single_answers_joined_are_the_same_again(far):
    whole = Answers(LOGITS, far)
    again = Answers.joined(list(whole))
    np.testing.assert_array_equal(again.logits, LOGITS)
    assert len(list(whole)) == len(whole) == 2
    np.testing.assert_array_equal(again.unfamiliarity, far)


def test_rows_are_made_when_they_are_asked_for():
    paths = [f"{number}.jpg" for number in range(7)]
    logits = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    rows = Answers(logits, np.arange(7, dtype=np.float32)).rows(paths, FACTS, 2)
    whole = list(rows)
    assert [row["path"] for row in whole] == paths and rows == whole and whole == rows and rows != whole[1:]
    assert [rows[place] for place in range(-7, 7)] == whole + whole
    assert rows[1:6:2] == whole[1:6:2] and rows[::-1] == whole[::-1] and not rows[:0]
    assert rows.abstained.tolist() == [row["abstain"] for row in whole] and rows.abstained.any()
    with pytest.raises(IndexError):
        rows[7]
    with pytest.raises(ValueError, match="7 answers for 6 paths"):
        Answers(logits).rows(paths[1:], FACTS, 1)


def test_rows_of_several_blocks_are_those_of_one(monkeypatch):
    logits = np.random.default_rng(1).normal(size=(9, 2)).astype(np.float32)
    rows = Answers(logits).rows([str(number) for number in range(9)], FACTS, 1)
    whole, held = list(rows), rows.abstained
    monkeypatch.setattr("tlkit.classifier.answers.AT_ONCE", 4)  # two rows at a time
    assert list(rows) == whole and (rows.abstained == held).all()
