"""Numbers in a table of images: columns to predict, and labels that may be numbers to predict."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tlkit.base.errors import TlkitError, nearest
from tlkit.tasks.labels import SEPARATOR
from tlkit.tasks.number import finite

TARGET = "target"  # the default column
MANY = 20  # number of distinct numeric labels from which the user must say whether they are classes
_NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)


def take_numbers(file: Path, columns: dict[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """Remove the columns of numbers from `columns`; return each row's numbers in the form that `Number.read` reads.

    Args:
        file: the table, for messages.
        columns: its columns by name.
        names: names of the columns with numbers.

    Raises:
        TlkitError: for a missing column, or a value that is not a finite number.
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
    told = (
        f"its columns of numbers are {', '.join(map(repr, numeric))}"
        if numeric
        else "none of its columns holds numbers alone"
    )
    named = f"did you mean --target {guess}?" if guess else "name the columns with --target: --target age,weight."
    return TlkitError(
        f"{str(file)!r} has no column {name!r} to predict; {told}.",
        f"{named} For an existing classifier name the column {name!r}.",
    )


def predicted_with(columns: Mapping[str, Sequence[str]]) -> str:
    """The hint on predicting a numeric column `target`, if there is one instead of labels; else ""."""
    texts = columns.get(TARGET, ())
    return (
        "--task number predicts the numbers in its column 'target'. " if texts and all(map(_is_number, texts)) else ""
    )


def refuse_many(file: Path, labels: Sequence[str]) -> None:
    """Raise if labels are so many distinct numbers that they may be quantities.

    Raises:
        TlkitError: with the options for either meaning.
    """
    different = set(labels) - {""}
    if len(different) < MANY or not all(map(_is_number, different)):
        return
    ends = sorted(float(text.replace(",", ".")) for text in different)
    raise TlkitError(
        f"the labels of {str(file)!r} are {len(different)} different numbers, {ends[0]:g} to {ends[-1]:g}: quantities "
        "to predict, or names of classes?",
        f"say which: --task number --target label predicts the numbers, --task single tells {len(different)} classes "
        "apart.",
    )


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text.replace(",", ".")))
