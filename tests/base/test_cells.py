import csv
import io
import json
import random

import numpy as np
import pytest
from PIL import Image

import tlkit
from tlkit.base.files import CellWriter, read_cell, written_cell
from tlkit.base.story import Silence
from tlkit.data.dataset import Dataset
from tlkit.data.scan import scan

NAMES = [
    "=1+1",
    "+49",
    "-1",
    "-x",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "'=1",
    "'",
    "''-a",
    "plain",
    "",
    "'quoted'",
    "-1e5",
    "-inf",
]
STARTS = "=+-@\t\r"


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_a_formula_and_every_one_reads_back(name):
    written = written_cell(name)
    assert read_cell(written) == name
    assert written[:1] not in tuple(STARTS) or name in ("+49", "-1", "-1e5")  # numbers


def test_any_text_reads_back():
    rng = random.Random(0)
    for _ in range(5000):
        name = "".join(rng.choice("'=+-@\t\r1e.a") for _ in range(rng.randrange(6)))
        assert read_cell(written_cell(name)) == name


def test_numbers_are_written_as_numbers():
    file = io.StringIO()
    CellWriter(file).writerow([-1.5, "-0.25", "=a", None, 3])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == ["-1.5", "-0.25", "'=a", "", "3"]


def test_classes_and_files_called_like_formulas_survive_every_table(tmp_path, tiny_backbone, empty_cache):
    rng = np.random.default_rng(0)
    for name in ("=cmd", "-b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"@{number}.png")
    dataset = scan(tmp_path / "images")
    dataset.write_csv(tmp_path / "manifest.csv")
    assert not [line for line in (tmp_path / "manifest.csv").read_text().splitlines() if line[0] in STARTS]
    again = Dataset.read_csv(tmp_path / "manifest.csv", dataset.root, dataset.classes)
    assert again.paths == dataset.paths and (again.labels == dataset.labels).all()
    out = tmp_path / "table.csv"
    tlkit.features(tmp_path / "images", backbone=tiny_backbone, out=out, story=Silence())
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"'=cmd", "'-b"}
    assert [read_cell(row["path"]) for row in rows] == dataset.paths
    assert json.loads((tmp_path / "table.csv.json").read_text())
    tlkit.split(tmp_path / "images", out=tmp_path / "split.csv", story=Silence())
    assert scan(tmp_path / "split.csv").classes == ("-b", "=cmd")
