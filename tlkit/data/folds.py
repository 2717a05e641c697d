"""Assign images to training, validation and test, and to folds; images of one unit always stay together.

Folds hold every image out once:

    stratified   masks of scikit-learn's splitters, for images with one label: for the choice of the probe and of
                 cross-validated training; none if a class has a single unit
    deal         greedily, each unit to the fold that needs its classes most: several labels, rare classes, rankings
    in_turn      class by class, unit by unit, for the audit's probe: a fold may lack a class that has few units

Existing results depend on each (choices recorded in runs, rankings, findings), so none can replace another. Training,
validation and test are assigned class by class, see `deal_splits`.
"""

from dataclasses import dataclass

import numpy as np

from tlkit.tasks.registry import of_truth

FOLDS = 5  # fewer if the rarest class, or the whole set, has fewer units


def stratified(labels: np.ndarray, units: np.ndarray, seed: int) -> list[np.ndarray]:
    """Held-out masks, bool (M,), stratified by class over units; none if a class has fewer than two units.

    Args:
        labels: int (M,).
        units: int (M,).
        seed: random seed.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    per_class = [len(np.unique(units[labels == label])) for label in np.unique(labels)]
    count = min(FOLDS, *per_class)
    if count < 2:
        return []
    # Without groups the plain splitter, which divides every class evenly however small it is.
    grouped = len(np.unique(units)) < len(units)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(count, shuffle=True, random_state=seed)
    features = np.empty((len(labels), 0))
    parts = splitter.split(features, labels, units) if grouped else splitter.split(features, labels)
    return [
        np.isin(np.arange(len(labels)), held) for kept, held in parts if len(np.unique(labels[kept])) == len(per_class)
    ]


def stratified_by_labels(targets: np.ndarray, units: np.ndarray, seed: int) -> list[np.ndarray]:
    """Held-out masks, bool (N,), of images with several labels; each fold gets its share of images and of every class.

    Args:
        targets: int (N, K), 1 where the image has the class.
        units: int (N,).
        seed: random seed.

    Returns:
        `FOLDS` masks, or one per unit if there are fewer; none for fewer than two units.
    """
    number = np.unique(units, return_inverse=True)[1].ravel()
    count = min(FOLDS, int(number.max(initial=-1)) + 1)
    if count < 2:
        return []
    table = np.zeros((int(number.max()) + 1, targets.shape[1] + 1))
    np.add.at(table, number, np.column_stack([np.ones(len(targets)), targets]))  # images, then each class
    fold = _dealt(table, count, np.random.default_rng((seed, 4)))[number]
    return [fold == one for one in range(count)]


def strata(truth: np.ndarray) -> np.ndarray:
    """The stratum of each image, int (N,), see `Task.strata`."""
    return of_truth(truth).strata(truth)


def deals(truth: np.ndarray, units: np.ndarray, *, folds: int, repeats: int, seed: int) -> list[np.ndarray]:
    """Repeated fold assignments, int64 (N,) each, see `deal`; with at most as many folds as units."""
    count, labels = min(folds, len(np.unique(units))), strata(truth)
    return [deal(labels, units, count, np.random.default_rng((seed, repeat))) for repeat in range(repeats)]


def deal(labels: np.ndarray, units: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Fold of each image, int64 (N,); units stay whole, and each fold gets its share of each class as far as possible.

    Args:
        labels: int (N,), 0..K-1, see `strata`.
        units: int (N,), 0..U-1.
        count: number of folds, 2 to U.
        random: determines the order.
    """
    table = np.zeros((int(units.max()) + 1, int(labels.max()) + 1))
    np.add.at(table, (units, labels), 1)
    return _dealt(table, count, random)[units]


def _dealt(table: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Fold of each unit, int64 (U,); row u of the table (U, D) holds the counts to be balanced.

    Units are assigned in random order, those of rare columns first, each to the fold furthest below its share; ties go
    to the fold with fewest.
    """
    totals = np.maximum(table.sum(axis=0), 1)
    rarest = np.where(table > 0, totals, np.inf).min(axis=1)
    shuffled = random.permutation(len(table))
    held, weight = np.zeros((count, table.shape[1])), table / totals
    fold = np.empty(len(table), np.int64)
    for unit in shuffled[np.argsort(rarest[shuffled], kind="stable")].tolist():
        fold[unit] = np.lexsort((held.sum(axis=1), np.round(held @ weight[unit], 9)))[0]
        held[fold[unit]] += table[unit]
    return fold


def in_turn(labels: np.ndarray, units: np.ndarray, seed: int, count: int = FOLDS) -> np.ndarray:
    """Fold 0..count-1 of each image, int64 (n,): units whole, assigned class by class."""
    random = np.random.default_rng(seed)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    of_unit = np.empty(len(first), np.int64)
    dealt = 0
    for label in np.unique(labels[first]):
        members = random.permutation(np.flatnonzero(labels[first] == label))
        of_unit[members] = (dealt + np.arange(len(members))) % count
        dealt += len(members)
    return of_unit[inverse.ravel()]


# -- training, validation and test: units assigned class by class -----------------------------------

TRAIN, VAL, TEST = range(3)


@dataclass(frozen=True)
class Units:
    """U units in order of assignment, each of one or more parts, a part being the images of one class.

    Args:
        of_row: int64 (N,), the unit of every row.
        starts: int64 (U + 1,), the first part of each unit.
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
        """Build units from rows: those with the same name form a unit; units are ordered by their smallest key.

        Args:
            names: int64 (N,).
            labels: int64 (N,), 0..classes-1; or bool (N, classes), at least one per row.
            keys: uint64 (N,).
            classes: number of classes.
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
        """Number of images of each class, int64 (K,), in all or some parts."""
        return np.bincount(self.labels[parts], weights=self.sizes[parts], minlength=self.classes).astype(np.int64)

    def parts(self, unit: int) -> list[tuple[int, int]]:
        """The (class, images) pairs of a unit."""
        own = slice(self.starts[unit], self.starts[unit + 1])
        return list(zip(self.labels[own].tolist(), self.sizes[own].tolist(), strict=True))


def deal_splits(units: Units, *, val: float, test: float) -> np.ndarray:
    """Assign rows to splits; int8 (N,) codes: 0 train, 1 val, 2 test."""
    return (_deal_crossed if units.crossed else _deal_pure)(units, val, test)


def _deal_pure(units: Units, val: float, test: float) -> np.ndarray:
    """The assignment if most units are of one class.

    Units that span classes are assigned first, in the same fractions as all, so that neither split gets
    more than its share of these. Then each class takes its own units until its targets are met, val
    from the front and test from the back.
    """
    table = _table(units, val, test)
    table.deal_mixed(VAL, val)
    table.deal_mixed(TEST, test)
    table.deal_pure()
    for code in (VAL, TEST):
        table.give_at_least_one(code)
    return table.side[units.of_row]


def _deal_crossed(units: Units, val: float, test: float) -> np.ndarray:
    """The assignment if most units span classes.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): always the class with fewest units left. Each of
    its units goes to the split furthest below its target, measured not on that class alone, as in the paper, which
    leaves common classes to chance, but on all classes of the unit and the number of images.
    """
    table, shares = _table(units, val, test), {TRAIN: 1 - val - test, VAL: val, TEST: test}
    sides, counts = [code for code, share in shares.items() if share > 0], units.counts()
    # The filled fraction of each split's target by class and, last, of images: 1 is full.
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
    """Target images of each class, int64 (K,): the rounded fraction, at least one if it has `enough` units."""
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
    """The initial state: everything in train."""
    counts = units.counts()
    units_of_class = np.bincount(units.labels, minlength=units.classes)
    wanted = {
        VAL: _targets(counts, units_of_class, val, 3),
        TEST: _targets(counts, units_of_class, test, 4 if val else 3),
    }
    _leave_one_to_train(counts, wanted)
    return _Table(units, wanted)


class _Table:
    """The state of the assignment.

    Args:
        units: the units to assign.
        wanted: for val and test, int64 (K,) target images of each class.
    """

    def __init__(self, units: Units, wanted: dict[int, np.ndarray]) -> None:
        self.units = units
        self.wanted = wanted
        self.side = np.zeros(len(units.starts) - 1, dtype=np.int8)  # split of each unit
        self.have = {code: [0] * units.classes for code in wanted}  # images of each class
        self.left: list[int] = units.counts().tolist()  # images of each class in train; never taken below one
        self.pure = np.diff(units.starts) == 1

    def take(self, unit: int, parts: list[tuple[int, int]], code: int) -> bool:
        """Move a unit out of train, unless a class would have no training images left; return whether it was moved."""
        if self.side[unit] != TRAIN or any(self.left[label] <= size for label, size in parts):
            return False
        self.side[unit] = code
        for label, size in parts:
            self.have[code][label] += size
            self.left[label] -= size
        return True

    def deal_mixed(self, code: int, fraction: float) -> None:
        """Take units that span classes: first those that fit entirely, then those that bring counts closer to targets.

        Closeness is the sum of squares over classes, each divided by the size of the class so that rare
        classes count as much.
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
        """Fill each class's remaining target from its own units."""
        own = np.flatnonzero(self.pure)
        labels = self.units.labels[self.units.starts[own]]
        own = own[np.argsort(labels, kind="stable")]
        ends = np.cumsum(np.bincount(labels, minlength=self.units.classes))
        for label, units in enumerate(np.split(own, ends[:-1])):
            self._take_pure(units, label, VAL)
            self._take_pure(units[::-1], label, TEST)

    def _take_pure(self, units: np.ndarray, label: int, code: int) -> None:
        """Take units from the front, skipping those larger than the remaining target."""
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
        """If every unit exceeds the target, take the smallest that may leave train or be exchanged."""
        for label in np.flatnonzero(self.wanted[code]).tolist():
            if self.have[code][label]:
                continue
            holders = np.searchsorted(self.units.starts, np.flatnonzero(self.units.labels == label), side="right") - 1
            sizes = np.add.reduceat(self.units.sizes, self.units.starts[:-1])[holders]
            ordered = holders[np.argsort(sizes, kind="stable")].tolist()
            if not any(self.take(unit, self.units.parts(unit), code) for unit in ordered):
                any(self._exchange(unit, code) for unit in ordered)

    def _exchange(self, unit: int, code: int) -> bool:
        """Take a unit from its current split and give back at most one, if no split loses its last image of a class.

        Needed if units span most classes, so that none may simply leave train.
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
        """Whether a split that should have a class still has it after losing `lost` of its images."""
        return self._of(side)[label] > lost or not (side == TRAIN or self.wanted[side][label])
