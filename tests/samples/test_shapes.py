"""The drawn set: every fault is where truth.csv says, and nowhere else."""

import csv
import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from tests.misbehaving import tree
from tlkit.base.errors import TlkitError
from tlkit.options.obtain import SampleConfig
from tlkit.pipelines import sample
from tlkit.samples.drawn import draw

FAULTS = {"corrupt": 0.05, "duplicate": 0.05, "near_duplicate": 0.04, "mislabelled": 0.03, "rotated": 0.07}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "shapes"
    sample.run(SampleConfig(name="shapes", out=str(out), count=200, seed=3, **FAULTS))
    return out


def rows(folder: Path, fault: str | None = None) -> list[dict[str, str]]:
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if fault is None or row["fault"] == fault]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))), dtype=np.float64)


def upright(row: dict[str, str]) -> np.ndarray:
    return np.asarray(draw(row["truth"], 3, int(Path(row["path"]).stem)), dtype=np.float64)


def test_every_file_is_listed_and_every_fault_counted(made):
    listed = rows(made)
    assert sorted(row["path"] for row in listed) == [path for path in tree(made) if path.endswith(".jpg")]
    counts = Counter(row["fault"] for row in listed)
    assert counts == {"": 152} | {fault: round(part * 200) for fault, part in FAULTS.items()}


def test_the_same_options_give_the_same_bytes(made, tmp_path):
    sample.run(SampleConfig(name="shapes", out=str(tmp_path / "again"), count=200, seed=3, **FAULTS))
    for path in tree(made):
        if path != "sample.json":
            assert (made / path).read_bytes() == (tmp_path / "again" / path).read_bytes(), path


def test_clean_files_are_readable_distinct_and_where_they_belong(made):
    clean = rows(made, "")
    assert all(row["label"] == row["truth"] and row["path"].startswith(f"{row['label']}/") for row in clean)
    contents = [(made / row["path"]).read_bytes() for row in clean]
    assert len({hashlib.sha256(content).digest() for content in contents}) == len(clean)
    for row, content in zip(clean, contents, strict=True):
        assert np.abs(pixels(content) - upright(row)).mean() < 6  # JPEG and nothing else


def test_corrupt_files_cannot_be_decoded(made):
    assert {row["detail"] for row in rows(made, "corrupt")} == {"empty", "cut short", "text"}
    for row in rows(made, "corrupt"):
        with pytest.raises((UnidentifiedImageError, OSError)):
            pixels((made / row["path"]).read_bytes())


def test_duplicates_are_duplicates_of_what_is_named(made):
    for row in rows(made, "duplicate"):
        assert (made / row["path"]).read_bytes() == (made / row["detail"]).read_bytes()


def test_near_duplicates_look_alike_but_differ(made):
    for row in rows(made, "near_duplicate"):
        copy, source = (made / row["path"]).read_bytes(), (made / row["detail"]).read_bytes()
        assert copy != source
        assert np.corrcoef(pixels(copy).ravel(), pixels(source).ravel())[0, 1] > 0.75


def test_mislabelled_files_are_in_a_wrong_folder(made):
    for row in rows(made, "mislabelled"):
        assert row["label"] != row["truth"]
        assert np.abs(pixels((made / row["path"]).read_bytes()) - upright(row)).mean() < 6


def test_rotated_files_are_upright_once_the_tag_is_applied(made):
    turned = rows(made, "rotated")
    assert {row["detail"] for row in turned} == {str(tag) for tag in range(2, 9)}
    for row in turned:
        content = (made / row["path"]).read_bytes()
        assert np.abs(pixels(content) - upright(row)).mean() < 6
        ignored = np.asarray(Image.open(io.BytesIO(content)), dtype=np.float64)
        assert np.abs(ignored - upright(row)).mean() > 6


def test_imbalance_shrinks_each_class(tmp_path):
    sample.run(SampleConfig(name="shapes", out=str(tmp_path / "s"), count=150, imbalance=0.5))
    counts = Counter(row["truth"] for row in rows(tmp_path / "s"))
    assert list(counts.values()) == [80, 40, 20, 10]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "digits", "corrupt": 0.1}, "--corrupt has no effect on the sample 'digits'"),
        ({"name": "digits", "imbalance": 0.1}, "--imbalance has no effect"),
        ({"name": "hymenoptera", "count": 20}, "--count 20 has no effect"),
        ({"name": "shapes", "corrupt": 0.5, "duplicate": 0.45}, "the faults add up to 0.95"),
        ({"name": "shapes", "corrupt": -0.1}, "--corrupt is -0.1, expected between 0 and 0.5"),
        ({"name": "shapes", "count": 3}, "--count is 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(TlkitError, match=message):
        SampleConfig(out="x", **options)
