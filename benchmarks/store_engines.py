"""What should hold the rows: tlkit's shards, an SQLite index over segments of rows, or LMDB.

    python benchmarks/store_engines.py --rows 50000 --width 1280

Each writes the same rows in batches of 32 (on the disk every 64 MB and at the end), finds all of them by their keys in
another order, and reads them all once, checksums verified. LMDB needs `pip install lmdb`.
"""

import argparse
import os
import sqlite3
import tempfile
import zlib
from pathlib import Path

import numpy as np
from measure import in_turn, machine, ratio

from tlkit.extraction.shards import SHARD_BYTES

BATCH = 32


class Shards:
    """tlkit's own."""

    def __init__(self, folder: Path) -> None:
        os.environ["TLKIT_CACHE"] = str(folder)
        from tlkit.extraction.store import open_space

        self.space = open_space({"output": "benchmark"})

    def write(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Store rows."""
        from tlkit.extraction.store import Appender

        with Appender(self.space) as appender:
            for start in range(0, len(keys), BATCH):
                appender.append(keys[start : start + BATCH], values[start : start + BATCH])

    def read(self, keys: np.ndarray) -> np.ndarray:
        """The rows of these keys, verified."""
        from tlkit.extraction.store import look_up

        return look_up(self.space, keys)[np.arange(len(keys))]


class Sqlite:
    """A table key -> place and checksum, and one file of rows that is only ever appended to."""

    def __init__(self, folder: Path) -> None:
        self.rows = folder / "rows"
        self.base = sqlite3.connect(folder / "index.db")
        self.base.execute("PRAGMA journal_mode=WAL")
        self.base.execute("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, place INT, crc INT) WITHOUT ROWID")

    def write(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Store rows."""
        with self.rows.open("ab") as file:
            held = 0
            for start in range(0, len(keys), BATCH):
                block = values[start : start + BATCH]
                names = [key.tobytes() for key in keys[start : start + BATCH]]
                sums = [zlib.crc32(row.data, zlib.crc32(key)) for key, row in zip(names, block, strict=True)]
                places = [file.tell() + i * block[0].nbytes for i in range(len(block))]
                file.write(block.data)
                self.base.executemany(
                    "INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", zip(names, places, sums, strict=True)
                )
                held += block.nbytes
                if held >= SHARD_BYTES:
                    self.flush(file)
                    held = 0
            self.flush(file)
        self.width = values.shape[1]

    def flush(self, file) -> None:  # type: ignore[no-untyped-def]
        """Have the disk hold them."""
        file.flush()
        os.fsync(file.fileno())
        self.base.commit()

    def read(self, keys: np.ndarray) -> np.ndarray:
        """The rows of these keys, verified."""
        found = {
            key: (place, crc) for key, place, crc in self.base.execute("SELECT key, place, crc FROM rows")
        }  # all of them at once: one query a key takes several times as long
        out = np.empty((len(keys), self.width), np.float32)
        rows = np.memmap(self.rows, np.float32, "r").reshape(-1, self.width)
        for i, key in enumerate(keys):
            name = key.tobytes()
            place, crc = found[name]
            out[i] = rows[place // (4 * self.width)]
            if zlib.crc32(out[i].data, zlib.crc32(name)) != crc:
                raise ValueError("damaged")
        return out


class Lmdb:
    """key -> checksum and row."""

    def __init__(self, folder: Path) -> None:
        import lmdb

        self.base = lmdb.open(str(folder), map_size=2**35)

    def write(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Store rows."""
        per = max(1, SHARD_BYTES // values[0].nbytes)
        for start in range(0, len(keys), per):
            with self.base.begin(write=True) as transaction:
                for key, row in zip(keys[start : start + per], values[start : start + per], strict=True):
                    name = key.tobytes()
                    transaction.put(name, zlib.crc32(row.data, zlib.crc32(name)).to_bytes(4, "little") + row.tobytes())
        self.width = values.shape[1]

    def read(self, keys: np.ndarray) -> np.ndarray:
        """The rows of these keys, verified."""
        out = np.empty((len(keys), self.width), np.float32)
        with self.base.begin(buffers=True) as transaction:
            for i, key in enumerate(keys):
                name = key.tobytes()
                content = transaction.get(name)
                out[i] = np.frombuffer(content, np.float32, offset=4)
                if zlib.crc32(content[4:], zlib.crc32(name)) != int.from_bytes(content[:4], "little"):
                    raise ValueError("damaged")
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(machine() + f"\n{options.rows:,} rows of {options.width} float32\n")
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (options.rows, 32), np.uint8)
    values = rng.random((options.rows, options.width), np.float32)
    order = rng.permutation(options.rows)
    kinds = {"shards": Shards, "SQLite and segments": Sqlite, "LMDB": Lmdb}
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(10**6))

        def new(kind: type) -> Shards | Sqlite | Lmdb:
            place = Path(folder) / str(next(count))
            place.mkdir()
            return kind(place)

        full = {name: new(kind) for name, kind in kinds.items()}
        for store in full.values():
            store.write(keys, values)
            if not np.array_equal(store.read(keys[order]), values[order]):
                raise SystemExit("another row than was written")
        writing = in_turn({n: lambda kind=k: new(kind).write(keys, values) for n, k in kinds.items()}, options.repeats)
        reading = in_turn({n: lambda s=s: s.read(keys[order]) for n, s in full.items()}, options.repeats)
    for title, seconds in (("write", writing), ("find and read", reading)):
        for name in kinds:
            of = ratio(seconds["shards"], seconds[name])
            print(f"{title:<14} {name:<20} {min(seconds[name]):.3f} s, {of[0]:.2f} of shards' time")


if __name__ == "__main__":
    main()
