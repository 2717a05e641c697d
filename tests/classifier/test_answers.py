"""Answers: logits and unfamiliarity, each by its name, whole and in parts."""

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
