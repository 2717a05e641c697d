"""Cells of CSV tables that no spreadsheet runs as a formula, and that read back as what they were.

A spreadsheet takes text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula; a file or class may
be called like that (CWE-1236, "Improper Neutralization of Formula Elements in a CSV File"). The rule: text that begins
with any number of apostrophes and then one of these is written with one more apostrophe before it, and read without. Numbers
are written as they are.
"""

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_WRITTEN = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def written(cell: str) -> str:
    """Text as it is written to a table."""
    if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


def read(cell: str) -> str:
    """Text as it was before `written`; text of other tables that begins in no such way is as it is."""
    return cell[1:] if _WRITTEN.match(cell) else cell


class Writer:
    """`csv.writer` for tables of names and numbers.

    Args:
        file: to write to.
        lineterminator: at the end of each row.
    """

    def __init__(self, file: TextIO, lineterminator: str = "\r\n") -> None:
        self._writer = csv.writer(file, lineterminator=lineterminator)

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([written(cell) if isinstance(cell, str) else cell for cell in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write rows."""
        for row in rows:
            self.writerow(row)
