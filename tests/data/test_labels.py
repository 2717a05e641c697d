import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import f1_score, log_loss

from tlkit.base.errors import TlkitError
from tlkit.classifier.answers import Predictions, image_losses, image_scores, sigmoid, softmax
from tlkit.tasks.labels import are_several, decode, encode, read_labels, reordered, written
from tlkit.tasks.multi import MULTI

CLASSES = ("cat", "dog", "fish")
NAMES = st.lists(st.sampled_from(CLASSES), unique=True)


def test_labels_as_they_are_written_and_as_rows():
    assert encode(["cat", "fish | dog", "|", "", "cat"], CLASSES).tolist() == [
        *([1, 0, 0], [0, 1, 1], [0, 0, 0], [-1, -1, -1], [1, 0, 0])
    ]
    assert decode(np.array([0, 1, 1]), CLASSES) == "dog|fish"
    assert decode(np.array([0, 0, 0]), CLASSES) == "|"
    assert decode(np.array([-1, -1, -1]), CLASSES) == ""
    assert are_several(["cat", "|"]) and not are_several(["cat", ""])


@given(NAMES)
def test_what_is_written_is_read(names):
    text = written(names)
    assert sorted(read_labels(text, "a row")) == sorted(names)
    assert set(read_labels(decode(encode([text], CLASSES)[0], CLASSES), "a row")) == set(names)


@pytest.mark.parametrize(("text", "words"), [("cat|", "nothing on one side"), ("a||b", "nothing"), ("a| a", "twice")])
def test_labels_that_say_nothing_are_refused_with_their_place(text, words):
    with pytest.raises(TlkitError, match=words) as refused:
        read_labels(text, "row 7 of 'x.csv'")
    assert "row 7 of 'x.csv'" in refused.value.message and repr(text) in refused.value.message


def test_targets_in_another_order_of_more_classes():
    found = reordered(encode(["dog", "cat|dog", ""], ("cat", "dog")), ("cat", "dog"), ("fish", "dog", "cat"))
    assert found.tolist() == [[0, 1, 0], [0, 1, 1], [-1, -1, -1]]


@pytest.fixture
def several():
    random = np.random.default_rng(0)
    return random.normal(0, 2, (60, 3)).astype(np.float32), (random.random((60, 3)) < 0.4).astype(np.int8)


def test_sigmoids_and_their_losses_against_scipy_and_sklearn(several):
    logits, targets = several
    assert np.allclose(sigmoid(logits, 1.7), expit(logits.astype(np.float64) / 1.7), rtol=1e-12)
    assert sigmoid(np.array([[-1e4, 1e4]])).tolist() == [[0.0, 1.0]]
    assert np.array_equal(MULTI.probabilities(logits), sigmoid(logits))
    expected = np.mean([log_loss(targets[:, k], expit(logits[:, k] / 1.7)) for k in range(3)])
    assert image_losses(logits, targets, 1.7).mean() == pytest.approx(expected, rel=1e-6)
    single = logits.argmin(axis=1)
    assert image_losses(logits, single).mean() == pytest.approx(log_loss(single, softmax(logits)), rel=1e-6)


def test_the_score_of_an_image_is_its_f1_and_with_one_class_each_its_accuracy(several):
    logits, targets = several
    expected = f1_score(targets, logits >= 0, average="samples", zero_division=1)
    assert image_scores(logits, targets).mean() == pytest.approx(expected)
    one = np.where(np.eye(3)[logits.argmax(axis=1)] > 0, 1.0, -1.0)  # gives only its most probable class
    truth = targets.argmax(axis=1)
    assert np.array_equal(image_scores(logits, truth), image_scores(one, np.eye(3, dtype=np.int8)[truth]))


def test_predictions_of_several_labels_come_back_from_the_table(several, tmp_path):
    logits, targets = several
    targets[3], targets[4], logits[4] = -1, 0, -9.0
    logits[5] = 60.0  # a probability of 1
    rows = Predictions(
        paths=[f"{i}.png" for i in range(60)],
        sha256=["00"] * 60,
        labels=np.full(60, -1, np.int32),
        splits=np.arange(60, dtype=np.int8) % 3,
        logits=logits,
        classes=CLASSES,
        temperature=2.0,
        targets=targets,
    )
    rows.write_csv(tmp_path / "p.csv")
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "path,sha256,split,label,predicted,p:cat,p:dog,p:fish"
    assert lines[4].split(",")[3] == "" and lines[5].split(",")[3:5] == ["|", "|"]
    back = Predictions.read_csv(tmp_path / "p.csv")
    assert back.task is MULTI and np.array_equal(back.targets, targets)
    assert np.allclose(back.probabilities, rows.probabilities, atol=1e-8) and np.isfinite(back.logits).all()
    assert np.array_equal(back.correct, rows.correct) and not back.correct[3]
    assert back.correct[4] and np.array_equal(back.labelled, targets[:, 0] >= 0)
    assert np.array_equal(rows.select(np.array([5, 4])).truth, targets[[5, 4]])
