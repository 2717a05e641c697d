"""Several labels an image: how they are written in a table, and as rows of 0 and 1."""

from collections.abc import Iterable, Sequence

import numpy as np

from tlkit.base.errors import TlkitError

SEPARATOR = "|"  # between the labels of an image; alone it is an image of none of the classes
UNKNOWN = -1


def are_several(texts: Iterable[str]) -> bool:
    """Whether a column of labels is one of several labels an image: any of them holds `|`."""
    return any(SEPARATOR in text for text in texts)


def read_labels(text: str, place: str) -> tuple[str, ...]:
    """`cat | dog` as ("cat", "dog"), `|` as (), in the order they are written; spaces around a name do not count.

    Raises:
        TlkitError: a name is empty or there twice; `place` says where ("row 7 of 'images.csv'").
    """
    names = tuple(name.strip() for name in text.split(SEPARATOR))
    if not any(names):
        names = ()
    if "" in names:
        raise TlkitError(
            f"{place} has label {text!r}, with nothing on one side of {SEPARATOR!r}.",
            f"write cat{SEPARATOR}dog for two labels, cat for one, {SEPARATOR} alone for none of the classes.",
        )
    if len(set(names)) < len(names):
        raise TlkitError(f"{place} has label {text!r}, which names a class twice.", "name every class once.")
    return names


def written(names: Iterable[str]) -> str:
    """What `read_labels` reads."""
    return SEPARATOR.join(names) or SEPARATOR


def encode(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """int8 (N, K) of labels as they are written: 1 where the image has the class, 0 where not; "" is a row of -1.

    Args:
        labels: N texts that `read_labels` can read, or "".
        classes: K names, every one that occurs among them.
    """
    codes = {name: code for code, name in enumerate(classes)}
    texts, inverse = np.unique(np.array(labels, dtype=object), return_inverse=True)
    rows = np.zeros((len(texts), len(classes)), np.int8)
    for row, text in zip(rows, texts.tolist(), strict=True):
        if not text:
            row[:] = UNKNOWN
        row[[codes[name] for name in read_labels(text, "a row")]] = 1
    return rows[inverse.ravel()]


def decode(row: np.ndarray, classes: Sequence[str]) -> str:
    """A row int (K,) or bool as it is written, labels in class order; "" where it is unknown."""
    return "" if (row < 0).any() else written(classes[code] for code in np.flatnonzero(row).tolist())


def reordered(targets: np.ndarray, found: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Targets int8 (N, k) of the classes `found` as int8 (N, K) of `classes`, which hold them all; others are 0."""
    made = np.zeros((len(targets), len(classes)), np.int8)
    made[:, [classes.index(name) for name in found]] = targets
    made[(targets < 0).any(axis=1)] = UNKNOWN
    return made
