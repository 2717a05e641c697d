"""Cached checksums of files."""

import os
import time

from tlkit.base import files
from tlkit.base.files import known_sha256, sha256_file


def test_a_file_that_has_not_changed_is_read_once(tmp_path, monkeypatch):
    path, read, now = tmp_path / "weights", [], time.time()
    monkeypatch.setattr(files.time, "time", lambda: now + 60)
    monkeypatch.setattr(files, "sha256_file", lambda path: read.append(path) or sha256_file(path))
    path.write_bytes(b"one")
    first = known_sha256(path)
    assert (known_sha256(path), first, len(read)) == (first, sha256_file(path), 1)
    stamp = path.stat()
    path.unlink()
    path.write_bytes(b"two")  # same size, same modification time
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert known_sha256(path) == sha256_file(path) != first


def test_one_that_changed_a_moment_ago_is_read_every_time(tmp_path, monkeypatch):
    """Within the tick of the clock it may change without its time."""
    path, read = tmp_path / "weights", []
    monkeypatch.setattr(files, "sha256_file", lambda path: read.append(path) or sha256_file(path))
    path.write_bytes(b"one")
    assert known_sha256(path) == known_sha256(path) and len(read) == 2
