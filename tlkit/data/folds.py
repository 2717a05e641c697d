"""Folds: who is held out with whom, when every image is held out once. Images of one unit always share a fold.

    stratified   masks of scikit-learn's splitters, for images with one label: what the probe and cross-validated
                 training are chosen by; none where a class has a single unit
    deal         greedily, each unit to the fold that lacks its classes most: several labels, rare classes, rankings
    in_turn      class by class, unit by unit: each fold of the audit's probe may lack a class that has few units

Each has results that rest on it (choices recorded in runs, rankings, findings), so none takes the place of another.
"""

import numpy as np

from tlkit.tasks.registry import of_truth

FOLDS = 5  # as many as there are units of the rarest class, or in all, where those are fewer


def stratified(labels: np.ndarray, units: np.ndarray, seed: int) -> list[np.ndarray]:
    """Bool (M,) held-out masks, stratified by class over units; empty when a class has fewer than two units.

    Args:
        labels: int (M,).
        units: int (M,).
        seed: of the deal.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    per_class = [len(np.unique(units[labels == label])) for label in np.unique(labels)]
    count = min(FOLDS, *per_class)
    if count < 2:
        return []
    # Without groups the plain one, which shares every class out evenly however few images it has.
    grouped = len(np.unique(units)) < len(units)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(count, shuffle=True, random_state=seed)
    features = np.empty((len(labels), 0))
    parts = splitter.split(features, labels, units) if grouped else splitter.split(features, labels)
    return [
        np.isin(np.arange(len(labels)), held) for kept, held in parts if len(np.unique(labels[kept])) == len(per_class)
    ]


def stratified_by_labels(targets: np.ndarray, units: np.ndarray, seed: int) -> list[np.ndarray]:
    """Bool (N,) held-out masks of images with several labels; each fold gets its share of images and of every class.

    Args:
        targets: int (N, K), 1 where the image has the class.
        units: int (N,).
        seed: of the deal.

    Returns:
        As many masks as `FOLDS`, or as there are units; none for fewer than two units.
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
    """Int (N,), what an image is counted as where classes get their share, see `Task.strata`."""
    return of_truth(truth).strata(truth)


def deals(truth: np.ndarray, units: np.ndarray, *, folds: int, repeats: int, seed: int) -> list[np.ndarray]:
    """Several deals, int64 (N,) each, see `deal`; as many folds as there are units where those are fewer."""
    count, labels = min(folds, len(np.unique(units))), strata(truth)
    return [deal(labels, units, count, np.random.default_rng((seed, repeat))) for repeat in range(repeats)]


def deal(labels: np.ndarray, units: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """int64 (N,) fold of each image; a unit stays whole, and each fold gets its share of each class as far as that goes.

    Args:
        labels: int (N,), 0..K-1, see `strata`.
        units: int (N,), 0..U-1.
        count: of folds, 2 to U.
        random: decides the order.
    """
    table = np.zeros((int(units.max()) + 1, int(labels.max()) + 1))
    np.add.at(table, (units, labels), 1)
    return _dealt(table, count, random)[units]


def _dealt(table: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """int64 (U,) fold of each unit, whose row of the table (U, D) counts what is to be shared out.

    Units are dealt in random order, those of rare columns first, each to the fold that has least of its share; among
    equals to the one with fewest.
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
    """int64 (n,), fold 0..count-1 of each image: units whole, the classes dealt out one after the other."""
    random = np.random.default_rng(seed)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    of_unit = np.empty(len(first), np.int64)
    dealt = 0
    for label in np.unique(labels[first]):
        members = random.permutation(np.flatnonzero(labels[first] == label))
        of_unit[members] = (dealt + np.arange(len(members))) % count
        dealt += len(members)
    return of_unit[inverse.ravel()]
