"""Features written to a file: CSV, Parquet or NPZ, streamed in the order of the manifest."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing, written_cell
from tlkit.data.dataset import Dataset, Splits
from tlkit.options import catalog

if TYPE_CHECKING:
    import pyarrow

GROUP_BYTES = 16 * 2**20  # of features in a row group of Parquet
CHUNK_BYTES = 2 * 2**20  # of features in memory at a time, for formats in which the size of a part does not matter
CHUNK_ROWS = 2**16  # likewise of paths, which may be long: Arrow counts their bytes in 32 bits


def table_format(out: Path) -> str:
    """The format that a file name asks for.

    Raises:
        TlkitError: when its suffix is not supported.
    """
    name = out.suffix.lower().lstrip(".")
    if name not in catalog.FEATURE_FORMATS:
        raise TlkitError(
            f"--out {str(out)!r} ends in {out.suffix or 'no suffix'!r}, which is not a table format.",
            "end it in .csv, .parquet or .npz.",
        )
    return name


def column_names(width: int) -> list[str]:
    """`f0000` ... with enough digits, at least four, for them to sort."""
    digits = max(4, len(str(width - 1)))
    return [f"f{number:0{digits}d}" for number in range(width)]


class _Table(NamedTuple):
    """The table to write, see `write_table`."""

    dataset: Dataset
    splits: Splits
    read: Callable[[np.ndarray], np.ndarray]
    width: int
    most: int


def write_table(
    out: Path,
    dataset: Dataset,
    splits: Splits,
    read: Callable[[np.ndarray], np.ndarray],
    width: int,
    most: int | None = None,
) -> None:
    """Columns path, label, split, then one float32 for each feature; whole or not at all.

    Args:
        out: where; the suffix chooses the format.
        dataset: the rows, in order.
        splits: of the rows.
        read: indices (n,) -> float32 (n, width).
        width: number of features.
        most: bytes of features that are read at a time; by default `CHUNK_BYTES`.
    """
    writers = {"csv": _write_csv, "parquet": _write_parquet, "npz": _write_npz}
    with replacing(out) as temporary:
        writers[table_format(out)](temporary, _Table(dataset, splits, read, width, most or CHUNK_BYTES))


def _chunks(rows: np.ndarray, width: int, most: int) -> Iterator[np.ndarray]:
    count = max(1, min(CHUNK_ROWS, most // (4 * width)))
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def _batch(table: _Table, rows: np.ndarray, written: Callable[[str], str] = str) -> "pyarrow.RecordBatch":
    import pyarrow

    # Names that are not valid Unicode (a Linux file name may hold any bytes) are escaped as \xNN.
    text = {
        "path": [written(_readable(table.dataset.paths[i])) for i in rows.tolist()],
        "label": [written(_readable(table.dataset.label_name(i))) for i in rows.tolist()],
        "split": table.splits.select(rows).names(),
    }
    columns = [_strings(column) for column in text.values()] + _floats(table, rows)
    return pyarrow.RecordBatch.from_arrays(columns, [*text, *column_names(table.width)])


# Arrow arrays are made from buffers: `pyarrow.array` imports pandas first, which takes longer than writing the table.


def _strings(cells: list[str]) -> "pyarrow.Array":
    import pyarrow

    encoded = [cell.encode() for cell in cells]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(encoded))]
    return pyarrow.Array.from_buffers(pyarrow.string(), len(cells), buffers)


def _floats(table: _Table, rows: np.ndarray) -> "list[pyarrow.Array]":
    """Each column of the features of some rows."""
    import pyarrow

    columns = np.empty((table.width, len(rows)), np.float32)
    for part in _chunks(rows, table.width, table.most):
        columns[:, part - rows[0]] = table.read(part).T
    return [
        pyarrow.Array.from_buffers(pyarrow.float32(), len(rows), [None, pyarrow.py_buffer(column)])
        for column in columns
    ]


def _readable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _schema(width: int) -> "pyarrow.Schema":
    import pyarrow

    text = [(name, pyarrow.string()) for name in ("path", "label", "split")]
    return pyarrow.schema(text + [(name, pyarrow.float32()) for name in column_names(width)])


def _write_csv(path: Path, table: _Table) -> None:
    """Write floats with the fewest digits that restore the same float32."""
    import pyarrow.csv

    options, schema = pyarrow.csv.WriteOptions(quoting_style="needed"), _schema(table.width)
    with path.open("wb") as file, pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
        for rows in _chunks(np.arange(len(table.dataset)), table.width, table.most):
            writer.write(_batch(table, rows, written_cell))


def _write_parquet(path: Path, table: _Table) -> None:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(path, _schema(table.width)) as writer:
        for rows in _chunks(np.arange(len(table.dataset)), table.width, GROUP_BYTES):
            writer.write(_batch(table, rows))


def _write_npz(path: Path, table: _Table) -> None:
    """Write arrays `features` (N, width), `path`, `label`, `split`, `classes`; loads with allow_pickle=False."""
    import zipfile

    from numpy.lib import format as npy

    dataset = table.dataset
    text: dict[str, Callable[[], Iterator[str]]] = {
        "path": lambda: map(_readable, dataset.paths),
        "label": lambda: (_readable(dataset.label_name(i)) for i in range(len(dataset))),
        "split": lambda: iter(table.splits.names()),
        "classes": lambda: map(_readable, dataset.classes),
    }
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(dataset), table.width)}
            npy.write_array_header_1_0(member, header)
            for rows in _chunks(np.arange(len(dataset)), table.width, table.most):
                member.write(np.ascontiguousarray(table.read(rows), "<f4").tobytes())
        for name, column in text.items():
            with archive.open(f"{name}.npy", "w") as member:
                _write_texts(member, column)


def _write_texts(member: IO[bytes], column: Callable[[], Iterator[str]]) -> None:
    """Write a NumPy array of strings, each as wide as the longest, in parts; the column is iterated twice."""
    from numpy.lib import format as npy

    count, widest = 0, 1
    for text in column():
        count, widest = count + 1, max(widest, len(text))
    kind, texts = np.dtype(f"<U{widest}"), column()
    npy.write_array_header_1_0(member, {"descr": kind.str, "fortran_order": False, "shape": (count,)})
    while some := list(islice(texts, max(1, CHUNK_BYTES // kind.itemsize))):
        member.write(np.array(some, kind).tobytes())
