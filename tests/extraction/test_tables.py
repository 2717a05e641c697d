import csv
from pathlib import Path

import numpy as np
import pytest

from tests import traced
from tlkit.base.errors import TlkitError
from tlkit.base.files import Texts
from tlkit.data.dataset import Dataset, Splits
from tlkit.extraction import tables
from tlkit.extraction.tables import column_names, table_format, write_table

PATHS = ["a/é 1.png", 'a/"quoted", with comma.png', "b/\udcff.png"]


@pytest.fixture
def dataset():
    return Dataset(
        root=Path("/nowhere"),
        classes=("a", "b"),
        paths=PATHS,
        labels=np.array([0, 0, 1], np.int32),
        sha256=np.zeros((3, 32), np.uint8),
        sizes=np.zeros(3, np.int64),
        given=np.full(3, -1, np.int8),
    )


VALUES = np.array([[0.1, -2.5e-8, 3e38], [1 / 3, 0, -1], [7, 8, 9]], np.float32)
SPLITS = Splits(np.array([0, 1, -1], np.int8), "")


@pytest.fixture(params=["csv", "parquet", "npz"])
def table(request, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK_BYTES", 1)  # one row a chunk
    monkeypatch.setattr(tables, "GROUP_BYTES", 1)
    out = tmp_path / f"table.{request.param}"
    write_table(out, dataset, SPLITS, lambda rows: VALUES[rows], 3)
    return out


def read(path):
    """path, label, split and float32 values, from any format."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["path", "label", "split", "f0000", "f0001", "f0002"]
        return [row[:3] for row in rows], np.array([row[3:] for row in rows], np.float32)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        columns = pyarrow.parquet.read_table(path).to_pydict()
        names = [[columns[name][i] for name in ("path", "label", "split")] for i in range(3)]
        return names, np.array([columns[f"f000{i}"] for i in range(3)], np.float32).T
    content = np.load(path, allow_pickle=False)
    return [[str(content[name][i]) for name in ("path", "label", "split")] for i in range(3)], content["features"]


def test_rows_keep_order_names_and_every_bit_of_the_values(table):
    names, values = read(table)
    assert names == [[PATHS[0], "a", "train"], [PATHS[1], "a", "val"], ["b/\\xff.png", "b", ""]]
    np.testing.assert_array_equal(values, VALUES)


def test_columns_sort_as_they_count():
    assert column_names(3) == ["f0000", "f0001", "f0002"]
    names = column_names(12_000)
    assert names == sorted(names) and names[-1] == "f11999"


@pytest.mark.parametrize("name", ["features", "features.xlsx", "features.csv.gz"])
def test_an_unknown_suffix_is_refused(name):
    with pytest.raises(TlkitError, match="not a table format"):
        table_format(Path(name))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch, suffix):
    """Three strings per row would be 200 bytes."""
    monkeypatch.setattr(tables, "CHUNK_BYTES", 2**12)
    monkeypatch.setattr(tables, "GROUP_BYTES", 2**12)

    def write(count):
        unknown = np.zeros((count, 32), np.uint8), np.zeros(count, np.int64)
        dataset = Dataset.of_files(Path(), Texts.of(f"images/{row:07d}.jpg" for row in range(count)), *unknown)
        splits = Splits(np.zeros(count, np.int8), "")
        write_table(tmp_path / f"t.{suffix}", dataset, splits, lambda rows: np.zeros((len(rows), 2), np.float32), 2)

    assert traced.each(write, 1000, 5000) < 150
