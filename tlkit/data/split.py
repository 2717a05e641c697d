"""Who trains, who validates, who tests: a function of content, so that it survives renaming and growth."""

import numpy as np

from tlkit.core.manifest import Manifest
from tlkit.core.splits import SPLITS, UNASSIGNED, Splits
from tlkit.data.deal import Units, deal, deal_several
from tlkit.data.keras_split import keras_codes
from tlkit.data.units import order_keys, unit_of_rows

TRAIN, VAL, TEST = range(3)


def split(manifest: Manifest, *, val: float, test: float, seed: int, keras_split: float | None = None) -> Splits:
    """Split by content, as given, or as Keras would.

    Within each class, images are ordered by a hash of seed and content (or group) and cut: val from
    the front, test from the back, so that adding images moves few others. Exact duplicates and the
    images of a group stay on one side. Every class keeps an image in train; from three units on
    (images, or groups of them) it has one in val, from four on one in test as well.

    Splits that the folders or the manifest file name are kept as they are. Only a missing val is
    then carved out of train.

    Args:
        manifest: the images; those without a label count as one class. One of several labels counts for each.
        val: fraction 0..1 of each class.
        test: fraction 0..1 of each class.
        seed: another seed gives another split.
        keras_split: instead of all that, `image_dataset_from_directory(validation_split=keras_split,
            subset="both", seed=seed)`: the same files in val.

    Raises:
        TlkitError: `keras_split` where Keras could not read the layout.
    """
    units = unit_of_rows(manifest)
    if keras_split is not None:
        codes, note = keras_codes(manifest, keras_split, seed)
        origin = f"as image_dataset_from_directory(validation_split={keras_split}, seed={seed}) does{note}"
        return Splits(codes, _rule(codes, origin, _straddling(codes, units)))
    if (manifest.given != UNASSIGNED).any():
        codes, origin = _as_given(manifest, units, val, seed)
        return Splits(codes, _rule(codes, origin, _straddling(codes, units)))
    codes = _dealt(manifest, units, np.arange(len(manifest)), val, test, seed)
    origin = f"drawn within each class by content (seed {seed}, val {val:g}, test {test:g}){_kept(manifest, units)}"
    return Splits(codes, _rule(codes, origin, 0))


def _as_given(manifest: Manifest, units: np.ndarray, val: float, seed: int) -> tuple[np.ndarray, str]:
    """The given split; rows that name none train; a missing val comes out of train."""
    codes = np.where(manifest.given == UNASSIGNED, TRAIN, manifest.given).astype(np.int8)
    blank = int((manifest.given == UNASSIGNED).sum())
    origin = "as given" + (f", the {blank} images without a split in train" if blank else "")
    pool = np.flatnonzero(codes == TRAIN)
    if (codes == VAL).any() or not val or not len(pool):
        return codes, origin
    codes[pool] = _dealt(manifest, units, pool, val, 0.0, seed)
    return codes, f"{origin}, but val, which was missing, drawn from train by content (seed {seed}, val {val:g})"


def _dealt(manifest: Manifest, units: np.ndarray, rows: np.ndarray, val: float, test: float, seed: int) -> np.ndarray:
    """int8 codes of `rows`, split among themselves."""
    if not len(rows):
        return np.empty(0, dtype=np.int8)
    keys = order_keys(manifest, rows, seed)
    found = Units.of_rows(units[rows], _classes_of(manifest, rows), keys, classes=len(manifest.classes) + 1)
    return (deal_several if manifest.multi else deal)(found, val=val, test=test)


def _classes_of(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """Class 0..K of each row, 0 for none: int (n,), or bool (n, K + 1) where an image may have several."""
    if manifest.targets is None:
        return manifest.labels[rows] + 1
    has = manifest.targets[rows] == 1
    return np.column_stack([~has.any(axis=1), has])


def _straddling(codes: np.ndarray, units: np.ndarray) -> int:
    """How many units have images on more than one side."""
    highest = np.full(len(units), -1, dtype=np.int8)
    lowest = np.full(len(units), len(SPLITS), dtype=np.int8)
    np.maximum.at(highest, units, codes)
    np.minimum.at(lowest, units, codes)
    return int((highest > lowest).sum())


def _kept(manifest: Manifest, units: np.ndarray) -> str:
    """What was kept together, for the rule."""
    if manifest.groups is not None:
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
