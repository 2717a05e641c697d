"""The feature store: what a network emitted for an image, on disk, addressed by content.

    CACHE/features/SPACE/space.json     what the numbers are: weights, input contract, layer, view
                        /ID.npy         float32 (n, ...), one shard
                        /ID.ids         n x 32 bytes, the sha256 of the image of each row

A *space* is everything that decides a row apart from the image itself; its name is the sha256 of
its description. Shards are written whole, values first and ids last, by rename: a shard without
ids does not exist. So any number of processes may append at once, a kill loses at most the rows
of the last few seconds, and nothing half-written is ever read.
"""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.core.atomic import replacing, write_text
from tlkit.core.cache_dir import cache_dir
from tlkit.core.errors import TlkitError
from tlkit.core.fingerprint import sha256_json

FORMAT = 1
SHARD_BYTES = 64 * 2**20  # a shard is written when it holds this much ...
SHARD_SECONDS = 10.0  # ... or is this old, whichever comes first: what a kill may cost


@dataclass(frozen=True)
class Space:
    """One kind of feature and the folder of its shards.

    Args:
        folder: of the shards.
        description: JSON-able; everything a row depends on apart from the image.
    """

    folder: Path
    description: Mapping[str, Any]


def open_space(description: Mapping[str, Any]) -> Space:
    """The space of these numbers; the folder and its description are made on first use."""
    full = {"format": FORMAT, **description}
    folder = cache_dir()[0] / "features" / sha256_json(full)[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "space.json").exists():
            write_text(folder / "space.json", json.dumps(full, indent=2) + "\n")
    except OSError as error:
        raise TlkitError(
            f"the feature store {str(folder)!r} cannot be written: {error.strerror}.",
            "set TLKIT_CACHE to a folder that can be.",
        ) from error
    return Space(folder, full)


class StoredFeatures:
    """Rows of a space for a list of images, read from disk as they are asked for.

    Args:
        shards: memory-mapped arrays (n_i, ...).
        shard: int32 (N,), which shard holds row i; -1 where no shard does.
        row: int64 (N,), where in it.
    """

    def __init__(self, shards: list[np.ndarray], shard: np.ndarray, row: np.ndarray) -> None:
        self._shards, self._shard, self._row = shards, shard, row

    def __len__(self) -> int:
        return len(self._shard)

    @property
    def lacking(self) -> np.ndarray:
        """Bool (N,), images that have no row yet."""
        return self._shard < 0

    def present(self) -> "StoredFeatures":
        """Without the images that have no row."""
        return self.select(np.flatnonzero(self._shard >= 0))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...); needs at least one row."""
        return (len(self), *self._shards[0].shape[1:])

    def select(self, indices: np.ndarray) -> "StoredFeatures":
        """Some of the images."""
        return StoredFeatures(self._shards, self._shard[indices], self._row[indices])

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        """float32 (n, ...), copied into memory."""
        shard, row = self._shard[indices], self._row[indices]
        if (shard < 0).any():
            raise KeyError("rows that were never stored")
        if not len(shard):
            return np.empty((0, *self.shape[1:]), np.float32)
        out = np.empty((len(shard), *self._shards[0].shape[1:]), self._shards[0].dtype)
        for number in np.unique(shard):
            here = shard == number
            out[here] = self._shards[number][row[here]]
        return out


def look_up(space: Space, sha256: np.ndarray) -> StoredFeatures:
    """Find the rows of these images.

    Args:
        space: where to look.
        sha256: uint8 (N, 32) of the images.
    """
    shards, ids = [], []
    for path in sorted(space.folder.glob("[!.]*.ids")):
        values = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        keys = np.fromfile(path, dtype=np.uint8).reshape(-1, 32)
        if len(keys) == len(values):
            shards.append(values)
            ids.append(keys)
    shard = np.full(len(sha256), -1, np.int32)
    row = np.zeros(len(sha256), np.int64)
    if not shards:
        return StoredFeatures([], shard, row)
    known = np.concatenate(ids)
    owner = np.repeat(np.arange(len(ids), dtype=np.int32), [len(keys) for keys in ids])
    local = np.concatenate([np.arange(len(keys)) for keys in ids])
    # The first 8 bytes order the keys; the other 24 then confirm the match.
    short = np.ascontiguousarray(known[:, :8]).view("<u8").ravel()
    wanted = np.ascontiguousarray(sha256[:, :8]).view("<u8").ravel()
    order = np.argsort(short, kind="stable")
    place = order[np.minimum(np.searchsorted(short, wanted, sorter=order), len(order) - 1)]
    found = (known[place] == sha256).all(axis=1)
    shard[found], row[found] = owner[place[found]], local[place[found]]
    return StoredFeatures(shards, shard, row)


class Appender:
    """Collects rows and writes them out as shards; use as a context, leaving it writes the rest.

    Args:
        space: where the rows belong.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._keys: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._since = time.monotonic()

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()

    def append(self, sha256: np.ndarray, values: np.ndarray) -> None:
        """Add rows: uint8 (n, 32) and float32 (n, ...)."""
        if not len(sha256):
            return
        self._keys.append(sha256)
        self._values.append(values)
        held = sum(block.nbytes for block in self._values)
        if held >= SHARD_BYTES or time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one shard."""
        if self._keys:
            name = self._space.folder / secrets.token_hex(8)
            with replacing(name.with_suffix(".npy")) as temporary:
                np.save(temporary, np.concatenate(self._values), allow_pickle=False)
            with replacing(name.with_suffix(".ids")) as temporary:
                np.concatenate(self._keys).tofile(temporary)
        self._keys, self._values, self._since = [], [], time.monotonic()
