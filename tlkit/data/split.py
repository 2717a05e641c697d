"""The split into training, validation and test images: a function of content, stable under renaming and growth."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from tlkit.base.errors import TlkitError, nearest
from tlkit.base.files import GrowingTexts, Texts
from tlkit.data.dataset import SPLITS, UNASSIGNED, Dataset, Splits
from tlkit.data.fixes import Fixing
from tlkit.data.folds import TRAIN, VAL, Units, deal_splits
from tlkit.tasks.labels import class_name


def split(dataset: Dataset, *, val: float, test: float, seed: int, keras_split: float | None = None) -> Splits:
    """Split by content, as given, or as Keras would.

    Within each class, images are ordered by a hash of seed and content (or group) and cut: val from
    the front, test from the back, so that adding images moves few others. Exact duplicates and the
    images of a group stay in one split. Every class keeps an image in train; with three or more units
    (images, or groups of them) it has one in val, with four or more one in test as well, as far as
    groups that span many classes allow.

    Splits given by the folders or the manifest file are kept. Only a missing val is then taken from
    train. If fixes were applied, the split is the one drawn before them.

    Args:
        dataset: the images; those without a label count as one class, one with several labels for each.
        val: fraction 0..1 of each class.
        test: fraction 0..1 of each class.
        seed: random seed.
        keras_split: instead of all this, `image_dataset_from_directory(validation_split=keras_split,
            subset="both", seed=seed)`: the same files in val.

    Raises:
        TlkitError: for `keras_split`, if Keras could not read the layout.
    """
    units = unit_of_rows(dataset)
    if dataset.drawn:
        codes, origin = dataset.given, dataset.drawn
    elif keras_split is not None:
        codes, note = keras_codes(dataset, keras_split, seed)
        origin = f"as image_dataset_from_directory(validation_split={keras_split}, seed={seed}) does{note}"
    elif (dataset.given != UNASSIGNED).any():
        codes, origin = _as_given(dataset, units, val, seed)
    else:
        codes = _dealt(dataset, units, np.arange(len(dataset)), val, test, seed)
        within = dataset.task.strata_name
        origin = f"drawn within {within} by content (seed {seed}, val {val:g}, test {test:g}){_kept(dataset, units)}"
        return Splits(codes, _rule(codes, origin, 0), origin)
    return Splits(codes, _rule(codes, origin, _straddling(codes, units)), origin)


def fixing(config: "_Asked", draw: Callable[[Dataset], Splits] | None = None) -> Fixing | None:
    """The requested fixes, applied after the split of the options or of `draw`."""
    if config.fixes is None:
        return None
    asked = partial(split, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)
    return Fixing(config.fixes, draw or asked, config.fix_held_out)


class _Asked(Protocol):
    """Options of the split and of fixes."""

    @property
    def fixes(self) -> str | None: ...
    @property
    def fix_held_out(self) -> bool: ...
    @property
    def val(self) -> float: ...
    @property
    def test(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def keras_split(self) -> float | None: ...


def _as_given(dataset: Dataset, units: np.ndarray, val: float, seed: int) -> tuple[np.ndarray, str]:
    """The given split; rows without one train, and a missing val is taken from train."""
    codes = np.where(dataset.given == UNASSIGNED, TRAIN, dataset.given).astype(np.int8)
    blank = int((dataset.given == UNASSIGNED).sum())
    origin = "as given" + (f", the {blank} images without a split in train" if blank else "")
    pool = np.flatnonzero(codes == TRAIN)
    if (codes == VAL).any() or not val or not len(pool):
        return codes, origin
    codes[pool] = _dealt(dataset, units, pool, val, 0.0, seed)
    return codes, f"{origin}, but val, which was missing, drawn from train by content (seed {seed}, val {val:g})"


def _dealt(dataset: Dataset, units: np.ndarray, rows: np.ndarray, val: float, test: float, seed: int) -> np.ndarray:
    """int8 codes of `rows`, split by content."""
    if not len(rows):
        return np.empty(0, dtype=np.int8)
    keys = order_keys(dataset, rows, seed)
    shares = dataset.task.shares(dataset.truth[rows])
    classes = max(len(dataset.classes), int(shares.max())) + 1  # for numbers, quantiles instead of classes
    return deal_splits(Units.of_rows(units[rows], shares, keys, classes=classes), val=val, test=test)


def _straddling(codes: np.ndarray, units: np.ndarray) -> int:
    """Number of units with images in more than one split."""
    highest = np.full(len(units), -1, dtype=np.int8)
    lowest = np.full(len(units), len(SPLITS), dtype=np.int8)
    np.maximum.at(highest, units, codes)
    np.minimum.at(lowest, units, codes)
    return int((highest > lowest).sum())


def _kept(dataset: Dataset, units: np.ndarray) -> str:
    """The part of the rule on images kept together."""
    if dataset.groups is not None:
        return f", keeping {len(np.unique(units))} groups whole"
    copies = len(units) - len(np.unique(units))
    return f", keeping {copies} exact {'copy' if copies == 1 else 'copies'} with the original" if copies else ""


def _rule(codes: np.ndarray, origin: str, straddling: int) -> str:
    """The rule in one sentence: counts, origin and warnings."""
    counts = ", ".join(f"{name} {(codes == code).sum()}" for code, name in enumerate(SPLITS) if (codes == code).any())
    warning = ""
    if straddling:
        are = "group or set of exact duplicates has" if straddling == 1 else "groups or sets of exact duplicates have"
        warning = f"; warning: {straddling} {are} images on more than one side, which flatters the results"
    return f"{counts}: {origin}{warning}."


# -- The split of `keras.utils.image_dataset_from_directory`, for migration -----------

# Suffixes that Keras lists, in upper or lower case, including hidden and damaged files.
_KERAS_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def keras_codes(dataset: Dataset, fraction: float, seed: int) -> tuple[np.ndarray, str]:
    """int8 (N,) codes equal to `validation_split=fraction, subset="both", seed=seed`, and a note.

    Keras lists the files of each class by name, shuffles the whole list and takes its end. Files that it
    lists but tlkit sets aside count, as they move the cut; images that it does not list (WebP, TIFF,
    ...) go to train.

    Raises:
        TlkitError: if the images are not in one folder per class.
    """
    listed = Texts.of(_keras_files(dataset))
    order = np.arange(len(listed))
    np.random.RandomState(seed).shuffle(order)  # the legacy generator, as Keras uses
    held_out = {listed[i] for i in order[len(order) - int(fraction * len(order)) :].tolist()}
    held = np.fromiter((path in held_out for path in dataset.paths), np.int8, len(dataset))
    codes = held * np.int8(SPLITS.index("val"))
    others = len(set(dataset.paths) - set(listed))
    return codes, f", and {others} images that Keras does not list in train" if others else ""


def _keras_files(dataset: Dataset) -> Iterator[str]:
    """Relative paths in the order in which Keras lists them before shuffling."""
    folders = {path.partition("/")[0] for path in dataset.paths}
    laid_out = all(
        "/" in path and class_name(path.partition("/")[0]) == dataset.label_name(i)
        for i, path in enumerate(dataset.paths)
    )
    if (dataset.given != UNASSIGNED).any() or not dataset.classes or not laid_out:
        raise TlkitError(
            "--keras-split needs one folder for each class and no split yet, as image_dataset_from_directory does.",
            "leave out --keras-split, or give the folder that Keras was given.",
        )
    for name in sorted(folders, key=lambda folder: (dataset.classes.index(class_name(folder)), folder)):
        walked = os.walk(dataset.root / name)  # links to folders are not followed, as in Keras
        for folder, _, files in sorted(walked, key=lambda entry: entry[0]):
            inside = folder[len(str(dataset.root)) + 1 :].replace(os.sep, "/")
            yield from (f"{inside}/{file}" for file in sorted(files) if file.lower().endswith(_KERAS_SUFFIXES))


# -- Units that a split must keep together: exact duplicates, groups, and whatever they connect --------


def unit_of_rows(dataset: Dataset) -> np.ndarray:
    """The first row of each row's unit, int64 (N,).

    Rows with the same content or group belong to one unit, and so does everything connected through them.
    An empty group name is no group.
    """
    links = [_first_equal(np.ascontiguousarray(dataset.sha256).view("V32").ravel())]
    if dataset.groups is not None:
        known: dict[str, int] = {}
        numbers = np.fromiter((known.setdefault(name, len(known)) for name in dataset.groups), np.int64, len(dataset))
        alone = numbers == known.get("", -1)
        links.append(_first_equal(np.where(alone, len(known) + np.arange(len(numbers)), numbers)))
    return links[0] if len(links) == 1 else _connected(links)


def _first_equal(values: np.ndarray) -> np.ndarray:
    """The first row with the same value, int64 (N,)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse.ravel()].astype(np.int64)


def _connected(links: list[np.ndarray]) -> np.ndarray:
    """The smallest row of each row's connected component, int64 (N,); a link joins a row to an earlier one.

    Every round takes the smallest label along each link and then follows that label's own, which halves
    the remaining path.
    """
    labels = np.arange(len(links[0]))
    while True:
        before = labels
        for link in links:
            least = labels.copy()
            np.minimum.at(least, link, labels)
            labels = least[link]
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def order_keys(dataset: Dataset, rows: np.ndarray, seed: int) -> np.ndarray:
    """Sort keys of `rows`, uint64 (n,): 8 bytes of sha256 over the seed and the group, else the content."""
    start = hashlib.sha256(f"{seed}:".encode())
    digests = bytearray()
    for row in rows.tolist():
        name = dataset.groups[row] if dataset.groups is not None else ""
        digest = start.copy()
        digest.update(name.encode("utf-8", "surrogateescape") if name else dataset.sha256[row])
        digests += digest.digest()[:8]
    return np.frombuffer(digests, dtype="<u8")


# -- Groups: a column of the manifest file, or a pattern on the path ----

DEFAULT_COLUMN = "group"


def group_column(group_by: str | None, columns: Sequence[str]) -> str | None:
    """The column of groups: the requested one, `group` if nothing is requested, else None."""
    if group_by is None:
        return DEFAULT_COLUMN if DEFAULT_COLUMN in columns else None
    return group_by if group_by in columns else None


def group_pattern(group_by: str, columns: Sequence[str] = ()) -> re.Pattern[str]:
    """The regular expression for groups.

    Raises:
        TlkitError: if it is invalid or has no group in parentheses.
    """
    guess = nearest(group_by, columns)
    hint = (f"did you mean the column {guess!r}? " if guess else "") + (
        r"give a pattern whose first parentheses hold the group's name, such as '(S\d+)_'."
    )
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise TlkitError(f"--group-by {group_by!r} is not a regular expression: {error}.", hint) from error
    if not pattern.groups:
        kind = "neither a column nor a pattern with parentheses" if columns else "a pattern without parentheses"
        raise TlkitError(f"--group-by {group_by!r} is {kind}.", hint)
    return pattern


def match_groups(pattern: re.Pattern[str], paths: Sequence[str]) -> Texts:
    """The group of every path.

    Raises:
        TlkitError: if the pattern does not match a path, which is named.
    """
    groups = GrowingTexts()
    for path in paths:
        found = pattern.search(path)
        if found is None or not found[1]:
            raise TlkitError(
                f"--group-by {pattern.pattern!r} finds no group in {path!r}.",
                "write a pattern that matches every path (relative to the image folder), or list groups in a "
                "manifest file.",
            )
        groups.append(found[1])
    return groups.done()
