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
    images of a group stay on one side. Every class keeps an image in train; from three units on
    (images, or groups of them) it has one in val, from four on one in test as well, as far as groups that span
    many classes allow.

    Splits that the folders or the manifest file name are kept as they are. Only a missing val is
    then carved out of train. Where fixes were applied, the split is the one drawn before them.

    Args:
        dataset: the images; those without a label count as one class. One of several labels counts for each.
        val: fraction 0..1 of each class.
        test: fraction 0..1 of each class.
        seed: another seed gives another split.
        keras_split: instead of all that, `image_dataset_from_directory(validation_split=keras_split,
            subset="both", seed=seed)`: the same files in val.

    Raises:
        TlkitError: `keras_split` where Keras could not read the layout.
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
    """The fixes that options ask for, to be applied after the split that they ask for, or that `draw` makes."""
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
    """The given split; rows that name none train; a missing val comes out of train."""
    codes = np.where(dataset.given == UNASSIGNED, TRAIN, dataset.given).astype(np.int8)
    blank = int((dataset.given == UNASSIGNED).sum())
    origin = "as given" + (f", the {blank} images without a split in train" if blank else "")
    pool = np.flatnonzero(codes == TRAIN)
    if (codes == VAL).any() or not val or not len(pool):
        return codes, origin
    codes[pool] = _dealt(dataset, units, pool, val, 0.0, seed)
    return codes, f"{origin}, but val, which was missing, drawn from train by content (seed {seed}, val {val:g})"


def _dealt(dataset: Dataset, units: np.ndarray, rows: np.ndarray, val: float, test: float, seed: int) -> np.ndarray:
    """int8 codes of `rows`, split among themselves."""
    if not len(rows):
        return np.empty(0, dtype=np.int8)
    keys = order_keys(dataset, rows, seed)
    shares = dataset.task.shares(dataset.truth[rows])
    classes = max(len(dataset.classes), int(shares.max())) + 1  # numbers have quantiles in the place of classes
    return deal_splits(Units.of_rows(units[rows], shares, keys, classes=classes), val=val, test=test)


def _straddling(codes: np.ndarray, units: np.ndarray) -> int:
    """How many units have images on more than one side."""
    highest = np.full(len(units), -1, dtype=np.int8)
    lowest = np.full(len(units), len(SPLITS), dtype=np.int8)
    np.maximum.at(highest, units, codes)
    np.minimum.at(lowest, units, codes)
    return int((highest > lowest).sum())


def _kept(dataset: Dataset, units: np.ndarray) -> str:
    """What was kept together, for the rule."""
    if dataset.groups is not None:
        return f", keeping {len(np.unique(units))} groups whole"
    copies = len(units) - len(np.unique(units))
    return f", keeping {copies} exact {'copy' if copies == 1 else 'copies'} with the original" if copies else ""


def _rule(codes: np.ndarray, origin: str, straddling: int) -> str:
    """One sentence: the counts, where they come from, and what is wrong with them."""
    counts = ", ".join(f"{name} {(codes == code).sum()}" for code, name in enumerate(SPLITS) if (codes == code).any())
    warning = ""
    if straddling:
        are = "group or set of exact duplicates has" if straddling == 1 else "groups or sets of exact duplicates have"
        warning = f"; warning: {straddling} {are} images on more than one side, which flatters the results"
    return f"{counts}: {origin}{warning}."


# -- The split of `keras.utils.image_dataset_from_directory`, for people who migrate -----------

# What Keras lists: by name, in any case, hidden and damaged files too.
_KERAS_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def keras_codes(dataset: Dataset, fraction: float, seed: int) -> tuple[np.ndarray, str]:
    """int8 (N,) codes equal to `validation_split=fraction, subset="both", seed=seed`, and what to say about it.

    Keras lists the files of each class by name, shuffles the whole list and takes the end of it.
    Files that it lists and tlkit sets aside count, as they move the cut; images that it does not
    list (WebP, TIFF, ...) go to train.

    Raises:
        TlkitError: the images are not in one folder for each class.
    """
    listed = Texts.of(_keras_files(dataset))
    order = np.arange(len(listed))
    np.random.RandomState(seed).shuffle(order)  # the legacy generator: it is what Keras uses
    held_out = {listed[i] for i in order[len(order) - int(fraction * len(order)) :].tolist()}
    held = np.fromiter((path in held_out for path in dataset.paths), np.int8, len(dataset))
    codes = held * np.int8(SPLITS.index("val"))
    others = len(set(dataset.paths) - set(listed))
    return codes, f", and {others} images that Keras does not list in train" if others else ""


def _keras_files(dataset: Dataset) -> Iterator[str]:
    """Relative paths in the order Keras lists them, before it shuffles."""
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


# -- What a split may not tear apart: exact duplicates, groups, and whatever those join --------


def unit_of_rows(dataset: Dataset) -> np.ndarray:
    """int64 (N,): the first row of the unit that each row belongs to.

    Rows of equal content or equal group are of one unit, and so is everything that this connects.
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
    """int64 (N,): the first row that holds the same value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse.ravel()].astype(np.int64)


def _connected(links: list[np.ndarray]) -> np.ndarray:
    """int64 (N,): the least row of each connected component; a link joins a row to an earlier one.

    Every round takes the least label along each link and then jumps to that label's own, which
    halves the way to go.
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
    """uint64 (n,) of `rows`: 8 bytes of sha256 over the seed and the group, or the content where there is none."""
    start = hashlib.sha256(f"{seed}:".encode())
    digests = bytearray()
    for row in rows.tolist():
        name = dataset.groups[row] if dataset.groups is not None else ""
        digest = start.copy()
        digest.update(name.encode("utf-8", "surrogateescape") if name else dataset.sha256[row])
        digests += digest.digest()[:8]
    return np.frombuffer(digests, dtype="<u8")


# -- What must not straddle splits: a column of the manifest file, or a pattern on the path ----

DEFAULT_COLUMN = "group"


def group_column(group_by: str | None, columns: Sequence[str]) -> str | None:
    """The column that names groups: the one asked for, `group` where nothing is asked for, else None."""
    if group_by is None:
        return DEFAULT_COLUMN if DEFAULT_COLUMN in columns else None
    return group_by if group_by in columns else None


def group_pattern(group_by: str, columns: Sequence[str] = ()) -> re.Pattern[str]:
    """The regular expression that names groups.

    Raises:
        TlkitError: it is none, or has no group in parentheses.
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
        TlkitError: the pattern finds none in a path, which is named.
    """
    groups = GrowingTexts()
    for path in paths:
        found = pattern.search(path)
        if found is None or not found[1]:
            raise TlkitError(
                f"--group-by {pattern.pattern!r} finds no group in {path!r}.",
                "write a pattern that matches every path (relative to the image folder), or list groups in a manifest file.",
            )
        groups.append(found[1])
    return groups.done()
