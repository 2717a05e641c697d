"""Numbers in a table of images: columns to predict, and labels that may be meant as such."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tlkit.base.errors import TlkitError, nearest
from tlkit.tasks.labels import SEPARATOR
from tlkit.tasks.number import finite

TARGET = "target"  # the column, unless others are named
MANY = 20  # different numbers among labels from which on it is asked whether they are classes
_NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)


def take_numbers(file: Path, columns: dict[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """The numbers of every row as `Number.read` reads them; their columns leave the others.

    Args:
        file: the table, for messages.
        columns: of it, by name.
        names: of those that hold numbers.

    Raises:
        TlkitError: there is no such column, or one holds something else than a finite number.
    """
    taken = []
    for name in names:
        if name not in columns:
            raise _no_column(file, name, columns)
        place = f"row {{}} of {str(file)!r}, column {name!r},"
        taken.append([finite(text, place.format(row)) for row, text in enumerate(columns[name], start=2)])
    for name in names:
        del columns[name]
    return [SEPARATOR.join(map(repr, row)) for row in zip(*taken, strict=True)]


def _no_column(file: Path, name: str, columns: Mapping[str, Sequence[str]]) -> TlkitError:
    numeric = [one for one, texts in columns.items() if texts and all(map(_is_number, texts))]
    guess = nearest(name, columns) or (numeric[0] if len(numeric) == 1 else None)
    told = f"of numbers are {', '.join(map(repr, numeric))}" if numeric else "none of its columns holds numbers alone"
    named = f"did you mean --target {guess}?" if guess else "name the columns with --target: --target age,weight."
    return TlkitError(
        f"{str(file)!r} has no column {name!r} to predict; {told}.",
        f"{named} For a classifier that is trained already call the column {name!r}.",
    )


def predicted_with(columns: Mapping[str, Sequence[str]]) -> str:
    """How a column `target` of numbers is predicted, where there is one in the place of labels; "" where there is none."""
    texts = columns.get(TARGET, ())
    return (
        "--task number predicts the numbers in its column 'target'. " if texts and all(map(_is_number, texts)) else ""
    )


def refuse_many(file: Path, labels: Sequence[str]) -> None:
    """Ask what is meant where labels are so many different numbers that they may be quantities.

    Raises:
        TlkitError: with what to say for either.
    """
    different = set(labels) - {""}
    if len(different) < MANY or not all(map(_is_number, different)):
        return
    ends = sorted(float(text.replace(",", ".")) for text in different)
    raise TlkitError(
        f"the labels of {str(file)!r} are {len(different)} different numbers, {ends[0]:g} to {ends[-1]:g}: quantities to "
        "predict, or names of classes?",
        f"say which: --task number --target label predicts the numbers, --task single tells {len(different)} classes apart.",
    )


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text.replace(",", ".")))
