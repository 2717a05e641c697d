"""Figures for a paper: the widths of journals, embedded fonts, correct captions; and no input breaks them."""

import dataclasses
import hashlib
import json

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from tests.report.pages import HOSTILE, full_page
from tlkit.base.errors import TlkitError
from tlkit.evaluation.evaluate import evaluate
from tlkit.evaluation.results import EvaluationResult
from tlkit.evaluation.stored import read_evaluation, restored
from tlkit.options.commands import ReportConfig
from tlkit.pipelines.report import run as report
from tlkit.report import figures
from tlkit.report.plates import FIGURES, WIDTHS, draw
from tlkit.report.plates.drawings import epoch_ticks
from tlkit.runs.history import history_row, write_history


def folder_of(page, folder):
    """The files that a run leaves."""
    folder.mkdir()
    page.predictions.write_csv(folder / "predictions.csv")
    (folder / "evaluation.json").write_text(json.dumps({"format": 1, **page.evaluation.as_json()}))
    rows = [history_row("head", 1, train=(0.8, 0.5), held_out=(0.7, 0.6))]
    rows += [history_row("top", 0, held_out=(0.7, 0.6)), history_row("top", 1, train=(0.9, 0.3), held_out=(0.8, 0.5))]
    write_history(folder / "history.csv", rows)
    (folder / "run.json").write_text(json.dumps({"format": 1, "state": "finished", "root": str(folder / "images")}))
    for path in page.predictions.paths:
        file = folder / "images" / path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if file.is_absolute() and path.isprintable():
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), "teal").save(file)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of(full_page(), tmp_path_factory.mktemp("plates") / "run")


def test_an_evaluation_comes_back_as_it_was():
    page = full_page()
    for found in (page.evaluation, evaluate(page.predictions)):
        content = json.loads(json.dumps(found.as_json()))
        again = restored(EvaluationResult, content)
        assert again.as_json() == found.as_json()
        assert np.isnan(again.splits["test"].reliability.accuracy).any() or found is not page.evaluation
        assert again.splits["test"].confusion.dtype == np.int64


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "splits": {"test": 3}}'])
def test_what_is_no_evaluation_is_refused(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(TlkitError) as caught:
        read_evaluation(tmp_path / "evaluation.json")
    assert "tlkit evaluate" in caught.value.hint


@pytest.mark.parametrize("columns", [1, 2])
def test_every_figure_fills_its_columns_and_has_axis_titles(folder, columns):
    drawn = draw(folder, columns=columns)
    assert drawn.left_out == {} and [plate.name for plate in drawn.plates] == list(FIGURES)
    for plate in drawn.plates:
        width = plate.figure.get_size_inches()[0] * 25.4
        assert width == pytest.approx(WIDTHS[columns])
        assert len(plate.caption) > 60 and plate.caption.endswith((".", ")")) and "None" not in plate.caption
        if plate.name != "errors":
            titled = [axes for axes in plate.figure.axes if axes.get_ylabel()]
            assert titled and any(axes.get_xlabel() for axes in plate.figure.axes)


def test_the_numbers_drawn_are_those_measured(folder):
    result = read_evaluation(folder / "evaluation.json").splits["test"]
    found = figures(folder, ("confusion", "per-class", "risk-coverage"))
    written = {text.get_text() for text in found["confusion"].axes[0].texts}
    assert {str(count) for count in result.confusion.ravel() if count} == written
    bars = [bar.get_width() for bar in found["per-class"].axes[0].patches]
    recalls = sorted(row.recall for row in result.classes)
    assert bars[: len(recalls)] == pytest.approx(recalls)
    assert found["risk-coverage"].axes[0].lines[0].get_ydata() == pytest.approx(result.risk_coverage.risk)


def test_files_have_their_captions_embedded_letters_and_are_the_same_each_time(folder, tmp_path):
    made = report(ReportConfig(run=str(folder), figures=("pdf", "svg", "png"), out=str(tmp_path / "a")))
    assert {row["name"] for row in made["figures"]} == set(FIGURES) and made["left_out"] == {}
    pdf = (tmp_path / "a" / "roc.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert "<text" not in (tmp_path / "a" / "roc.svg").read_text()
    assert matplotlib.image.imread(tmp_path / "a" / "roc.png").shape[1] == round(89 / 25.4 * 300 - 0.5)
    assert (tmp_path / "a" / "roc.txt").read_text().startswith("Receiver operating characteristic")
    report(ReportConfig(run=str(folder), figures=("pdf", "svg", "png"), out=str(tmp_path / "b")))
    sums = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()}
        for name in "ab"
    ]
    assert sums[0] == sums[1]
    with pytest.raises(TlkitError, match="already holds"):
        report(ReportConfig(run=str(folder), out=str(tmp_path / "a")))


@pytest.mark.filterwarnings("ignore:Glyph")  # letters that the font lacks
def test_names_that_are_hostile_and_classes_that_are_many(tmp_path):
    for number, classes in enumerate((HOSTILE, [f"class {i}" for i in range(60)])):
        folder = folder_of(full_page(classes), tmp_path / str(number))
        drawn = draw(folder)
        assert len(drawn.plates) + len(drawn.left_out) == len(FIGURES)
        for plate in drawn.plates:
            plate.write(tmp_path / f"out-{number}", ("svg",))


def test_a_run_that_is_not_finished_and_a_file_are_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 1, "state": "running"}')
    (tmp_path / "model.keras").write_text("")
    for wrong, message in ((tmp_path, "is not finished"), (tmp_path / "model.keras", "does not exist")):
        with pytest.raises(TlkitError, match=message):
            report(ReportConfig(run=str(wrong)))


def test_what_was_not_measured_is_left_out_with_its_reason(tmp_path):
    page = full_page()
    folder = folder_of(page, tmp_path / "run")
    for name in ("history.csv", "run.json"):
        (folder / name).unlink()
    drawn = draw(folder)
    assert set(drawn.left_out) == {"learning-curves", "errors"}
    with pytest.raises(TlkitError, match="there is no history"):
        figures(folder, ("learning-curves",))
    write_history(folder / "history.csv", [history_row("head", 1, train=(0.8, 0.5))])
    with pytest.raises(TlkitError, match="the head was solved, which leaves no curve"):
        figures(folder, ("learning-curves",))
    with pytest.raises(TlkitError, match="is not a figure"):
        figures(folder, ("confusoin",))
    with pytest.raises(TlkitError, match="expected 1"):
        figures(folder, columns=3)


def test_several_labels_an_image_have_no_matrix_and_the_rest(tmp_path):
    rng = np.random.default_rng(0)
    rows, classes = full_page().predictions, 3
    logits = rng.normal(size=(len(rows), classes)).astype(np.float32)
    targets = (logits + rng.normal(size=logits.shape) > 0).astype(np.int8)
    several = dataclasses.replace(rows, targets=targets, labels=np.full(len(rows), -1, np.int32), logits=logits)
    page = full_page(predictions=several, evaluation=evaluate(several))
    folder = folder_of(page, tmp_path / "run")
    drawn = draw(folder, columns=2)
    assert {"confusion", "confusion-normalised", "errors"} <= set(drawn.left_out)
    assert {"roc", "precision-recall", "per-class"} <= {plate.name for plate in drawn.plates}
    assert "several labels" in drawn.left_out["confusion"]


def test_epochs_are_written_at_even_steps_in_every_stage():
    short = [("head", 1), *(("top", epoch) for epoch in range(4))]
    assert epoch_ticks(short) == [0, 1, 2, 3, 4]
    long = [("head", 1), *(("top", epoch) for epoch in range(15)), *(("all", epoch) for epoch in range(1, 12))]
    assert [long[i] for i in epoch_ticks(long)] == [
        *(("head", 1), ("top", 0), ("top", 5), ("top", 10)),
        *(("all", 5), ("all", 10)),
    ]
