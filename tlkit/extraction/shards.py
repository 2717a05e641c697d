"""The files of a space: rows and the images they belong to, written whole, joined when they are many and small.

ID.npy float32 or float16 (n, ...) and ID.ids, n x 32 bytes. Values come first and ids last, by
rename: a shard without ids does not exist. Joining writes the joined shard before it removes the
parts, ids first, so a reader finds every row at every moment.
"""

import math
import mmap
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from tlkit.core.atomic import replacing
from tlkit.extraction.lease import alone

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
