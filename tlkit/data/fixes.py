"""Fixes: corrected labels and dropped images, listed in a CSV and applied when images are read. No file is touched."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkit.base import cells
from tlkit.base.errors import TlkitError, nearest, unknown_name
from tlkit.base.files import replacing
from tlkit.base.story import Story
from tlkit.data.dataset import Dataset

COLUMNS = ("path", "action", "label", "reason")
ACTIONS = ("relabel", "drop")


@dataclass(frozen=True)
class Fix:
    """One line of a file of fixes.

    Args:
        path: of an image, as in the manifest.
        action: `relabel` or `drop`.
        label: the class that `relabel` gives it, several as `cat|dog`; "" for `drop`.
        reason: for the reader.
    """

    path: str
    action: str
    label: str = ""
    reason: str = ""


def write_fixes(file: Path, fixes: Sequence[Fix]) -> None:
    """Write path,action,label,reason; whole or not at all."""
    with (
        replacing(file) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        writer = cells.Writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows((fix.path, fix.action, fix.label, fix.reason) for fix in fixes)


def read_fixes(file: Path) -> list[Fix]:
    """Read what `write_fixes` or a user wrote; `label` and `reason` may be missing as columns.

    Raises:
        TlkitError: no such file, a column is missing, an unknown action, a path twice, relabel without a label.
    """
    if not file.is_file():
        raise TlkitError(
            f"--fixes {str(file)!r} does not exist.", "`tlkit audit IMAGES --write-fixes FILE` writes one."
        )
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.DictReader(stream)
        lacking = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or ())]
        if lacking:
            raise TlkitError(
                f"{str(file)!r} has no column {lacking[0]!r}.",
                f"name the columns in the first line: {','.join(COLUMNS)}.",
            )
        rows = [{name: cells.read((row.get(name) or "").strip()) for name in COLUMNS} for row in reader]
    fixes = [Fix(**row) for row in rows]
    seen: set[str] = set()
    for line, fix in enumerate(fixes, start=2):
        place = f"line {line} of {str(file)!r}"
        if fix.action not in ACTIONS:
            raise unknown_name("an action of " + place, fix.action, ACTIONS)
        if fix.action == "relabel" and not fix.label:
            raise TlkitError(f"{place} relabels {fix.path!r} without a label.", "name the class, or write drop.")
        if fix.path in seen:
            raise TlkitError(f"{place} names {fix.path!r} a second time.", "keep one line for each image.")
        seen.add(fix.path)
    return fixes


def apply_fixes(dataset: Dataset, file: str | None, story: Story) -> Dataset:
    """The manifest with the fixes of a file applied; as it is where there is none.

    Raises:
        TlkitError: a path that is not among the images, a class that there is not, a class left empty.
    """
    if file is None:
        return dataset
    fixes = read_fixes(Path(file))
    places = {path: row for row, path in enumerate(dataset.paths)}
    aside = {problem.path for problem in dataset.set_aside}
    changed, dropped = dataset.select(np.arange(len(dataset))), np.zeros(len(dataset), bool)
    for line, fix in enumerate(fixes, start=2):
        if fix.path not in places:
            if fix.path in aside:
                continue  # already out of the way
            raise _no_such_image(file, line, fix.path, places)
        row = places[fix.path]
        if fix.action == "drop":
            dropped[row] = True
        else:
            _relabel(changed, row, fix.label, f"line {line} of {file!r}")
    fixed = changed.select(np.flatnonzero(~dropped))
    _refuse_emptied(dataset, fixed, file)
    relabelled = sum(changed.label_name(row) != dataset.label_name(row) for row in np.flatnonzero(~dropped).tolist())
    story.say(f"fixes of {file}: {relabelled} labels changed, {int(dropped.sum())} images dropped")
    return fixed


def _relabel(dataset: Dataset, row: int, label: str, place: str) -> None:
    """Give a row of a manifest, in place, another label, or others where an image may have several."""
    names = dataset.task.names(label, place)
    for name in names:
        if name not in dataset.classes:
            raise unknown_name(f"a class here ({place})", name, dataset.classes)
    codes = [dataset.classes.index(name) for name in names]
    dataset.truth[row] = dataset.task.truth_of(codes, len(dataset.classes))


def _no_such_image(file: str, line: int, path: str, known: dict[str, int]) -> TlkitError:
    guess = nearest(path, list(known)[:20_000])
    hint = f"did you mean {guess!r}? " if guess else ""
    return TlkitError(
        f"line {line} of {file!r} names {path!r}, which is not among the images.",
        hint
        + "paths are relative to the folder of images, as in the audit's images.csv; remove the line if the file is gone.",
    )


def _refuse_emptied(before: Dataset, after: Dataset, file: str) -> None:
    emptied = np.flatnonzero((before.class_counts() > 0) & (after.class_counts() == 0))
    if len(emptied):
        raise TlkitError(
            f"{file!r} leaves no image of class {before.classes[emptied[0]]!r}.",
            "drop fewer of them, or remove the class from the images.",
        )
