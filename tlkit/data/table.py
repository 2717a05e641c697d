"""Images listed in a CSV or Parquet file: path,label[,split][,group][,more columns]."""

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from tlkit.base import cells
from tlkit.base.errors import TlkitError, nearest
from tlkit.data.dataset import SPLITS, UNASSIGNED
from tlkit.data.folders import SPLIT_FOLDERS
from tlkit.tasks import labels as several

SUFFIXES = (".csv", ".tsv", ".parquet")
# Written by Manifest.write_csv; scanning finds them anew.
_RECOMPUTED = ("bytes", "sha256")


@dataclass(frozen=True)
class Listing:
    """The rows of a manifest file.

    Args:
        paths: relative to the file's folder, POSIX, or absolute.
        labels: class names as they are written, several of an image joined by `|`; None without such a column.
        given: int8 (N,), index into `SPLITS`, -1 where the row names none.
        columns: every other column, `group` among them.
    """

    paths: list[str]
    labels: list[str] | None
    given: np.ndarray
    columns: dict[str, list[str]]


def read_listing(file: Path, *, labelled: bool) -> Listing:
    """Read a manifest file; the first row of a CSV names the columns.

    Raises:
        TlkitError: a column is missing, a path empty or listed twice, a label empty, a split unknown.
    """
    columns = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_csv(file)
    for name in ("path", "label") if labelled else ("path",):
        if name not in columns:
            guess = nearest(name, columns)
            raise TlkitError(
                f"{str(file)!r} has no column {name!r}; it has {', '.join(map(repr, columns)) or 'none'}.",
                (f"did you mean {guess!r}? " if guess else "")
                + "name the columns in the first line: path,label[,split][,group], separated by commas.",
            )
    paths = _paths(file, columns.pop("path"))
    labels = columns.pop("label", None)
    if labelled and labels is not None and "" in labels:
        remedy = "fill it in, or remove the row"
        if several.are_several(labels):
            remedy += f"; write {several.SEPARATOR} for an image of none of the classes"
        raise TlkitError(f"row {labels.index('') + 2} of {str(file)!r} has no label.", f"{remedy}.")
    given = _given(file, columns.pop("split", None), len(paths))
    for name in _RECOMPUTED:
        columns.pop(name, None)
    return Listing(paths, labels, given, columns)


def labels_of(file: Path, labels: list[str], row: int) -> tuple[str, ...]:
    """The classes of a row: none where it has no label, several where they are joined by `|`.

    Raises:
        TlkitError: labels that cannot be read.
    """
    text = labels[row]
    if several.SEPARATOR in text:
        return several.read_labels(text, f"row {row + 2} of {str(file)!r}")
    return (text,) if text else ()


def _read_csv(file: Path) -> dict[str, list[str]]:
    """Columns of a CSV (or TSV) in UTF-8, with or without a byte order mark; bytes of odd names survive."""
    # utf-8-sig and surrogateescape: names of files are bytes, and Excel begins files with a mark.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        names = [name.strip() for name in next(reader, [])]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise TlkitError(f"{str(file)!r} has two columns {twice!r}.", "rename or remove one of them.")
        columns: list[list[str]] = [[] for _ in names]
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise TlkitError(
                    f"line {reader.line_num} of {str(file)!r} has {len(row)} values for {len(names)} columns.",
                    "put values that contain a comma between double quotes.",
                )
            for column, value in zip(columns, row, strict=True):
                column.append(cells.read(value))
    return dict(zip(names, columns, strict=True))


def _read_parquet(file: Path) -> dict[str, list[str]]:
    """Columns of a Parquet file as text; a missing value is ""."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise TlkitError(f"{str(file)!r} is not a readable Parquet file: {error}.", "write it again.") from error
    return {
        name: ["" if value is None else str(value) for value in table.column(name).to_pylist()]
        for name in table.column_names
    }


def _paths(file: Path, values: list[str]) -> list[str]:
    """Paths in one spelling: POSIX, without `./`; below the file's folder they are relative."""
    folder = file.parent.as_posix().rstrip("/") + "/"
    paths = [str(PurePosixPath(value.replace("\\", "/") if os.sep == "\\" else value)) for value in values]
    paths = [path.removeprefix(folder) for path in paths]
    if "." in paths:  # PurePosixPath("")
        raise TlkitError(f"row {paths.index('.') + 2} of {str(file)!r} has no path.", "fill it in, or remove the row.")
    if len(set(paths)) < len(paths):
        path, count = Counter(paths).most_common(1)[0]
        raise TlkitError(f"{str(file)!r} lists {path!r} {count} times.", "keep one row for each image.")
    return paths


def _given(file: Path, values: list[str] | None, rows: int) -> np.ndarray:
    """int8 (rows,) codes of the split column; empty values are -1."""
    if values is None:
        return np.full(rows, UNASSIGNED, dtype=np.int8)
    codes = {name: SPLITS.index(split) for name, split in SPLIT_FOLDERS.items()} | {"": UNASSIGNED}
    for row, value in enumerate(values):
        if value.strip().lower() not in codes:
            raise TlkitError(
                f"row {row + 2} of {str(file)!r} has split {value!r}.", "write train, val or test, or leave it empty."
            )
    return np.array([codes[value.strip().lower()] for value in values], dtype=np.int8)
