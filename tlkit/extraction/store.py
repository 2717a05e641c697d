"""The feature store: what a network emitted for an image, on disk, addressed by content.

    CACHE/features/SPACE/space.json     what the numbers are: weights, input contract, layer, view, ...
                        /lease          locked by those who use the space; its time is when it was last used
                        /ID.npy, ID.ids shards

A *space* is everything that decides a row apart from the image itself; its name is the sha256 of
its description. Shards appear whole, so any number of processes may append at once, a kill loses at
most the rows of the last few seconds, and nothing half-written is ever read.
"""

import json
import math
import mmap
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing, sha256_json, write_text
from tlkit.base.machine import cache_dir
from tlkit.extraction.lease import Lease, alone, take

SHARD_BYTES = 64 * 2**20  # what a shard holds at most, near enough
MANY = 16  # shards of about one size are joined; looking rows up costs 0.1 ms for each shard
KEY_BYTES = 32

Shard = tuple[np.ndarray, np.ndarray]  # keys uint8 (n, 32), values (n, ...) memory-mapped


def write_shard(folder: Path, keys: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
    """Write blocks of keys uint8 (n, 32) and of values (n, ...) as one shard."""
    name = folder / secrets.token_hex(8)
    rows, first = sum(map(len, values)), values[0]
    header = {"descr": npy.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (rows, *first.shape[1:])}
    with replacing(name.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
        npy.write_array_header_1_0(file, header)
        for block in values:
            file.write(np.ascontiguousarray(block).data)
    # Names that a loss of power turned into nothing or zeros match no image, so there is no need to wait for them.
    with replacing(name.with_suffix(".ids"), durable=False) as temporary:
        np.concatenate(keys).tofile(temporary)


def read_shards(folder: Path) -> list[Shard]:
    """Every shard, its values memory-mapped; a damaged one does not exist."""
    while True:
        shards = []
        for ids in list_ids(folder):
            try:
                keys = np.fromfile(ids, np.uint8).reshape(-1, KEY_BYTES)
                values = np.load(ids.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            except FileNotFoundError:
                if not ids.exists():  # joined into another a moment ago: look again
                    break
            except (ValueError, EOFError):
                continue
            else:
                shards += [(keys, values)] if len(keys) == len(values) else []
        else:
            return shards


def drop_pages(values: Sequence[np.ndarray]) -> None:
    """Let go of the memory behind memory-mapped arrays; the system still has the pages for the next who reads them."""
    for array in values:
        if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            array.base.madvise(mmap.MADV_DONTNEED)


def list_ids(folder: Path) -> list[Path]:
    """The `.ids` files of the shards in a folder."""
    return sorted(folder.glob("[!.]*.ids"))


def join_shards(folder: Path) -> None:
    """Join small shards, sixteen or more of about one size at a time.

    A row is so rewritten at most once for every factor of sixteen in size, and a space that was
    filled in thousands of small steps is a few dozen files. Somebody else joining here is left to it.
    """
    with alone(folder, "join") as mine:
        while mine and (parts := _joinable(folder)):
            shards = [(np.fromfile(ids, np.uint8).reshape(-1, KEY_BYTES), _values(ids)) for ids in parts]
            keys = np.concatenate([keys for keys, _ in shards])
            values = np.concatenate([values for _, values in shards])
            _, first = np.unique(keys.view(f"V{KEY_BYTES}").ravel(), return_index=True)
            write_shard(folder, [keys[first]], [values[first]])
            for ids in parts:
                ids.unlink()
                ids.with_suffix(".npy").unlink()


def _values(ids: Path) -> np.ndarray:
    return np.load(ids.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)


def _joinable(folder: Path) -> list[Path]:
    """Shards of about one size, as many as fit into one; none where there are not many."""
    alike: dict[int, list[tuple[Path, int]]] = {}
    for ids in list_ids(folder):
        values = ids.with_suffix(".npy")
        size = values.stat().st_size if values.exists() else SHARD_BYTES
        if size < SHARD_BYTES // MANY:
            alike.setdefault(int(math.log(size, MANY)), []).append((ids, size))
    for group in alike.values():
        if len(group) >= MANY:
            fitting = np.cumsum([size for _, size in group]) <= SHARD_BYTES
            return [ids for (ids, _), fits in zip(group, fitting, strict=True) if fits]
    return []


# -- The feature store: what a network emitted for an image, on disk, addressed by content -----

FORMAT = 2
SHARD_SECONDS = 10.0  # a shard is written when it is full or this old: what a kill may cost


@dataclass(frozen=True)
class Space:
    """One kind of feature and the folder of its shards, which is not removed while this object lives.

    Args:
        folder: of the shards.
        description: JSON-able; everything a row depends on apart from the image.
        lease: what keeps the folder.
    """

    folder: Path
    description: Mapping[str, Any]
    lease: Lease

    @property
    def dtype(self) -> np.dtype:
        """In which the rows are stored."""
        return np.dtype(self.description.get("stored", "float32"))


def store_dir() -> Path:
    """The folder of the spaces."""
    return cache_dir()[0] / "features"


def open_space(description: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Space:
    """The space of these numbers; the folder and its description are made on first use.

    Args:
        description: everything that decides a row apart from the image; `stored` is its number format.
        about: what people call it, for `tlkit cache show`.

    Raises:
        TlkitError: when the store cannot be written.
    """
    full = {"format": FORMAT, **description}
    folder = store_dir() / sha256_json(full)[:32]
    try:
        lease = take(folder)
        if not (folder / "space.json").exists():
            write_text(folder / "space.json", json.dumps({**full, "about": about or {}}, indent=2) + "\n")
    except OSError as error:
        raise TlkitError(
            f"the feature store {str(folder)!r} cannot be written: {error.strerror}.",
            "set TLKIT_CACHE to a folder that can be.",
        ) from error
    return Space(folder, full, lease)


class StoredFeatures:
    """Rows of a space for a list of images, read from disk as they are asked for.

    Args:
        space: where they are.
        shards: memory-mapped arrays (n_i, ...).
        shard: int32 (N,), which shard holds row i; -1 where no shard does.
        row: int64 (N,), where in it.
    """

    def __init__(self, space: Space, shards: list[np.ndarray], shard: np.ndarray, row: np.ndarray) -> None:
        self._space, self._shards, self._shard, self._row = space, shards, shard, row
        self._copied = 0

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
        return StoredFeatures(self._space, self._shards, self._shard[indices], self._row[indices])

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        """float32 (n, ...), copied into memory, whatever the rows are stored in."""
        shard, row = self._shard[indices], self._row[indices]
        if (shard < 0).any():
            raise KeyError("rows that were never stored")
        if not len(shard):
            return np.empty((0, *self.shape[1:]), np.float32)
        out = np.empty((len(shard), *self._shards[0].shape[1:]), np.float32)
        for number in np.unique(shard):
            here = shard == number
            out[here] = self._shards[number][row[here]]
        self._copied += out.nbytes
        if self._copied >= SHARD_BYTES:
            # Pages that were read would count as this process's memory until somebody else wants it.
            drop_pages(self._shards)
            self._copied = 0
        return out


def look_up(space: Space, sha256: np.ndarray) -> StoredFeatures:
    """Find the rows of these images.

    Args:
        space: where to look.
        sha256: uint8 (N, 32) of the images.
    """
    shards: list[Shard] = read_shards(space.folder)
    shard = np.full(len(sha256), -1, np.int32)
    row = np.zeros(len(sha256), np.int64)
    if not sum(len(keys) for keys, _ in shards):
        return StoredFeatures(space, [], shard, row)
    known = np.concatenate([keys for keys, _ in shards])
    owner = np.repeat(np.arange(len(shards), dtype=np.int32), [len(keys) for keys, _ in shards])
    local = np.concatenate([np.arange(len(keys)) for keys, _ in shards])
    # The first 8 bytes order the keys; the other 24 then confirm the match.
    short = np.ascontiguousarray(known[:, :8]).view("<u8").ravel()
    wanted = np.ascontiguousarray(sha256[:, :8]).view("<u8").ravel()
    order = np.argsort(short, kind="stable")
    place = order[np.minimum(np.searchsorted(short, wanted, sorter=order), len(order) - 1)]
    found = (known[place] == sha256).all(axis=1)
    shard[found], row[found] = owner[place[found]], local[place[found]]
    return StoredFeatures(space, [values for _, values in shards], shard, row)


class Appender:
    """Collects rows and writes them out as shards; use as a context, leaving it writes the rest.

    Args:
        space: where the rows belong.
        most: bytes to hold before a shard is written.
    """

    def __init__(self, space: Space, most: int = SHARD_BYTES) -> None:
        self._space, self._most = space, most
        self._keys: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._since = time.monotonic()

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()
        join_shards(self._space.folder)

    def append(self, sha256: np.ndarray, values: np.ndarray) -> None:
        """Add rows: uint8 (n, 32) and float32 (n, ...).

        Raises:
            TlkitError: when a value is beyond what the space's number format holds, or the disk is full.
        """
        if not len(sha256):
            return
        self._values.append(self._stored(values))
        self._keys.append(sha256)
        held = sum(block.nbytes for block in self._values)
        if held >= self._most or time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one shard."""
        keys, values = self._keys, self._values
        self._keys, self._values, self._since = [], [], time.monotonic()
        if not keys:
            return
        try:
            write_shard(self._space.folder, keys, values)
        except OSError as error:
            raise TlkitError(
                f"the feature store {str(self._space.folder)!r} cannot be written: {error.strerror}.",
                "make room on its disk (`tlkit cache clear --older-than 7`), or set TLKIT_CACHE to another; "
                "what was computed so far stays.",
            ) from error

    def _stored(self, values: np.ndarray) -> np.ndarray:
        """The values in the number format of the space."""
        dtype = self._space.dtype
        with np.errstate(over="ignore"):
            stored = values.astype(dtype, copy=False)
        lost = np.isinf(stored) & np.isfinite(values) if dtype != values.dtype else np.zeros(1, bool)
        if lost.any():
            raise TlkitError(
                f"{self._space.description.get('output', 'the network')} gives {values[lost][0]:g}, "
                f"and {dtype} holds {np.finfo(dtype).max:g} at most.",
                "use --stored-as float32.",
            )
        return stored
