"""The split into training, validation and test images: a function of content, stable under renaming and growth."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from tlkit.base.errors import TlkitError, nearest
from tlkit.data.dataset import SPLITS, UNASSIGNED, Dataset, Splits
from tlkit.data.fixes import Fixing
from tlkit.tasks.labels import class_name

TRAIN, VAL, TEST = range(3)


def split(dataset: Dataset, *, val: float, test: float, seed: int, keras_split: float | None = None) -> Splits:
    """Split by content, as given, or as Keras would.

    Within each class, images are ordered by a hash of seed and content (or group) and cut: val from
    the front, test from the back, so that adding images moves few others. Exact duplicates and the
    images of a group stay on one side. Every class keeps an image in train; from three units on
    (images, or groups of them) it has one in val, from four on one in test as well.

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
        origin = f"drawn within each class by content (seed {seed}, val {val:g}, test {test:g}){_kept(dataset, units)}"
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
    return deal(Units.of_rows(units[rows], shares, keys, classes=len(dataset.classes) + 1), val=val, test=test)


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
    listed = list(_keras_files(dataset))
    order = np.arange(len(listed))
    np.random.RandomState(seed).shuffle(order)  # the legacy generator: it is what Keras uses
    held_out = {listed[i] for i in order[len(order) - int(fraction * len(order)) :].tolist()}
    codes = np.array([path in held_out for path in dataset.paths], dtype=np.int8) * SPLITS.index("val")
    others = len(set(dataset.paths) - set(listed))
    return codes, f", and {others} images that Keras does not list in train" if others else ""


def _keras_files(dataset: Dataset) -> Iterator[str]:
    """Relative paths in the order Keras lists them, before it shuffles."""
    folders = [path.partition("/")[0] for path in dataset.paths]
    laid_out = all("/" in path for path in dataset.paths) and all(
        class_name(folder) == dataset.label_name(i) for i, folder in enumerate(folders)
    )
    if (dataset.given != UNASSIGNED).any() or not dataset.classes or not laid_out:
        raise TlkitError(
            "--keras-split needs one folder for each class and no split yet, as image_dataset_from_directory does.",
            "leave out --keras-split, or give the folder that Keras was given.",
        )
    for name in sorted(set(folders), key=lambda folder: (dataset.classes.index(class_name(folder)), folder)):
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
        names = np.unique(np.array(dataset.groups, dtype=object), return_inverse=True)[1]
        alone = np.array([not name for name in dataset.groups])
        links.append(_first_equal(np.where(alone, len(names) + np.arange(len(names)), names)))
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


def match_groups(pattern: re.Pattern[str], paths: Sequence[str]) -> list[str]:
    """The group of every path.

    Raises:
        TlkitError: the pattern finds none in a path, which is named.
    """
    groups = []
    for path in paths:
        found = pattern.search(path)
        if found is None or not found[1]:
            raise TlkitError(
                f"--group-by {pattern.pattern!r} finds no group in {path!r}.",
                "write a pattern that matches every path (relative to the image folder), or list groups in a manifest file.",
            )
        groups.append(found[1])
    return groups


# -- Deal units (images, or groups of images that stay together) to train, val and test, class by class ---


@dataclass(frozen=True)
class Units:
    """U units in the order they are dealt in, each a few parts: so many images of one class.

    Args:
        of_row: int64 (N,), the unit of every row.
        starts: int64 (U + 1,), where the parts of each unit begin.
        labels: int64 (P,), class 0..K-1 of every part.
        sizes: int64 (P,), images of every part.
        classes: K.
        crossed: whether rows, and not only units, may count for several classes.
    """

    of_row: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    classes: int
    crossed: bool = False

    @classmethod
    def of_rows(cls, names: np.ndarray, labels: np.ndarray, keys: np.ndarray, *, classes: int) -> "Units":
        """Rows of equal name are a unit; units are ordered by their least key.

        Args:
            names: int64 (N,).
            labels: int64 (N,), 0..classes-1; or bool (N, classes), at least one of each row.
            keys: uint64 (N,).
            classes: how many.
        """
        unit = np.unique(names, return_inverse=True)[1].ravel()
        least = np.full(int(unit.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(least, unit, keys)
        rank = np.empty(len(least), dtype=np.int64)
        rank[np.argsort(least, kind="stable")] = np.arange(len(least))
        of_row = rank[unit]
        rows, codes = (slice(None), labels) if labels.ndim == 1 else np.nonzero(labels)
        parts, sizes = np.unique(of_row[rows] * classes + codes, return_counts=True)
        starts = np.searchsorted(parts, np.arange(len(least) + 1) * classes)
        return cls(of_row, starts, parts % classes, sizes, classes, crossed=labels.ndim > 1)

    def counts(self, parts: np.ndarray | slice = slice(None)) -> np.ndarray:
        """int64 (K,) images of each class, in all parts or some."""
        return np.bincount(self.labels[parts], weights=self.sizes[parts], minlength=self.classes).astype(np.int64)

    def parts(self, unit: int) -> list[tuple[int, int]]:
        """(class, images) of a unit."""
        own = slice(self.starts[unit], self.starts[unit + 1])
        return list(zip(self.labels[own].tolist(), self.sizes[own].tolist(), strict=True))


def deal(units: Units, *, val: float, test: float) -> np.ndarray:
    """int8 (N,) codes of the rows: 0 train, 1 val, 2 test."""
    return (_deal_crossed if units.crossed else _deal_pure)(units, val, test)


def _deal_pure(units: Units, val: float, test: float) -> np.ndarray:
    """Where most units are of one class.

    Units that span classes are dealt first, the same fractions of them as of all, so that neither
    side gets more than its share of what is odd. Then each class takes its own units until its
    targets are met, val from the front and test from the back.
    """
    table = _table(units, val, test)
    table.deal_mixed(VAL, val)
    table.deal_mixed(TEST, test)
    table.deal_pure()
    for code in (VAL, TEST):
        table.give_at_least_one(code)
    return table.side[units.of_row]


def _deal_crossed(units: Units, val: float, test: float) -> np.ndarray:
    """Where most units span classes.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): always the class with fewest units left. Each of
    them goes to the side that lacks most of what it was to have: not of that class alone, as in the paper, which leaves
    common classes to chance, but of all classes of the unit and of images.
    """
    table, shares = _table(units, val, test), {TRAIN: 1 - val - test, VAL: val, TEST: test}
    sides, counts = [code for code, share in shares.items() if share > 0], units.counts()
    # What each side has of every class and, last, of images: 1 is all that it was to have.
    filled = {code: np.zeros(units.classes + 1) for code in sides}
    owner = np.repeat(np.arange(len(units.starts) - 1), np.diff(units.starts))
    images = np.bincount(units.of_row)
    waiting = np.ones(len(images), bool)
    while waiting.any():
        left = np.bincount(units.labels[waiting[owner]], minlength=units.classes)
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for unit in owner[(units.labels == label) & waiting[owner]].tolist():
            own = slice(units.starts[unit], units.starts[unit + 1])
            columns = np.append(units.labels[own], units.classes)
            code = min(sides, key=lambda code: filled[code][columns].sum())
            if code != TRAIN and not table.take(unit, units.parts(unit), code):
                code = TRAIN
            part = np.append(units.sizes[own] / counts[units.labels[own]], images[unit] / len(units.of_row))
            filled[code][columns] += part / shares[code]
        waiting[owner[units.labels == label]] = False
    for code in (VAL, TEST):
        table.give_at_least_one(code)
    return table.side[units.of_row]


def _targets(counts: np.ndarray, units: np.ndarray, fraction: float, enough: int) -> np.ndarray:
    """int64 (K,) images wanted of each class: the rounded fraction, at least one where it has `enough` units."""
    if not fraction:
        return np.zeros(len(counts), dtype=np.int64)
    rounded = np.floor(counts * fraction + 0.5).astype(np.int64)
    return np.where(units >= enough, np.maximum(rounded, 1), 0)


def _leave_one_to_train(counts: np.ndarray, wanted: dict[int, np.ndarray]) -> None:
    """Lower targets that would leave a class without training images."""
    over = np.maximum(wanted[VAL] + wanted[TEST] - np.maximum(counts - 1, 0), 0)
    from_test = np.minimum(over, np.maximum(wanted[TEST] - 1, 0))
    wanted[TEST] -= from_test
    wanted[VAL] -= over - from_test


def _table(units: Units, val: float, test: float) -> "_Table":
    """The deal before it begins: everything in train."""
    counts = units.counts()
    units_of_class = np.bincount(units.labels, minlength=units.classes)
    wanted = {
        VAL: _targets(counts, units_of_class, val, 3),
        TEST: _targets(counts, units_of_class, test, 4 if val else 3),
    }
    _leave_one_to_train(counts, wanted)
    return _Table(units, wanted)


class _Table:
    """The state of the deal.

    Args:
        units: what is dealt.
        wanted: for val and test, int64 (K,) images wanted of each class.
    """

    def __init__(self, units: Units, wanted: dict[int, np.ndarray]) -> None:
        self.units = units
        self.wanted = wanted
        self.side = np.zeros(len(units.starts) - 1, dtype=np.int8)  # of each unit
        self.have = {code: [0] * units.classes for code in wanted}  # images of each class
        self.left: list[int] = units.counts().tolist()  # images of each class in train; never taken below one
        self.pure = np.diff(units.starts) == 1

    def take(self, unit: int, parts: list[tuple[int, int]], code: int) -> bool:
        """Move a unit out of train, unless a class would have nothing left to train on."""
        if self.side[unit] != TRAIN or any(self.left[label] <= size for label, size in parts):
            return False
        self.side[unit] = code
        for label, size in parts:
            self.have[code][label] += size
            self.left[label] -= size
        return True

    def deal_mixed(self, code: int, fraction: float) -> None:
        """Take units that span classes: first what fits wholly, then what still brings the counts nearer to the targets.

        Nearer by the sum of squares over the classes, each divided by the size of the class so that
        rare ones weigh as much.
        """
        mixed = np.flatnonzero(~self.pure)[:: 1 if code == VAL else -1].tolist()
        if not fraction or not mixed:
            return
        counts = self.units.counts(np.repeat(~self.pure, np.diff(self.units.starts)))
        need = np.where(self.wanted[code] > 0, counts * fraction, 0.0).tolist()
        parts_of = {unit: self.units.parts(unit) for unit in mixed}
        for fitting in (True, False):
            for unit, parts in parts_of.items():
                if fitting:
                    welcome = all(size <= need[label] for label, size in parts)
                else:
                    welcome = sum(size * (2 * need[label] - size) / counts[label] for label, size in parts) > 0
                if welcome and self.take(unit, parts, code):
                    for label, size in parts:
                        need[label] -= size

    def deal_pure(self) -> None:
        """Every class takes of its own units what it still wants."""
        own = np.flatnonzero(self.pure)
        labels = self.units.labels[self.units.starts[own]]
        own = own[np.argsort(labels, kind="stable")]
        ends = np.cumsum(np.bincount(labels, minlength=self.units.classes))
        for label, units in enumerate(np.split(own, ends[:-1])):
            self._take_pure(units, label, VAL)
            self._take_pure(units[::-1], label, TEST)

    def _take_pure(self, units: np.ndarray, label: int, code: int) -> None:
        """Take from the front, leaving out units too large for what is still wanted."""
        units = units[self.side[units] == TRAIN]
        sizes = self.units.sizes[self.units.starts[units]]
        if (sizes == 1).all():
            wanted = int(self.wanted[code][label]) - self.have[code][label]
            taken = units[: max(0, min(wanted, self.left[label] - 1))]
            self.side[taken] = code
            self.have[code][label] += len(taken)
            self.left[label] -= len(taken)
            return
        for unit, size in zip(units.tolist(), sizes.tolist(), strict=True):
            wanted = int(self.wanted[code][label]) - self.have[code][label]
            if wanted <= 0:
                return
            if size < 2 * wanted:
                self.take(unit, [(label, size)], code)

    def give_at_least_one(self, code: int) -> None:
        """Where every unit was too large for the target, take the smallest one that may leave train."""
        for label in np.flatnonzero(self.wanted[code]).tolist():
            if self.have[code][label]:
                continue
            holders = np.searchsorted(self.units.starts, np.flatnonzero(self.units.labels == label), side="right") - 1
            sizes = np.add.reduceat(self.units.sizes, self.units.starts[:-1])[holders]
            for unit in holders[np.argsort(sizes, kind="stable")].tolist():
                if self.take(unit, self.units.parts(unit), code):
                    break
