"""What a split may not tear apart: exact duplicates, groups, and whatever those join."""

import hashlib

import numpy as np

from tlkit.core.manifest import Manifest


def unit_of_rows(manifest: Manifest) -> np.ndarray:
    """int64 (N,): the first row of the unit that each row belongs to.

    Rows of equal content or equal group are of one unit, and so is everything that this connects.
    An empty group name is no group.
    """
    links = [_first_equal(np.ascontiguousarray(manifest.sha256).view("V32").ravel())]
    if manifest.groups is not None:
        names = np.unique(np.array(manifest.groups, dtype=object), return_inverse=True)[1]
        alone = np.array([not name for name in manifest.groups])
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


def order_keys(manifest: Manifest, rows: np.ndarray, seed: int) -> np.ndarray:
    """uint64 (n,) of `rows`: 8 bytes of sha256 over the seed and the group, or the content where there is none."""
    start = hashlib.sha256(f"{seed}:".encode())
    digests = bytearray()
    for row in rows.tolist():
        name = manifest.groups[row] if manifest.groups is not None else ""
        digest = start.copy()
        digest.update(name.encode("utf-8", "surrogateescape") if name else manifest.sha256[row])
        digests += digest.digest()[:8]
    return np.frombuffer(digests, dtype="<u8")
