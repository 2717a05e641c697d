"""Read images listed in a CSV or Parquet file: path,label[,split][,group][,more columns]."""

import codecs
import csv
import io
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from tlkit.base.errors import TlkitError, nearest
from tlkit.base.files import GrowingTexts, Texts, read_cell, restored, taken
from tlkit.data.dataset import SPLITS, UNASSIGNED, Problem
from tlkit.data.folders import split_of
from tlkit.data.numbers import TARGET, predicted_with, refuse_many, take_numbers
from tlkit.tasks import labels as several
from tlkit.tasks.number import NUMBER
from tlkit.tasks.task import Task

SUFFIXES = (".csv", ".tsv", ".parquet")
CLIP = "clip"  # the column with the clip of each frame
# Written by Dataset.write_csv; scanning recomputes them.
_RECOMPUTED = ("bytes", "sha256")
_RESERVED = ("path", "label", "split", "group", *_RECOMPUTED)
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# Names of the two columns in other programs, for the hint.
_ALIASES = {
    "path": ("filename", "file", "filepath", "image", "img", "imagepath", "image_path", "file_name", "image_id", "id"),
    "label": ("class", "labels", "category", "target", "classname", "class_name", "species", "y", "diagnosis"),
}


@dataclass(frozen=True)
class Listing:
    """The rows of a manifest file.

    Args:
        paths: relative to the file's folder, POSIX, or absolute.
        labels: class names as given by `labels.class_name`, several of an image joined by `|`, or numbers likewise;
            None without such a column.
        given: int8 (N,), index into `SPLITS`, -1 if the row names none.
        columns: every other column, `group` among them.
        notes: how it was read if that is not obvious, a sentence each.
        problems: clips that cannot be read.
    """

    paths: Sequence[str]
    labels: Sequence[str] | None
    given: np.ndarray
    columns: dict[str, Sequence[str]]
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def select(self, rows: Sequence[int]) -> "Listing":
        """Some of the rows, in that order."""
        return Listing(
            paths=taken(self.paths, rows),
            labels=None if self.labels is None else taken(self.labels, rows),
            given=self.given[list(rows)],
            columns={name: taken(column, rows) for name, column in self.columns.items()},
            notes=self.notes,
            problems=self.problems,
        )


def read_listing(file: Path, *, labelled: bool | Task | None, classes: Sequence[str] | None = None) -> Listing:
    """Read a manifest file; the first row of a CSV names the columns.

    In a table without a column `label`, columns of 0 and 1 are read as labels.

    Args:
        file: the table.
        labelled: whether labels are required (True, or their task), optional (None), or ignored (False).
        classes: class names listed by the user; others may not differ only by case. For numbers, their columns.

    Raises:
        TlkitError: for a missing column, an empty or repeated path, an empty or ambiguous label, an unknown split, or a
            table that cannot be read, see `read_table`.
    """
    columns, notes = read_table(file, _RESERVED)
    if "path" not in columns:
        raise _no_column(file, "path", columns)
    paths = _paths(file, columns.pop("path"), notes)
    if labelled is NUMBER:
        numbers = take_numbers(file, columns, classes or (TARGET,))
        for name in ("label", *_RECOMPUTED):  # where a table that tlkit writes has the numbers, size and hash
            columns.pop(name, None)
        return Listing(paths, numbers, _given(file, columns.pop("split", None), len(paths)), columns, tuple(notes))
    labels: Sequence[str] | None = columns.pop("label", None)
    if labels is None and labelled is not False:
        labels = _from_indicators(columns, notes, several_too=bool(labelled))
    if labelled and labels is None:
        raise _no_column(file, "label", {"path": [], **columns})
    if labels is not None and labelled is not False:
        labels = _labels(file, labels, notes, classes, required=bool(labelled))
        if not classes and not isinstance(labelled, Task):
            refuse_many(file, labels)
    given = _given(file, columns.pop("split", None), len(paths))
    for name in _RECOMPUTED:
        columns.pop(name, None)
    return Listing(paths, labels, given, columns, tuple(notes))


def labels_of(file: Path, labels: Sequence[str], row: int) -> tuple[str, ...]:
    """The classes of a row: none without a label, several if joined by `|`.

    Raises:
        TlkitError: for labels that cannot be read.
    """
    text = labels[row]
    if several.SEPARATOR in text:
        return several.read_labels(text, f"row {row + 2} of {str(file)!r}")
    return (text,) if text else ()


def read_table(file: Path, known: Sequence[str], *, short: bool = False) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Columns of a CSV, TSV or Parquet file as text, and notes on how it was read.

    Args:
        file: the table. A CSV is in UTF-8 or UTF-16, separated by commas or whatever separates its first line.
        known: names of columns that are matched in any case; others are kept as they are.
        short: whether a row may end early, its last values empty.

    Raises:
        TlkitError: for another encoding, rows whose length differs from the first line, a repeated column, or an
            invalid Parquet file.
    """
    notes: list[str] = []
    columns = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_csv(file, known, notes, short)
    return _known_names(file, columns, known), notes


def _no_column(file: Path, name: str, columns: Mapping[str, Sequence[str]]) -> TlkitError:
    plain = {re.sub(r"[^a-z_]", "", column.lower()): column for column in columns}
    guess = next((plain[alias] for alias in _ALIASES[name] if alias in plain), None) or nearest(name, columns)
    numbers = predicted_with(columns) if name == "label" else ""
    hint = f"{numbers}For classes " if numbers else f"did you mean {guess!r}? Call it {name}: " if guess else ""
    first = next(iter(columns), "")
    if guess is None and (file.parent / first).is_file():
        hint = (
            f"the first line is already an image; put one above it: sed -i '1i path,label' {shlex.quote(file.name)}; "
        )
    return TlkitError(
        f"{str(file)!r} has no column {name!r}; it has {', '.join(map(repr, columns)) or 'none'}.",
        f"{hint}name the columns in the first line: path,label[,split][,group], separated by commas.",
    )


# -- the file ----------------------------------------------------------------------------------

_MARKS = (  # longer ones first: UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def _read_csv(file: Path, known: Sequence[str], notes: list[str], short: bool) -> dict[str, Sequence[str]]:
    """Columns of a CSV or TSV; undecodable bytes in file names are kept."""
    text = _text(file, notes)
    separator, text = _separator(file, text, known, notes)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = [name.strip() for name in next(reader, [])]
        growing = [GrowingTexts() for _ in names]
        for row in reader:
            if not any(value.strip() for value in row):
                continue  # an empty line, or Excel's form of one: ;;;
            if short and len(row) < len(names):
                row += [""] * (len(names) - len(row))
            if not any(row[len(names) :]):  # extra separators written by a spreadsheet
                row = row[: len(names)]
            if len(row) != len(names):
                raise TlkitError(
                    f"line {reader.line_num} of {str(file)!r} has {len(row)} values for {len(names)} columns.",
                    "put values that contain a comma between double quotes."
                    if separator == ","
                    else f"columns are separated by {_SEPARATORS.get(separator, repr(separator))} here, as in the first line.",
                )
            for column, value in zip(growing, row, strict=True):
                column.append(read_cell(value))
    except csv.Error as error:
        raise TlkitError(
            f"line {reader.line_num} of {str(file)!r} cannot be read: {error}.", "write it again."
        ) from error
    columns = [column.done() for column in growing]
    kept = [at for at, name in enumerate(names) if name or any(columns[at])]
    found = [(names[at], columns[at]) for at in kept]
    _refuse_other_encodings(file, found)
    twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1]
    if twice:
        raise TlkitError(f"{str(file)!r} has two columns {twice[0]!r}.", "rename or remove one of them.")
    return dict(found)


def _text(file: Path, notes: list[str]) -> str:
    """The text of a file by its byte order mark; without one, UTF-16 if every other byte is zero, else UTF-8."""
    content = file.read_bytes()
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", ""))
    if not encoding:
        start = np.frombuffer(content[: 2 * (min(len(content), 4096) // 2)], np.uint8).reshape(-1, 2)
        zeros = (start == 0).mean(axis=0) if len(start) else np.zeros(2)
        encoding = "utf-16-le" if zeros[1] > 0.5 > zeros[0] else "utf-16-be" if zeros[0] > 0.5 > zeros[1] else "utf-8"
    try:  # surrogateescape: file names are bytes
        text = content[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise TlkitError(
            f"{str(file)!r} is not {encoding.upper()} throughout: {error.reason} at byte {error.start + len(mark)}.",
            "save it again as CSV UTF-8.",
        ) from None
    if encoding != "utf-8":
        notes.append(f"{file.name} is in {encoding.upper()}.")
    return text


def _separator(file: Path, text: str, known: Sequence[str], notes: list[str]) -> tuple[str, str]:
    """The separator of the columns, from the first line; and the text without Excel's `sep=;`."""
    first, *rest = re.split(r"\r\n|\r|\n", text, maxsplit=1)
    stated = re.fullmatch(r'"?sep=(.)"?', first, re.IGNORECASE)
    if stated:
        notes.append(f"{file.name} has {stated[1]!r} between its columns, as its first line says.")
        return stated[1], "".join(rest)
    usual = "\t" if file.suffix.lower() == ".tsv" else ","

    def columns_known(separator: str) -> int:
        header = next(csv.reader([first], delimiter=separator), [])
        return sum(name.strip().lower() in known for name in header)

    separator = max((usual, *_SEPARATORS), key=columns_known)
    if columns_known(separator) <= columns_known(usual):
        return usual, text
    notes.append(f"{file.name} has {_SEPARATORS[separator]} between its columns.")
    return separator, text


def _refuse_other_encodings(file: Path, columns: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Raise for bytes that are not UTF-8, except in names of existing files."""
    for name, values in columns:
        is_path = name.lower() == "path"
        for row, value in enumerate(chain([name], values), start=1):
            if not value.isascii() and any("\udc80" <= letter <= "\udcff" for letter in value):
                if is_path and row > 1 and os.path.lexists(file.parent / value):
                    continue
                content = value.encode("utf-8", "surrogateescape")
                byte = next(ord(letter) - 0xDC00 for letter in value if "\udc80" <= letter <= "\udcff")
                right = shlex.quote(f"{file.stem}-utf8{file.suffix}")
                raise TlkitError(
                    f"row {row} of {str(file)!r} is not UTF-8: column {name.encode('utf-8', 'replace').decode()!r} "
                    f"holds byte 0x{byte:02X}; in Windows-1252 it is {content.decode('cp1252', 'replace')!r}.",
                    "save it as CSV UTF-8; if Windows-1252 reads right: "
                    f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(str(file))} > {right}",
                )


def _read_parquet(file: Path) -> dict[str, Sequence[str]]:
    """Columns of a Parquet file as text; a missing value is "", a whole number has no decimals."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise TlkitError(f"{str(file)!r} is not a readable Parquet file: {error}.", "write it again.") from error
    return {str(name): Texts.of(_as_text(table.column(name).to_pylist())) for name in table.column_names}


def _as_text(values: Sequence[object]) -> Iterator[str]:
    """Values as text, with whole floats as integers: pandas turns integers into floats if one is missing."""
    whole = all(value.is_integer() for value in values if isinstance(value, float) and value == value)
    for value in values:
        missing = value is None or value != value
        yield "" if missing else str(int(value)) if whole and isinstance(value, float) else _cell(value)


def _cell(value: object) -> str:
    """A value as it stands in a CSV: bytes are UTF-8, and a list of names is several labels."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list) and all(isinstance(part, str | bytes | int) for part in value):
        return several.written(map(_cell, value))
    return str(value)


def _known_names(file: Path, columns: dict[str, Sequence[str]], known: Sequence[str]) -> dict[str, Sequence[str]]:
    """The columns, with known names in lower case."""
    named: dict[str, Sequence[str]] = {}
    for name, column in columns.items():
        plain = name.strip().lower() if name.strip().lower() in known else name
        if plain in named:
            raise TlkitError(f"{str(file)!r} has two columns {plain!r}.", "rename or remove one of them.")
        named[plain] = column
    return named


# -- its columns -------------------------------------------------------------------------------


def _paths(file: Path, values: Sequence[str], notes: list[str]) -> Texts:
    """Normalised paths: POSIX, without `./`, relative if below the file's folder."""
    folder = file.parent.as_posix().rstrip("/") + "/"
    values = _as_they_are_on_disk(file, values, notes)
    paths = Texts.of(str(PurePosixPath(value)).removeprefix(folder) for value in values)
    if "." in paths:  # PurePosixPath("")
        raise TlkitError(f"row {paths.index('.') + 2} of {str(file)!r} has no path.", "fill it in, or remove the row.")
    hashes = np.fromiter(map(hash, paths), np.int64, len(paths))  # a set of a million paths would take over 100 MB
    if len(np.unique(hashes)) < len(paths):
        path, count = Counter(paths).most_common(1)[0]
        if count > 1:  # otherwise two paths have the same hash
            raise TlkitError(f"{str(file)!r} lists {path!r} {count} times.", "keep one row for each image.")
    return paths


# Other spellings of a path, tried in turn if the file does not exist; the last includes all before it.
_SPELLINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("as names that are no UTF-8", restored),
    ("without the spaces around them", str.strip),
    ("with / for \\", lambda path: path.strip().replace("\\", "/")),
    ("in composed Unicode (NFC)", lambda path: several.normal(path.strip().replace("\\", "/"), "NFC")),
    ("in decomposed Unicode (NFD)", lambda path: several.normal(path.strip().replace("\\", "/"), "NFD")),
)


def _as_they_are_on_disk(file: Path, values: Sequence[str], notes: list[str]) -> Texts:
    """The paths as on disk: if a file exists only in another spelling, that spelling."""
    changed: Counter[str] = Counter()
    found = GrowingTexts()
    for row, value in enumerate(values):
        suspicious = value != value.strip() or "\\" in value or not value.isascii()
        if suspicious and not os.path.lexists(file.parent / value):
            if PureWindowsPath(value.strip()).drive and os.sep == "/":
                raise TlkitError(
                    f"row {row + 2} of {str(file)!r} has a path of another machine, {value.strip()!r}.",
                    f"write paths relative to the folder of the table, {str(file.parent)!r}.",
                )
            for how, other in _SPELLINGS:
                if os.path.lexists(file.parent / other(value)) and other(value):
                    changed[how] += 1
                    value = other(value)
                    break
        found.append(value)
    notes += [f"{count:,} paths of {file.name} were read {how}." for how, count in changed.items()]
    return found.done()


def elsewhere(file: Path, paths: Sequence[str]) -> str:
    """The hint for a table none of whose images exist: where the first was found, else where they were expected."""
    folder = file.parent
    places = [Path.cwd(), folder.parent, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())]
    tails = [PurePosixPath(paths[0]), PurePosixPath(PurePosixPath(paths[0]).name)]
    for tail in tails:
        for place in places:
            if not tail.is_absolute() and (place / tail).is_file():
                right = os.path.relpath(place / tail, folder)
                return f"did you mean {right!r}? Paths are relative to the folder of the table, {str(folder)!r}."
    return f"paths are relative to the folder of the table, {str(folder)!r}."


def _from_indicators(columns: dict[str, Sequence[str]], notes: list[str], *, several_too: bool) -> list[str] | None:
    """Labels from columns of 0 and 1, one per class, which are removed from `columns`; None if there are none."""
    one, zero = ("1", "1.0", "true"), ("0", "0.0", "false")
    others = [name for name in columns if name not in _RESERVED]
    names = [name for name in others if {value.strip().lower() for value in columns[name]} <= {*one, *zero}]
    if len(names) < 2:
        return None
    has = np.array([[value.strip().lower() in one for value in columns[name]] for name in names])
    single = bool((has.sum(axis=0) == 1).all())
    if not single and not (several_too and len(names) == len(others)):
        return None
    for name in names:
        del columns[name]
    kind = "one class an image" if single else "any number of labels an image"
    notes.append(
        f"Labels are read from {len(names)} columns of 0 and 1 "
        f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}): {kind}."
    )
    rows = [[name for name, held in zip(names, row, strict=True) if held] for row in has.T.tolist()]
    return [row[0] if single else several.written(row) for row in rows]


def _labels(
    file: Path, values: Sequence[str], notes: list[str], classes: Sequence[str] | None, *, required: bool
) -> list[str]:
    """Normalised labels; ambiguous ones are refused, changes are noted."""
    place, asked = f"labels of {str(file)!r}", {several.class_name(name) for name in classes or ()}
    written = Counter(values)
    for text in written:
        if several.SEPARATOR in text:
            several.read_labels(text, f"row {values.index(text) + 2} of {str(file)!r}")
    parts = {
        part
        for text in written
        for part in (text.split(several.SEPARATOR) if several.SEPARATOR in text else [text])
        if part.strip()
    }
    names = several.class_names(sorted(parts), classes, place)
    numbers = _same_numbers(names, place, asked)
    notes += several.cleaned(names, "label")
    if numbers:
        notes.append(
            f"Whole-number labels were read without decimals, so that {next(iter(numbers))!r} joins the class of the "
            "others."
        )
    names = {text: numbers.get(name, name) for text, name in names.items()}
    _refuse_lists(file, values, names, asked)
    spelt = {
        text: several.SEPARATOR.join(names.get(part, "") for part in text.split(several.SEPARATOR)) for text in written
    }
    labels = [spelt[value] for value in values]
    if required and "" in labels:
        remedy = "fill it in, or remove the row"
        if several.are_several(labels):
            remedy += f"; write {several.SEPARATOR} for an image of none of the classes"
        raise TlkitError(f"row {labels.index('') + 2} of {str(file)!r} has no label.", f"{remedy}.")
    return labels


def _same_numbers(names: Mapping[str, str], place: str, asked: set[str]) -> dict[str, str]:
    """If all labels are whole numbers, map those with decimals (1.0, 1,0) to integers; refuse other spellings."""
    found = {name: re.fullmatch(r"([+-]?\d+)([.,]\d+)?", name) for name in names.values()}
    numbers = {name: float(name.replace(",", ".")) for name, match in found.items() if match}
    whole = {}
    if len(numbers) == len(found) and all(number.is_integer() for number in numbers.values()):
        whole = {name: match[1] for name, match in found.items() if match and match[2]}
    spelt: dict[float, set[str]] = {}
    for name, number in numbers.items():
        spelt.setdefault(number, set()).add(whole.get(name, name))
    twice = next((sorted(spellings) for spellings in spelt.values() if len(spellings) > 1), None)
    if twice and not asked.issuperset(twice):
        raise TlkitError(
            f"the {place} name classes that are the same number: {', '.join(map(repr, twice))}.",
            "write the number the same way; if they are separate classes, name all classes with --classes "
            f"{','.join(twice)},...",
        )
    return whole


def _refuse_lists(file: Path, values: Sequence[str], names: Mapping[str, str], asked: set[str]) -> None:
    """Refuse a label made of other labels (`cat,dog` beside `cat`): a list of labels is written with `|`."""
    known = set(names.values())
    for text, name in names.items():
        for mark in (",", ";", "/", "+"):
            parts = [part.strip() for part in name.split(mark)]
            if len(parts) > 1 and known & set(parts) and name not in asked:
                right = several.SEPARATOR.join(parts)
                raise TlkitError(
                    f"row {values.index(text) + 2 if text in values else 2} of {str(file)!r} has label {name!r}, and "
                    f"{next(part for part in parts if part in known)!r} is a label too.",
                    f"if it is several labels, write {right!r}; if it is a separate class, name all classes with "
                    "--classes (in Python classes=[...]).",
                )


def _given(file: Path, values: Sequence[str] | None, rows: int) -> np.ndarray:
    """int8 (rows,) codes of the split column; empty values are -1."""
    if values is None:
        return np.full(rows, UNASSIGNED, dtype=np.int8)
    codes = {}
    for value in dict.fromkeys(values):
        meant = split_of(value)
        if not value.strip():
            codes[value] = UNASSIGNED
        elif meant is not None and not meant[1] and meant[0] in SPLITS:
            codes[value] = SPLITS.index(meant[0])
        else:
            raise TlkitError(
                f"row {values.index(value) + 2} of {str(file)!r} has split {value!r}.",
                "write train, val or test, or leave it empty.",
            )
    return np.array([codes[value] for value in values], dtype=np.int8)
