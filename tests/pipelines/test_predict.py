import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

from tests import traced
from tlkit.base.errors import TlkitError
from tlkit.cli.main import app
from tlkit.options.commands import PredictConfig
from tlkit.pipelines import predict
from tlkit.pipelines.predict import as_csv, find, run


def test_folders_files_and_patterns_in_the_order_given(finished, colours, tmp_path):
    paths = (str(colours / "red" / "03.png"), str(colours / "blue"), str(colours / "green" / "0[12].png"))
    result = run(PredictConfig(run=str(finished[0]), paths=paths, top=2))
    found = [row["path"].rsplit("/", 2)[-2:] for row in result["predictions"]]
    assert found[0] == ["red", "03.png"] and found[-2:] == [["green", "01.png"], ["green", "02.png"]]
    assert result["images"] == 1 + 12 + 2
    right = [row["class"] == row["path"].rsplit("/", 2)[-2] for row in result["predictions"]]
    assert sum(right) >= 12
    for row in result["predictions"]:
        assert row["probability"] == row["top"][0]["probability"] >= row["top"][1]["probability"]


def test_predictions_agree_with_those_of_the_run(finished, colours):
    out, _ = finished
    with (out / "predictions.csv").open(newline="") as file:
        stored = {row["path"]: row for row in csv.DictReader(file)}
    result = run(PredictConfig(run=str(out / "model.keras"), paths=(str(colours),)))
    for row in result["predictions"]:
        known = stored["/".join(row["path"].rsplit("/", 2)[-2:])]
        assert row["class"] == known["predicted"]
        assert row["probability"] == pytest.approx(float(known["probability"]), abs=1e-4)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_written_to_a_file(finished, colours, tmp_path, suffix):
    out = tmp_path / f"predictions.{suffix}"
    config = PredictConfig(run=str(finished[0]), paths=(str(colours / "red"),), out=str(out), top=3)
    result = run(config)
    if suffix == "json":
        assert json.loads(out.read_text()) == result["predictions"]
    else:
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
        assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
        assert out.read_text() == "".join(as_csv(result["predictions"]))
    with pytest.raises(TlkitError, match="already exists"):
        run(config)


def test_unreadable_files_are_set_aside_or_refused(finished, tmp_path):
    (tmp_path / "note.jpg").write_text("no image")
    config = {"run": str(finished[0]), "paths": (str(tmp_path / "note.jpg"),)}
    result = run(PredictConfig(**config))
    assert result["predictions"] == [] and result["set_aside"][0]["reason"]
    with pytest.raises(TlkitError, match=r"note\.jpg"):
        run(PredictConfig(**config, on_bad="fail"))


def test_a_list_on_stdin_and_what_is_not_there(tmp_path):
    files, problems = find(["-"], io.StringIO("a.jpg\nb c.jpg\n\n"))
    assert [str(file) for file in files] == ["a.jpg", "b c.jpg"] and problems == []
    with pytest.raises(TlkitError, match="not a file, a folder, or a pattern"):
        find([str(tmp_path / "*.jpg")], io.StringIO())


def test_rows_serve_where_a_list_of_them_did(finished, colours):
    rows = run(PredictConfig(run=str(finished[0]), paths=(str(colours / "red"),), top=2))["predictions"]
    assert json.loads(json.dumps(rows, default=list)) == rows
    assert pandas.DataFrame(rows).to_dict("records") == list(rows)


def test_json_on_stdout_is_that_of_a_list(finished, colours):
    asked = [str(finished[0]), str(colours / "red"), "--top", "2"]
    told = CliRunner().invoke(app, ["predict", *asked, "--json"]).stdout
    found = run(PredictConfig(run=asked[0], paths=(asked[1],), top=2))
    assert told == json.dumps({**found, "predictions": list(found["predictions"])}) + "\n"


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_memory_an_image_is_that_of_its_numbers(finished, tmp_path, monkeypatch, suffix):
    """A dictionary each would be 700 bytes; here are a path, three logits and their place, twice while they grow."""

    def infer(engine, files, *others, **options):
        logits = np.random.default_rng(0).normal(size=(len(files), 3)).astype(np.float32)
        return np.arange(len(files)), (logits, np.ones(len(files), np.float32)), []

    def answer(images):
        names = "".join(f"images/{number:07d}.jpg\n" for number in range(images))
        monkeypatch.setattr("sys.stdin", io.StringIO(names))
        run(PredictConfig(run=str(finished[0]), paths=("-",), out=str(tmp_path / f"p.{suffix}"), overwrite=True))

    monkeypatch.setattr(predict, "watching", lambda *_: SimpleNamespace(name="", precision="", reason=""))
    monkeypatch.setattr(predict, "infer", infer)
    monkeypatch.setattr("tlkit.classifier.answers.AT_ONCE", 1024)
    assert traced.each(answer, 500, 3500) < 250
