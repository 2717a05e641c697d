"""Deal units (images, or groups of images that stay together) to train, val and test, class by class."""

from dataclasses import dataclass

import numpy as np

TRAIN, VAL, TEST = range(3)


@dataclass(frozen=True)
class Units:
    """U units in the order they are dealt in.

    Args:
        of_row: int64 (N,), the unit of every row.
        rows: int64 (N,), rows sorted by unit.
        starts: int64 (U + 1,), where the rows of each unit begin in `rows`.
        labels: int64 (N,), class 0..K-1 of every row.
        classes: K.
    """

    of_row: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    classes: int

    @classmethod
    def of_rows(cls, names: np.ndarray, labels: np.ndarray, keys: np.ndarray, *, classes: int) -> "Units":
        """Rows of equal name are a unit; units are ordered by their least key.

        Args:
            names: int64 (N,).
            labels: int64 (N,), 0..classes-1.
            keys: uint64 (N,).
            classes: how many.
        """
        unit = np.unique(names, return_inverse=True)[1].ravel()
        least = np.full(int(unit.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(least, unit, keys)
        rank = np.empty(len(least), dtype=np.int64)
        rank[np.argsort(least, kind="stable")] = np.arange(len(least))
        of_row = rank[unit]
        rows = np.argsort(of_row, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(of_row, minlength=len(least)))])
        return cls(of_row, rows, starts, labels.astype(np.int64), classes)

    @property
    def sizes(self) -> np.ndarray:
        """int64 (U,) rows of each."""
        return np.diff(self.starts)

    def label_counts(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes in a unit and how many rows of each."""
        return np.unique(self.labels[self.rows[self.starts[unit] : self.starts[unit + 1]]], return_counts=True)


def deal(units: Units, *, val: float, test: float) -> np.ndarray:
    """int8 (N,) codes of the rows: 0 train, 1 val, 2 test.

    Units that span classes are dealt first, each to where it brings the counts nearer to their
    targets. Then each class takes its own units, val from the front and test from the back.
    """
    side = np.zeros(len(units.sizes), dtype=np.int8)
    least, most = _label_range(units)
    pure = least == most
    counts = np.bincount(units.labels, minlength=units.classes)
    of_class = _units_per_class(units)
    wanted = {VAL: _targets(counts, of_class, val, 3), TEST: _targets(counts, of_class, test, 4 if val else 3)}
    _leave_one_to_train(counts, wanted)
    table = _Table(units, side, {code: target.copy() for code, target in wanted.items()}, counts, counts.copy())
    mixed = np.flatnonzero(~pure).tolist()
    table.deal_mixed(mixed, VAL)
    table.deal_mixed(mixed[::-1], TEST)
    for label in np.flatnonzero(counts).tolist():
        own = np.flatnonzero(pure & (least == label))
        table.deal_pure(own, label, VAL)
        table.deal_pure(own[::-1], label, TEST)
    for label in np.flatnonzero(counts).tolist():
        table.give_at_least_one(label, VAL, wanted[VAL])
        table.give_at_least_one(label, TEST, wanted[TEST])
    return side[units.of_row]


def _label_range(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest class of each unit."""
    sorted_labels = units.labels[units.rows]
    return (
        np.minimum.reduceat(sorted_labels, units.starts[:-1]),
        np.maximum.reduceat(sorted_labels, units.starts[:-1]),
    )


def _units_per_class(units: Units) -> np.ndarray:
    """int64 (K,) how many units have images of each class."""
    pairs = np.unique(units.of_row * units.classes + units.labels)
    return np.bincount(pairs % units.classes, minlength=units.classes)


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


@dataclass
class _Table:
    """The state of the deal.

    Args:
        units: what is dealt.
        side: int8 (U,), where each unit lies so far; written here.
        need: for val and test, int64 (K,) images still wanted of each class.
        counts: int64 (K,), images of each class.
        left: int64 (K,), of which still in train; never taken below one.
    """

    units: Units
    side: np.ndarray
    need: dict[int, np.ndarray]
    counts: np.ndarray
    left: np.ndarray

    def _take(self, unit: int, labels: np.ndarray, sizes: np.ndarray, code: int) -> None:
        self.side[unit] = code
        self.need[code][labels] -= sizes
        self.left[labels] -= sizes

    def deal_mixed(self, units: list[int], code: int) -> None:
        """Take units that span classes: first what fits wholly, then what still brings the counts nearer to the targets.

        Nearer by the sum of squares over the classes, each divided by the size of the class so that
        rare ones weigh as much.
        """
        if not self.need[code].any():
            return
        for fitting in (True, False):
            for unit in units:
                labels, sizes = self.units.label_counts(unit)
                need = self.need[code][labels]
                nearer = ((need**2 - (need - sizes) ** 2) / self.counts[labels]).sum() > 0
                welcome = (sizes <= need).all() if fitting else nearer
                if welcome and self.side[unit] == TRAIN and (self.left[labels] > sizes).all():
                    self._take(unit, labels, sizes, code)

    def deal_pure(self, own: np.ndarray, label: int, code: int) -> None:
        """Take a class's own units from the front, leaving out those too large for what is still wanted."""
        own = own[self.side[own] == TRAIN]
        sizes = self.units.sizes[own]
        need, left = int(self.need[code][label]), int(self.left[label])
        if (sizes == 1).all():
            taken = own[: max(0, min(need, left - 1))]
            need, left = need - len(taken), left - len(taken)
            self.side[taken] = code
        else:
            for unit, size in zip(own.tolist(), sizes.tolist(), strict=True):
                if need <= 0:
                    break
                if size < 2 * need and size < left:
                    self.side[unit] = code
                    need, left = need - size, left - size
        self.need[code][label], self.left[label] = need, left

    def give_at_least_one(self, label: int, code: int, wanted: np.ndarray) -> None:
        """Where every unit was too large for the target, take the smallest one that may leave train."""
        if self.need[code][label] < wanted[label] or not wanted[label]:
            return
        holders = np.unique(self.units.of_row[self.units.labels == label])
        holders = holders[self.side[holders] == TRAIN]
        for unit in holders[np.argsort(self.units.sizes[holders], kind="stable")].tolist():
            labels, sizes = self.units.label_counts(unit)
            if (self.left[labels] > sizes).all():
                self._take(unit, labels, sizes, code)
                return
