"""Fixes: corrected labels and dropped images, listed in a CSV and applied when images are read. No image is touched."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlkit.base.errors import TlkitError, nearest, unknown_name
from tlkit.base.files import BYTES_AS_TEXT, CellWriter, replacing, restored
from tlkit.base.story import Story
from tlkit.data.dataset import SPLITS, Dataset, Splits
from tlkit.data.table import read_table

COLUMNS = ("path", "action", "label", "reason")
ACTIONS = ("relabel", "drop")


@dataclass(frozen=True)
class Fix:
    """One line of a file of fixes.

    Args:
        path: path of the image, as in the manifest.
        action: `relabel` or `drop`.
        label: new class for `relabel`, several as `cat|dog`; "" for `drop`.
        reason: explanation for the reader.
    """

    path: str
    action: str
    label: str = ""
    reason: str = ""


def write_fixes(file: Path, fixes: Sequence[Fix]) -> None:
    """Write the CSV path,action,label,reason atomically."""
    with (
        replacing(file) as temporary,
        temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as stream,
    ):
        writer = CellWriter(stream)
        writer.writerow(COLUMNS)
        writer.writerows((fix.path, fix.action, fix.label, fix.reason) for fix in fixes)


def read_fixes(file: Path) -> list[Fix]:
    """Read a file of fixes; the columns `label` and `reason` are optional.

    Raises:
        TlkitError: for a missing file or column, an unknown action, a repeated path, or relabel without a label.
    """
    if not file.is_file():
        raise TlkitError(
            f"--fixes {str(file)!r} does not exist.", "`tlkit audit IMAGES --write-fixes FILE` writes one."
        )
    columns, _ = read_table(file, COLUMNS, short=True)
    lacking = [name for name in COLUMNS[:2] if name not in columns]
    if lacking:
        raise TlkitError(
            f"{str(file)!r} has no column {lacking[0]!r}.",
            f"name the columns in the first line: {','.join(COLUMNS)}.",
        )
    blank = [""] * len(columns["path"])
    rows = [
        dict(zip(COLUMNS, map(str.strip, row), strict=True))
        for row in zip(*(columns.get(name, blank) for name in COLUMNS), strict=True)
    ]
    fixes = [Fix(**{**row, "path": restored(row["path"])}) for row in rows]
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


@dataclass(frozen=True)
class Fixing:
    """A file of fixes, and the images to which they apply.

    Args:
        file: file of fixes, see `read_fixes`.
        draw: splits the images as they were before any fix; None if all images are for evaluation.
        held_out: whether labels of validation and test images are changed too; metrics on them then depend on the
            fixes, and a classifier that proposed them looks better than it is.
    """

    file: str
    draw: Callable[[Dataset], Splits] | None = None
    held_out: bool = False


HELD_OUT = "labels of validation and test images stay as they are; --fix-held-out changes them too"


def apply_fixes(dataset: Dataset, fixing: Fixing | None, story: Story) -> Dataset:
    """Apply the fixes, with the split drawn before them in `given`; without fixes the images are returned unchanged.

    Raises:
        TlkitError: for a path that is not among the images, an unknown class, or a class left empty.
    """
    if fixing is None:
        return dataset
    file, fixes = fixing.file, read_fixes(Path(fixing.file))
    splits = fixing.draw(dataset) if fixing.draw else Splits(dataset.given, "")
    teaches = splits.codes == SPLITS.index("train") if fixing.draw else np.zeros(len(dataset), bool)
    places = {path: row for row, path in enumerate(dataset.paths)}
    aside = {problem.path for problem in dataset.set_aside}
    changed, counts = dataset.select(np.arange(len(dataset))), Counts(splits.codes, measured=fixing.draw is None)
    kept = np.ones(len(dataset), bool)
    for line, fix in enumerate(fixes, start=2):
        if fix.path not in places:
            if fix.path in aside:
                continue  # already set aside
            raise _no_such_image(file, line, fix.path, places)
        row = places[fix.path]
        if fix.action == "drop":
            kept[row] = False
            counts.add(row, "dropped")
            continue
        _relabel(changed, row, fix.label, f"line {line} of {file!r}")
        if changed.label_name(row) == dataset.label_name(row):
            continue
        counts.add(row, "relabelled" if teaches[row] or fixing.held_out else "left")
        if not (teaches[row] or fixing.held_out):
            changed.put(row, dataset.truth[row])
    fixed = changed.select(np.flatnonzero(kept))
    _refuse_emptied(dataset, fixed, file)
    said = counts.sentence(file)
    story.say(said)
    if fixing.draw is None:
        return replace(fixed, fixed=said)
    before = f"{splits.origin}, before the fixes" if splits.origin else "before the fixes"
    return replace(fixed, given=splits.codes[kept], drawn=before, fixed=said)


class Counts:
    """Counts, by split, of images that were relabelled, dropped or left unchanged.

    Args:
        codes: int8 (N,), index into `SPLITS`.
        measured: whether all images are for evaluation, whatever their split.
    """

    def __init__(self, codes: np.ndarray, *, measured: bool) -> None:
        self._names = (*SPLITS, "images") if not measured else ("images",) * (len(SPLITS) + 1)
        self._codes = codes
        self._found: Counter[tuple[str, str]] = Counter()

    def add(self, row: int, what: str) -> None:
        """Count one image as `relabelled`, `dropped` or `left`."""
        self._found[what, self._names[self._codes[row]]] += 1

    def sentence(self, file: str) -> str:
        """`Fixes of fixes.csv: 12 labels changed (train 12), 3 images dropped (test 3).`, and those left out."""
        changed, dropped, left = (self._of(what) for what in ("relabelled", "dropped", "left"))
        text = f"Fixes of {file}: {self._sum('relabelled')} labels changed{changed}, {self._sum('dropped')} images dropped{dropped}."
        if self._sum("left"):
            text += f" {self._sum('left')} new labels were not applied{left}: {HELD_OUT}."
        held = [name for name in dict.fromkeys(self._names) if name != "train" and self._found["relabelled", name]]
        if held:
            text += " Metrics on them are measured against the changed labels."
        return text

    def _sum(self, what: str) -> int:
        return sum(count for (kind, _), count in self._found.items() if kind == what)

    def _of(self, what: str) -> str:
        parts = [f"{name} {self._found[what, name]}" for name in dict.fromkeys(self._names) if self._found[what, name]]
        return f" ({', '.join(parts)})" if parts else ""


def _relabel(dataset: Dataset, row: int, label: str, place: str) -> None:
    """Change the label of a row in place, or its labels in multi-label tasks."""
    dataset.put(row, dataset.task.parsed(label, dataset.classes, place))


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
