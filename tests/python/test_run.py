"""A run as an object: tables, figures, predictions; and still the mapping that `--json` prints."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tlkit
from tlkit.base.errors import TlkitError
from tlkit.base.files import CellWriter
from tlkit.base.story import percent
from tlkit.python.run import Evaluated, Run


@pytest.fixture(scope="session")
def run(colours, tiny_backbone, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a <b>run"
    return tlkit.finetune(
        colours, backbone=tiny_backbone, stages="head", views=1, val=0.25, test=0.25, out=out, verbose=False
    )


def test_it_is_the_mapping_that_the_command_prints(run):
    assert isinstance(run, Run) and isinstance(run, dict)
    printed = json.loads((run.path / "metrics.json").read_text())
    assert run["metrics"] == printed == json.loads(json.dumps(run))["metrics"]
    assert run["images"] == 36 and run["classes"] == ["blue", "green", "red"]
    assert tlkit.load(run.path) == run and dict(tlkit.load(str(run.path))) == dict(run)


def test_a_plan_is_no_run(colours, tiny_backbone):
    plan = tlkit.finetune(colours, backbone=tiny_backbone, stages="head", dry_run=True, verbose=False)
    assert type(plan) is dict and "plan" in plan


def test_it_is_shown_by_its_headline(run):
    accuracy = run["metrics"]["test"]["accuracy"]
    assert (
        len(repr(run)) < 250
        and f"accuracy {percent(accuracy['value'], 1)}" in repr(run)
        and "9 test images" in repr(run)
    )
    page = run._repr_html_()
    assert f"{percent(accuracy['low'], 1)}" in page and "always predicting" in page
    assert "<b>" not in page and "a &lt;b&gt;run" in page  # names are text


def test_tables(run):
    metrics = run.metrics.set_index(["split", "metric"])
    assert metrics.loc[("test", "accuracy"), "value"] == run["metrics"]["test"]["accuracy"]["value"]
    rows = run.predictions
    assert len(rows) == 36 and set(rows["label"]) == {"blue", "green", "red"}
    assert np.allclose(rows[["p:blue", "p:green", "p:red"]].sum(axis=1), 1)
    share = (rows["label"] == rows["predicted"])[rows["split"] == "test"].mean()
    assert share == pytest.approx(run["metrics"]["test"]["accuracy"]["value"])
    assert list(run.history["stage"]) == ["head"] and run.history["accuracy"].between(0, 1).all()


def test_classes_called_like_numbers_or_nothing_stay_text(tmp_path):
    (tmp_path / "predictions.csv").write_text(
        "path,sha256,split,label,predicted,probability,p:NA,p:007\nNA.png,00,test,NA,007,0.75,0.25,0.75\n"
    )
    row = Evaluated({"out": str(tmp_path)}).predictions.iloc[0]
    assert (row["path"], row["label"], row["predicted"], row["probability"]) == ("NA.png", "NA", "007", 0.75)


def test_paths_pictures_and_arrays_get_the_same_answer(run, colours):
    files = [colours / "red" / "00.png", colours / "blue" / "03.png"]
    pictures = [Image.open(file) for file in files]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    by_path = run.predict(files)
    assert list(by_path["path"]) == [str(file) for file in files] and list(by_path["class"]) == ["red", "blue"]
    for given in (pictures, arrays, list(arrays)):
        found = run.predict(given)
        assert list(found["path"]) == ["0", "1"]
        assert found.drop(columns="path").equals(by_path.drop(columns="path"))
    assert run.predict(files[0])["class"].tolist() == run.predict(arrays[0])["class"].tolist() == ["red"]
    assert len(run.predict(files, top=3)["top"][0]) == len(run.predict(files, top="3")["top"][0]) == 3


def test_a_turned_picture_is_turned_as_its_file_would_be(run, colours, tmp_path):
    picture = Image.open(colours / "red" / "00.png")
    tags = picture.getexif()
    tags[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=tags)
    in_memory = run.predict(Image.open(tmp_path / "turned.png"))
    assert in_memory.drop(columns="path").equals(run.predict(tmp_path / "turned.png").drop(columns="path"))


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3)), [np.zeros((0, 4, 3), np.uint8)], [np.zeros((4, 4, 7), np.uint8)], [object()], 3]
)
def test_what_is_no_image_is_refused(run, wrong):
    with pytest.raises(TlkitError):
        run.predict(wrong)


def test_evaluation_figure_and_export(run, colours, tmp_path):
    measured = run.evaluate(colours, out=tmp_path / "measured", verbose=False)
    assert isinstance(measured, Evaluated) and "36 images" in repr(measured)
    assert len(measured.predictions) == 36 and not measured.metrics.empty
    assert run.figure("confusion").get_size_inches()[0] == pytest.approx(89 / 25.4)
    assert run.figure("per-class", columns=2)._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(TlkitError, match="is not a figure"):
        run.figure("confusions")
    made = run.export("keras", out=tmp_path / "exported", verbose=False)
    assert made["out"] == str(tmp_path / "exported")


def test_loading_and_looking_needs_no_keras_and_other_folders_are_refused(run, tmp_path):
    program = f"""
import sys, tlkit
run = tlkit.load({str(run.path)!r})
repr(run), run._repr_html_(), run["classes"]
found = [name for name in ("keras", "tensorflow", "pandas", "matplotlib") if name in sys.modules]
assert not found, found
run.metrics, run.figure()
assert "keras" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    with pytest.raises(TlkitError, match="not a run folder"):
        tlkit.load(tmp_path)


def test_names_that_a_spreadsheet_would_run_are_in_the_table_what_they_are(tmp_path):
    with (tmp_path / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = CellWriter(file)
        writer.writerows([["path", "label", "predicted"], ["=1.png", "-a", "@b"]])
    table = Evaluated({"out": str(tmp_path)}).predictions
    assert table.loc[0].tolist() == ["=1.png", "-a", "@b"]
