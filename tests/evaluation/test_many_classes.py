"""Above a thousand classes: the same metrics with less memory, and a short file of predictions that can be read back."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn import metrics as oracle

from tlkit.base.errors import TlkitError
from tlkit.classifier.answers import MANY_CLASSES, MOST_PROBABLE, Predictions
from tlkit.evaluation.compare import compare
from tlkit.evaluation.evaluate import evaluate
from tlkit.evaluation.stored import read_evaluation
from tlkit.python.run import Evaluated
from tlkit.report import figures
from tlkit.report.build import Page
from tlkit.report.outcome import PER_CLASS, write_outcome
from tlkit.tasks import task as blocks
from tlkit.tasks.single import SoftmaxColumns, softmax

CLASSES = MANY_CLASSES + 1


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 60).astype(np.int32)
    logits = rng.normal(size=(60, CLASSES)).astype(np.float32)
    logits[np.arange(60), labels] += 5
    labels[3] = -1
    return Predictions(
        paths=[f"{i}.png" for i in range(60)],
        sha256=[f"{i:02d}" for i in range(60)],
        labels=labels,
        splits=np.full(60, 2, np.int8),
        logits=logits,
        classes=tuple(f"class {i}, =" for i in range(CLASSES)),
        temperature=1.5,
        threshold=0.5,
    )


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    evaluation = evaluate(rows, target_precision=0.9)
    write_outcome(place, rows, evaluation, Page(title="t", evaluation=evaluation, predictions=rows))
    return place


def test_the_file_has_the_most_probable_classes_of_each_image(rows, folder):
    with (folder / "predictions.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found[0]) == 8 + 2 * (MOST_PROBABLE - 1)
    order = np.argsort(-rows.logits, axis=1, kind="stable")
    for row, best, chances in zip(found, order, rows.probabilities, strict=True):
        listed = [row["predicted"], *(row[f"class_{place}"] for place in range(2, MOST_PROBABLE + 1))]
        assert listed == [rows.classes[code] for code in best[:MOST_PROBABLE]]
        assert float(row["probability_10"]) == pytest.approx(chances[best[9]], rel=1e-8)
    assert found[3]["label_probability"] == ""
    assert float(found[0]["label_probability"]) == pytest.approx(rows.probabilities[0, rows.labels[0]], rel=1e-8)


def test_what_is_read_back_says_the_same(rows, folder):
    back = Predictions.read_csv(folder / "predictions.csv")
    assert back.classes == rows.classes and np.array_equal(back.labels, rows.labels)
    assert np.array_equal(back.predicted, rows.predicted)
    np.testing.assert_allclose(back.confidence, rows.confidence, rtol=1e-6)
    np.testing.assert_allclose(back.probabilities.sum(axis=1), 1, atol=1e-6)
    known = np.flatnonzero(rows.labels >= 0)
    of_truth = [each.probabilities[known, rows.labels[known]] for each in (back, rows)]
    np.testing.assert_allclose(*of_truth, rtol=1e-5)
    held = replace(rows, threshold=None)
    [same] = compare({"a": back.select(known), "b": held.select(known)})
    assert same.differences["accuracy"].value == 0 and abs(same.differences["log_loss"].value) < 1e-6
    ours, theirs = (evaluate(each).splits["test"].metrics for each in (back, held))
    for name in ("accuracy", "top_5_accuracy", "macro_f1", "log_loss", "expected_calibration_error", "cohen_kappa"):
        assert ours[name].value == pytest.approx(theirs[name].value, abs=1e-6), name
    assert ours["brier"].value == pytest.approx(theirs["brier"].value, abs=1e-3)


def test_in_python_it_is_a_table(rows, folder):
    table = Evaluated({"out": str(folder)}).predictions
    assert table["class_10"][0] == rows.classes[np.argsort(-rows.logits[0], kind="stable")[9]]
    assert np.isnan(table["label_probability"][3]) and table["label_probability"][0] > 0 and table["label"][3] == ""


def test_ties_and_outputs_that_are_not_finite_come_back(rows, tmp_path):
    odd = rows.select(np.arange(3))
    odd.logits[0], odd.logits[1] = 0.0, np.nan
    odd.write_csv(tmp_path / "predictions.csv")
    lines = [",".join(PER_CLASS), *(f'test,"{name}"' for name in rows.classes)]
    (tmp_path / "per_class.csv").write_text("\n".join(lines))
    back = Predictions.read_csv(tmp_path / "predictions.csv")
    assert back.predicted[0] == 0 and np.isnan(back.logits[1]).all() and np.isfinite(back.logits[2]).all()
    (tmp_path / "per_class.csv").unlink()
    with pytest.raises(TlkitError, match="per_class"):
        Predictions.read_csv(tmp_path / "predictions.csv")


def test_the_confusion_matrix_is_sparse_and_comes_back(rows, folder):
    result = evaluate(rows).splits["test"]
    truth, said = rows.labels[rows.labelled], rows.predicted[rows.labelled]
    expected = oracle.confusion_matrix(truth, said, labels=range(CLASSES))
    assert isinstance(result.confusion, csr_array)
    assert np.array_equal(result.confusion.toarray(), expected)
    assert result.metrics["cohen_kappa"].value == pytest.approx(oracle.cohen_kappa_score(truth, said))
    again = read_evaluation(folder / "evaluation.json").splits["test"]
    assert np.array_equal(again.confusion.toarray(), expected)
    assert (folder / "evaluation.json").stat().st_size < 1e6
    with pytest.raises(TlkitError, match="too many"):
        figures(folder, ("confusion",))
    assert "per-class" in figures(folder)


def test_the_report_shows_the_classes_of_lowest_f1(rows, folder):
    text = (folder / "report.md").read_text()
    assert "per_class.csv" in text and len(text) < 200_000


def test_blocks_change_no_number(rows, monkeypatch):
    whole = evaluate(rows, target_precision=0.9)
    columns = SoftmaxColumns(rows.logits, 1.5)
    expected = softmax(rows.logits, 1.5)
    assert all(np.array_equal(columns(code), expected[:, code]) for code in (0, 7, CLASSES - 1))
    monkeypatch.setattr(blocks, "NUMBERS", 7 * CLASSES)
    monkeypatch.setattr("tlkit.tasks.single.NUMBERS", 600)
    assert json.dumps(evaluate(rows, target_precision=0.9).as_json()) == json.dumps(whole.as_json())
    few = SoftmaxColumns(rows.logits, 1.5)
    assert all(np.array_equal(few(code), expected[:, code]) for code in (CLASSES - 1, 7, 8, 0))
