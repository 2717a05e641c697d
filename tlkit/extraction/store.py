"""The feature store: outputs of networks for images, on disk, addressed by content.

    CACHE/features/SPACE/space.json     description of the numbers: weights, input contract, layer, view, ...
                        /lease          locked by users of the space; its time is when it was last used
                        /ID.npy, ID.idx shards, see `shards`

A *space* is everything that determines a row apart from the image itself; its name is the sha256 of
its description. Shards appear atomically, so any number of processes may append at once, being killed
loses at most the rows of the last few seconds, and nothing half-written is ever read. Rows are checked
when they are looked up: damaged ones count as missing, and are computed again.
"""

import contextlib
import errno
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import sha256_json, write_text
from tlkit.base.machine import cache_dir, usable_cores
from tlkit.extraction.lease import Lease, take
from tlkit.extraction.shards import (
    SHARD_BYTES,
    Damaged,
    Shard,
    ShardWriter,
    drop_pages,
    join_shards,
    list_shards,
    read_shard,
    set_aside,
    shard_writer,
)

FORMAT = 2
MAPPED_BYTES = 16 * 2**20  # of pages read that may stay mapped
SHARD_SECONDS = 10.0  # a shard is written when it is full or this old, which bounds the loss when killed


@dataclass(frozen=True)
class Space:
    """One kind of feature and the folder of its shards, which is not removed while this object lives.

    Args:
        folder: of the shards.
        description: JSON values; everything a row depends on apart from the image.
        lease: keeps the folder.
        damaged: names of the shards that were found damaged.
    """

    folder: Path
    description: Mapping[str, Any]
    lease: Lease
    damaged: set[str] = field(default_factory=set)

    @property
    def dtype(self) -> np.dtype:
        """The type in which rows are stored."""
        return np.dtype(self.description.get("stored", "float32"))


def store_dir() -> Path:
    """The folder of the spaces."""
    return cache_dir()[0] / "features"


def space_folder(description: Mapping[str, Any]) -> Path:
    """The folder of the rows of such numbers, whether it exists or not."""
    return store_dir() / sha256_json({"format": FORMAT, **description})[:32]


def open_space(description: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Space:
    """The space of these numbers; the folder and its description are created on first use.

    Args:
        description: everything that determines a row apart from the image; `stored` is its number format.
        about: readable names, for `tlkit cache show`.

    Raises:
        TlkitError: when the store cannot be written.
    """
    full, folder = {"format": FORMAT, **description}, space_folder(description)
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
    """Rows of a space for a list of images, read from disk on access.

    Args:
        space: where they are; None where they are in memory.
        shards: memory-mapped arrays (n_i, ...).
        shard: int32 (N,), which shard holds row i; -1 where no shard does.
        row: int64 (N,), the index in it.
    """

    def __init__(self, space: Space | None, shards: list[np.ndarray], shard: np.ndarray, row: np.ndarray) -> None:
        self._space, self._shards, self._shard, self._row = space, shards, shard, row
        self._copied = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with every row in memory, for a process that may not have access to the store."""
        return StoredFeatures, (None, [self[:]], np.zeros(len(self), np.int32), np.arange(len(self)))

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
        """float32 (n, ...), copied into memory, for any stored type."""
        shard, row = self._shard[indices], self._row[indices]
        if (shard < 0).any():
            raise KeyError("rows that were never stored")
        if not len(shard):
            return np.empty((0, *self.shape[1:]), np.float32)
        numbers = np.unique(shard)
        if len(numbers) == 1:  # copied once
            out = np.asarray(self._shards[numbers[0]][row], np.float32)
        else:
            out = np.empty((len(shard), *self._shards[0].shape[1:]), np.float32)
            for number in numbers:
                here = shard == number
                out[here] = self._shards[number][row[here]]
        self._copied += out.nbytes
        if self._copied >= MAPPED_BYTES and sum(each.nbytes for each in self._shards) > MAPPED_BYTES:
            # Pages that were read would count as memory of this process until it is needed elsewhere.
            drop_pages(self._shards)
            self._copied = 0
        return out


def look_up(space: Space, sha256: np.ndarray) -> StoredFeatures:
    """Find the rows of these images, and read each once to verify it.

    Damaged ones are removed from the space and noted in `space.damaged`; their images have no row.

    Args:
        space: where to look.
        sha256: uint8 (N, 32) of the images.
    """
    while True:
        shards = _shards(space)
        owner, row = _find(shards, sha256)
        if not _damaged(space, shards, owner, row):
            return StoredFeatures(space, [shard.values for shard in shards], owner, row)


def _shards(space: Space) -> list[Shard]:
    """Every shard whose index is undamaged."""
    shards: list[Shard] = []
    for index in list_shards(space.folder):
        if index.name in space.damaged:
            continue
        try:
            shards.append(read_shard(index))
        except FileNotFoundError:  # joined into another a moment ago
            return _shards(space)
        except (Damaged, OSError) as error:
            stale = isinstance(error, OSError) and error.errno == errno.ESTALE  # joined by another machine, on NFS
            if stale or not index.exists():
                return _shards(space)
            _note(space, index, None)
    # Shards from an older tlkit can only be distinguished by their shape.
    shapes = {shard.values.shape[1:] for shard in shards if shard.sums is not None}
    fits = [
        shard.sums is not None
        or (shard.values.dtype == space.dtype and (not shapes or shard.values.shape[1:] in shapes))
        for shard in shards
    ]
    for shard, fit in zip(shards, fits, strict=True):
        if not fit:
            _note(space, shard.index, None)
    return [shard for shard, fit in zip(shards, fits, strict=True) if fit]


def _note(space: Space, index: Path, shard: Shard | None) -> None:
    """Remove a damaged shard from the space; one in a folder that cannot be written is ignored from now on."""
    space.damaged.add(index.name)
    try:
        set_aside(index, shard)
    except OSError:
        return


def _find(shards: Sequence[Shard], sha256: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shard that holds each image, int32 (N,), -1 where none does; and the row in it, int64 (N,)."""
    found_in = np.full(len(sha256), -1, np.int32)
    row = np.zeros(len(sha256), np.int64)
    if not shards:
        return found_in, row
    known = np.concatenate([shard.keys for shard in shards])
    owner = np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard.keys) for shard in shards])
    local = np.concatenate([np.arange(len(shard.keys)) for shard in shards])
    # The first 8 bytes order the keys; the other 24 then confirm the match.
    short = np.ascontiguousarray(known[:, :8]).view("<u8").ravel()
    wanted = np.ascontiguousarray(sha256[:, :8]).view("<u8").ravel()
    order = np.argsort(short, kind="stable")
    place = order[np.minimum(np.searchsorted(short, wanted, sorter=order), len(order) - 1)]
    found = (known[place] == sha256).all(axis=1)
    found_in[found], row[found] = owner[place[found]], local[place[found]]
    return found_in, row


def _damaged(space: Space, shards: Sequence[Shard], owner: np.ndarray, row: np.ndarray) -> bool:
    """Whether a row that was found is damaged, or its shard is missing: then the shards must be read again."""

    def bad(number: int) -> bool:
        return len(shards[number].unsound(row[owner == number])) > 0

    numbers = np.unique(owner[owner >= 0]).tolist()
    if len(numbers) > 1:
        with ThreadPoolExecutor(usable_cores()) as pool:
            found = list(pool.map(bad, numbers))
    else:  # threads would take longer than that
        found = [bad(number) for number in numbers]
    wrong = [shards[number] for number, is_bad in zip(numbers, found, strict=True) if is_bad]
    for shard in wrong:
        if shard.index.exists():  # and was not just joined into another
            _note(space, shard.index, shard)
    return bool(wrong)


class Appender:
    """Writes rows as shards, one after the other, as they come; a context manager that finishes the last one on exit.

    Args:
        space: where the rows belong.
        shared: whether processes on other machines append meanwhile: then none of their files is joined into another,
            because on a network file system a removed file disappears for its readers.
    """

    def __init__(self, space: Space, *, shared: bool = False) -> None:
        self._space = space
        self._written: list[Path] | None = [] if shared else None
        self._shard = ExitStack()  # of the shard that is being written
        self._writer: ShardWriter | None = None
        self._since = time.monotonic()

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()
        join_shards(self._space.folder, self._written)

    def append(self, sha256: np.ndarray, values: np.ndarray) -> None:
        """Add rows: uint8 (n, 32) and float32 (n, ...).

        Raises:
            TlkitError: when a value is beyond what the space's number format holds, or the disk is full.
        """
        if not len(sha256):
            return
        stored = self._stored(values)
        with self._on_disk():
            if self._writer is None:
                shape = stored.shape[1:]
                self._writer = self._shard.enter_context(shard_writer(self._space.folder, stored.dtype, shape))
            self._writer.append(sha256, stored)
        if self._writer.size >= SHARD_BYTES or time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Finish the shard that is being written."""
        writer, self._writer, self._since = self._writer, None, time.monotonic()
        with self._on_disk():
            self._shard.close()
        if writer and self._written is not None:
            self._written.append(writer.index)

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[None]:
        """Within this context, a full or read-only disk is a plain error, and the unfinished shard is dropped."""
        try:
            yield
        except OSError as error:
            shard, self._shard, self._writer = self._shard, ExitStack(), None
            shard.__exit__(type(error), error, error.__traceback__)
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


# -- Features of samples, the single type that heads, probes, transforms, audits, rankings and neighbours read ---

BLOCK = 1024  # grids in memory while they are pooled
CLIPS = 64  # clips likewise
AT_ONCE_BYTES = 16 * 2**20  # of features that a head reads in one batch: the cost of a call outweighs its computation

Chosen = np.ndarray | slice


class ClipFeatures:
    """Features (n, T, C) of clips, assembled from the rows of their frames on access; missing frames are zeros.

    Args:
        frames: (F, C), rows of all frames.
        places: int64 (n, T), the row of each frame of each clip, -1 where it has none.
    """

    def __init__(self, frames: "StoredFeatures | ClipFeatures | np.ndarray", places: np.ndarray) -> None:
        self._frames, self._places = frames, places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, T, C); needs at least one frame."""
        return (*self._places.shape, *self._frames.shape[1:])

    @property
    def lacking(self) -> np.ndarray:
        """Bool (n,), clips with a frame that has no row yet."""
        if isinstance(self._frames, np.ndarray):
            return np.zeros(len(self), bool)
        return (self._frames.lacking[self._places] & (self._places >= 0)).any(axis=1)

    def select(self, indices: np.ndarray) -> "ClipFeatures":
        """Some of the clips; nothing is read."""
        return ClipFeatures(self._frames, self._places[indices])

    def shuffled(self, seed: int) -> "ClipFeatures":
        """The same clips with their frames in a random order, drawn for each clip; missing ones stay last."""
        random = np.random.default_rng((seed, 4))
        places = self._places.copy()
        for row in places:
            row[row >= 0] = random.permutation(row[row >= 0])
        return ClipFeatures(self._frames, places)

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        """float32 (m, T, C), in memory."""
        places = self._places[indices]
        there, shape = places >= 0, (*places.shape, *self._frames.shape[1:])
        if there.all():  # copied once
            return self._frames[places.ravel()].reshape(shape)
        out = np.zeros(shape, np.float32)
        out[there] = self._frames[places[there]]
        return out

    def means(self) -> np.ndarray:
        """float32 (n, C), the mean over the existing frames."""
        out = np.empty((len(self), *self._frames.shape[1:]), np.float32)
        for start in range(0, len(self), CLIPS):
            block = slice(start, start + CLIPS)
            out[block] = self[block].sum(axis=1) / (self._places[block] >= 0).sum(axis=1, keepdims=True)
        return out


@dataclass(frozen=True, eq=False)
class Rows:
    """Features (n, ...) of n samples, read on access; float32 for any stored type.

    Args:
        held: memory-mapped rows of the store, those of the frames of clips, or an array that is already in memory.
    """

    held: "StoredFeatures | ClipFeatures | np.ndarray"

    def __len__(self) -> int:
        return len(self.held)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...); needs at least one existing row."""
        return self.held.shape

    @property
    def lacking(self) -> np.ndarray:
        """Bool (n,), samples that have no row."""
        return np.zeros(len(self), bool) if isinstance(self.held, np.ndarray) else self.held.lacking

    def select(self, indices: np.ndarray) -> "Rows":
        """Some of the samples, in the order of `indices` int (m,); nothing is read."""
        return Rows(self.held[indices] if isinstance(self.held, np.ndarray) else self.held.select(indices))

    def present(self) -> "Rows":
        """Without the samples that have no row."""
        return self.select(np.flatnonzero(~self.lacking))

    def __getitem__(self, chosen: Chosen) -> np.ndarray:
        """float32 (m, ...) of some samples, in memory.

        Raises:
            KeyError: one of them has no row.
        """
        return np.asarray(self.held[chosen], np.float32)

    def flat(self, chosen: Chosen = slice(None)) -> np.ndarray:
        """float32 (m, C) of some samples, grids flattened row by row, channels last."""
        rows = self[chosen]
        return rows.reshape(len(rows), int(np.prod(rows.shape[1:])))

    def pooled(self) -> np.ndarray:
        """float32 (n, C), grids averaged over their cells, clips over their frames, a block at a time."""
        if isinstance(self.held, ClipFeatures):
            return self.held.means()
        first = pooled(self[slice(0, BLOCK)])
        found = np.empty((len(self), first.shape[1]), np.float32)
        found[:BLOCK] = first
        for start in range(BLOCK, len(self), BLOCK):
            found[start : start + BLOCK] = pooled(self[slice(start, start + BLOCK)])
        return found


def pooled(grids: np.ndarray) -> np.ndarray:
    """float32 (n, C): grids (n, ..., C) of any float type averaged over their cells; vectors (n, C) stay."""
    return grids.mean(axis=tuple(range(1, grids.ndim - 1)), dtype=np.float32)


def at_once(shape: tuple[int, ...]) -> int:
    """How many rows of features (C,) or (T, C) a head reads in one batch, at least one."""
    return max(1, AT_ONCE_BYTES // (4 * math.prod(shape)))
