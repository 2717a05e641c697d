"""Units (images, or groups of images that stay together) dealt to training, validation and test, class by class."""

from dataclasses import dataclass

import numpy as np

TRAIN, VAL, TEST = range(3)


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
        """Where every unit was too large for the target, take the smallest that may leave train, or be exchanged."""
        for label in np.flatnonzero(self.wanted[code]).tolist():
            if self.have[code][label]:
                continue
            holders = np.searchsorted(self.units.starts, np.flatnonzero(self.units.labels == label), side="right") - 1
            sizes = np.add.reduceat(self.units.sizes, self.units.starts[:-1])[holders]
            ordered = holders[np.argsort(sizes, kind="stable")].tolist()
            if not any(self.take(unit, self.units.parts(unit), code) for unit in ordered):
                any(self._exchange(unit, code) for unit in ordered)

    def _exchange(self, unit: int, code: int) -> bool:
        """Take a unit from whatever side it is on and give back none or one, if no side loses its last of a class.

        Where units span most classes, none may be free to leave train.
        """
        side, taken = int(self.side[unit]), dict(self.units.parts(unit))
        for other in [None, *np.flatnonzero(self.side == code).tolist()]:
            given = {} if other is None else dict(self.units.parts(other))
            gained = {label: taken.get(label, 0) - given.get(label, 0) for label in taken | given}
            if all(self._spares(side, *item) and self._spares(code, item[0], -item[1]) for item in gained.items()):
                self.side[unit] = code
                if other is not None:
                    self.side[other] = side
                for label, size in gained.items():
                    self._of(code)[label] += size
                    self._of(side)[label] -= size
                return True
        return False

    def _of(self, side: int) -> list[int]:
        return self.left if side == TRAIN else self.have[side]

    def _spares(self, side: int, label: int, lost: int) -> bool:
        """Whether a side that is to have a class still has it after losing that many of its images."""
        return self._of(side)[label] > lost or not (side == TRAIN or self.wanted[side][label])
