"""The files of a space: shards of rows with checksums.

    ID.npy    the values (n, ...), as NumPy writes them
    ID.idx    one line of JSON (rows, dtype, shape, ...), the keys (n, 32), a checksum for each block of rows, and the
              sha256 of all of these

The checksum of a block, a CRC-32, is over its keys and then its values, so that no value is ever taken for that of
another image. Values are on the disk before the index that names them. `ID.ids`, the bare keys, is the format before
checksums; the only check for it is that there are as many keys as values.
"""

import contextlib
import hashlib
import json
import math
import mmap
import secrets
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from tlkit.base.files import replacing
from tlkit.extraction.lease import alone

SHARD_BYTES = 64 * 2**20  # approximate limit of a shard
BLOCK_BYTES = 256 * 2**10  # approximate bytes per checksum: smaller reads less for a few rows, but writes more in all
MANY = 16  # so many shards of about one size are joined; looking rows up costs 0.1 ms per shard
KEY_BYTES = 32
FORMAT = 3  # another one will have another suffix, so that it is not taken for a damaged shard of this one
INDEX, BARE, VALUES = ".idx", ".ids", ".npy"


class Damaged(Exception):
    """A shard that is damaged."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Some rows of a space.

    Args:
        index: its `.idx`, or `.ids` of one without checksums.
        keys: uint8 (n, 32).
        values: (n, ...), memory-mapped.
        sums: uint32, a checksum for each block; None where none were written.
        block: rows per block.
    """

    index: Path
    keys: np.ndarray
    values: np.ndarray
    sums: np.ndarray | None
    block: int

    def unsound(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of the damaged blocks among those that hold any of these rows, ascending."""
        blocks = np.unique(rows // self.block)
        if self.sums is None:
            return blocks[:0]
        size = self.values.dtype.itemsize * math.prod(self.values.shape[1:])
        bad, start = [], self.values.offset  # type: ignore[attr-defined]
        try:  # Read, not mapped: mapped pages would count as memory of this process.
            with self.index.with_suffix(VALUES).open("rb", buffering=0) as file:
                for block in blocks.tolist():
                    first = block * self.block
                    keys = self.keys[first : first + self.block]
                    file.seek(start + first * size)
                    if zlib.crc32(file.read(len(keys) * size), zlib.crc32(keys.data)) != self.sums[block]:
                        bad.append(block)
        except OSError:  # missing, or on an unreadable part of the disk
            return blocks
        return np.array(bad, np.int64)

    def sound(self) -> np.ndarray:
        """The undamaged rows, int64."""
        rows = np.arange(len(self.keys))
        return rows[~np.isin(rows // self.block, self.unsound(rows))]


def write_shard(folder: Path, keys: np.ndarray, values: np.ndarray) -> None:
    """Write keys uint8 (n, 32) and values (n, ...) as one shard, which is on the disk when this returns."""
    with shard_writer(folder, values.dtype, values.shape[1:]) as writer:
        writer.append(keys, values)


@contextlib.contextmanager
def shard_writer(folder: Path, dtype: np.dtype, shape: tuple[int, ...]) -> "Iterator[ShardWriter]":
    """A shard that is written as its rows come; it exists, on the disk, when this context is left, and not at all after an error.

    Args:
        folder: of the space.
        dtype: of the values.
        shape: of a row.
    """
    name = folder / secrets.token_hex(8)
    with replacing(name.with_suffix(VALUES)) as temporary, temporary.open("wb") as file:
        writer = ShardWriter(name.with_suffix(INDEX), file, dtype, shape)
        yield writer
        index = writer.finished()
    with replacing(writer.index) as temporary:
        temporary.write_bytes(index + hashlib.sha256(index).digest())


class ShardWriter:
    """Writes the values of a shard to its file. Only its keys and less than a block of values are in memory.

    Args:
        index: path of its index, written last.
        file: for the values.
        dtype: of them.
        shape: of a row.
    """

    def __init__(self, index: Path, file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.index, self._file, self._dtype, self._shape = index, file, dtype, shape
        self._block = max(1, BLOCK_BYTES // max(1, dtype.itemsize * math.prod(shape)))
        self._keys, self._sums = bytearray(), array("L")
        self._values: list[np.ndarray] = []  # of the block that is not full yet
        self._waiting = self._placed = 0  # rows waiting, and rows in all
        self._write_header()
        self._offset = file.tell()

    @property
    def size(self) -> int:
        """Bytes of the values so far."""
        return self._rows * self._dtype.itemsize * math.prod(self._shape)

    def append(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Add rows, uint8 (n, 32) and (n, ...)."""
        self._keys += np.ascontiguousarray(keys).data
        start = 0
        while start < len(values):
            piece = values[start : start + self._block - self._waiting]
            self._values.append(piece)
            self._waiting, start = self._waiting + len(piece), start + len(piece)
            self._placed += len(piece)
            if self._waiting == self._block:
                self._write_block()

    def finished(self) -> bytes:
        """Write the rest; returns the content of the index, without its own checksum."""
        del self._keys[self._placed * KEY_BYTES :]  # of rows lost to an interruption
        self._write_block()
        self._file.seek(0)
        self._write_header()  # of unchanged length: NumPy leaves room for the number of rows to grow
        facts = {
            **{"format": FORMAT, "rows": self._rows, "dtype": npy.dtype_to_descr(self._dtype), "shape": self._shape},
            **{"offset": self._offset, "block": self._block},
        }
        return json.dumps(facts).encode() + b"\n" + bytes(self._keys) + np.array(self._sums, "<u4").tobytes()

    @property
    def _rows(self) -> int:
        return len(self._keys) // KEY_BYTES

    def _write_header(self) -> None:
        shape = (self._rows, *self._shape)
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)

    def _write_block(self) -> None:
        """Write the waiting rows, a block or the rest of one, and their checksum: over their keys, then their values."""
        if not self._waiting:
            return
        first = len(self._sums) * self._block * KEY_BYTES
        content = b"".join(each.tobytes() for each in self._values)
        keys = self._keys[first : first + self._waiting * KEY_BYTES]
        self._sums.append(zlib.crc32(content, zlib.crc32(keys)))
        self._file.write(content)
        self._values, self._waiting = [], 0


def read_shard(index: Path) -> Shard:
    """Open a shard: its index is read in full, its values are memory-mapped and not checked yet.

    Raises:
        Damaged: it is damaged, as far as that shows without reading the values.
        FileNotFoundError: the index is missing.
    """
    if index.suffix == BARE:
        return _read_bare(index)
    content = index.read_bytes()
    body = content[:-KEY_BYTES]
    if not body or hashlib.sha256(body).digest() != content[-KEY_BYTES:]:
        raise Damaged("its index has changed")
    line, _, rest = body.partition(b"\n")
    facts = json.loads(line)
    dtype, shape = np.dtype(facts["dtype"]), (facts["rows"], *facts["shape"])
    keys = np.frombuffer(rest, np.uint8, facts["rows"] * KEY_BYTES).reshape(-1, KEY_BYTES)
    sums = np.frombuffer(rest, "<u4", offset=keys.nbytes)
    try:
        if index.with_suffix(VALUES).stat().st_size != facts["offset"] + math.prod(shape) * dtype.itemsize:
            raise Damaged("its values have another length")
        values = np.memmap(index.with_suffix(VALUES), dtype, "r", facts["offset"], shape)
    except FileNotFoundError:
        raise Damaged("its values are gone") from None
    return Shard(index, keys, values, sums, facts["block"])


def _read_bare(index: Path) -> Shard:
    """A shard without checksums."""
    content = index.read_bytes()
    try:
        values = np.load(index.with_suffix(VALUES), mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError, SyntaxError):
        raise Damaged("its values cannot be read") from None
    if not values.ndim or len(content) != len(values) * KEY_BYTES or not content:
        raise Damaged("it has not as many keys as values")
    return Shard(index, np.frombuffer(content, np.uint8).reshape(-1, KEY_BYTES), values, None, len(values))


def drop_pages(values: Sequence[np.ndarray]) -> None:
    """Release the memory behind memory-mapped arrays; the system still caches the pages for later reads."""
    for mapped in values:
        if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.base.madvise(mmap.MADV_DONTNEED)


def list_shards(folder: Path) -> list[Path]:
    """The indices of the shards in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix in (INDEX, BARE) and path.name[0] != ".")


def rows_of(index: Path) -> int:
    """The number of rows that a shard states; 0 where it states none."""
    try:
        if index.suffix == BARE:
            return index.stat().st_size // KEY_BYTES
        with index.open("rb") as file:
            return int(json.loads(file.readline(1024))["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def set_aside(index: Path, shard: Shard | None) -> None:
    """Remove a damaged shard from its space; its undamaged rows stay, as another shard."""
    if shard is not None and len(rows := shard.sound()):
        write_shard(index.parent, shard.keys[rows], np.asarray(shard.values[rows]))
    index.unlink(missing_ok=True)
    index.with_suffix(VALUES).unlink(missing_ok=True)


def join_shards(folder: Path, own: Sequence[Path] | None = None) -> None:
    """Join small shards, sixteen or more of about one size at a time; only those in `own`, where it is given.

    A row is thus rewritten at most once for every factor of sixteen in size, and a space that was
    filled in thousands of small steps has a few dozen files. Does nothing while another process joins here.
    Damaged rows are left out.
    """
    with alone(folder, "join") as mine:
        while mine and (parts := _joinable(list_shards(folder) if own is None else own)):
            shards = [shard for index in parts if (shard := _readable(index))]
            rows = [shard.sound() for shard in shards]
            keys = [shard.keys[here] for shard, here in zip(shards, rows, strict=True)]
            values = [shard.values[here] for shard, here in zip(shards, rows, strict=True)]
            if sum(map(len, keys)):
                every = np.concatenate(keys)
                _, first = np.unique(every.view(f"V{KEY_BYTES}").ravel(), return_index=True)
                write_shard(folder, every[first], np.concatenate(values)[first])
            for index in parts:
                index.unlink(missing_ok=True)
                index.with_suffix(VALUES).unlink(missing_ok=True)


def _readable(index: Path) -> Shard | None:
    try:
        return read_shard(index)
    except (Damaged, OSError):
        return None


def _joinable(indices: Sequence[Path]) -> list[Path]:
    """Shards of about one size with rows of one shape, as many as fit into one; none where there are not `MANY`."""
    alike: dict[tuple[int, str], list[tuple[Path, int]]] = {}
    for index in indices:
        shard = _readable(index)
        if shard is not None and (size := shard.values.nbytes) < SHARD_BYTES // MANY:
            kind = f"{shard.values.dtype}{shard.values.shape[1:]}"
            alike.setdefault((int(math.log(max(1, size), MANY)), kind), []).append((index, size))
    for group in alike.values():
        if len(group) >= MANY:
            fitting = np.cumsum([size for _, size in group]) <= SHARD_BYTES
            return [index for (index, _), fits in zip(group, fitting, strict=True) if fits]
    return []
