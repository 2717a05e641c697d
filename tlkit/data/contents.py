"""Read every file once, for whether it begins like an image and for its sha256."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tlkit.core.cores import usable_cores
from tlkit.core.manifest import Problem
from tlkit.core.story import Story
from tlkit.data.sniff import HEADER_BYTES, IMAGE_SUFFIXES, describe, sniff, suffix
from tlkit.data.threads import in_order

CHUNK = 256  # files a thread takes at a time: enough to forget the cost of handing over
PIECE = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Contents:
    """What N listed files turned out to hold.

    Args:
        images: int64 (n,), which of the listed files are images, ascending.
        sha256: uint8 (n, 32), of those.
        sizes: int64 (n,), bytes, of those.
        problems: files that should be images by their name, or were named by the user, and are not.
        ignored: how many others are no images.
    """

    images: np.ndarray
    sha256: np.ndarray
    sizes: np.ndarray
    problems: tuple[Problem, ...]
    ignored: int


@dataclass
class _Chunk:
    """The findings of up to `CHUNK` files."""

    files: int
    images: list[int]
    digests: bytearray
    sizes: list[int]
    problems: list[Problem]
    ignored: int

    def __len__(self) -> int:
        return self.files


def read_contents(root: Path, paths: Sequence[str], story: Story, *, all_meant: bool = False) -> Contents:
    """Sniff and hash files in threads; memory beyond the result does not grow with their number.

    Args:
        root: the folder that `paths` are relative to.
        paths: the files.
        story: hears the progress.
        all_meant: every file was named as an image by the user, so that none may be left out unsaid.
    """
    starts = range(0, len(paths), CHUNK)
    threads = min(32, 2 * usable_cores())  # waiting for the disk costs no core
    read = partial(_read_chunk, root, paths, all_meant)
    chunks = list(story.track(in_order(read, starts, threads=threads, ahead=4 * threads), "reading files", len(paths)))
    return Contents(
        images=np.array([i for chunk in chunks for i in chunk.images], dtype=np.int64),
        sha256=np.frombuffer(b"".join(chunk.digests for chunk in chunks), dtype=np.uint8).reshape(-1, 32),
        sizes=np.array([size for chunk in chunks for size in chunk.sizes], dtype=np.int64),
        problems=tuple(problem for chunk in chunks for problem in chunk.problems),
        ignored=sum(chunk.ignored for chunk in chunks),
    )


def _read_chunk(root: Path, paths: Sequence[str], all_meant: bool, start: int) -> _Chunk:
    stop = min(start + CHUNK, len(paths))
    chunk = _Chunk(stop - start, [], bytearray(), [], [], 0)
    for i in range(start, stop):
        path = paths[i]
        try:
            found = _fingerprint(os.path.join(root, path), path)  # noqa: PTH118 - a million times
        except OSError as error:
            chunk.problems.append(Problem(path, f"cannot be read: {error.strerror or error}"))
            continue
        if isinstance(found, str):
            if all_meant or suffix(path) in IMAGE_SUFFIXES:
                chunk.problems.append(Problem(path, found))
            else:
                chunk.ignored += 1
        else:
            digest, size = found
            chunk.images.append(i)
            chunk.digests += digest
            chunk.sizes.append(size)
    return chunk


def _fingerprint(file: str, path: str) -> tuple[bytes, int] | str:
    """sha256 and size of an image file, or what else it holds."""
    with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - a million times; Path.open costs as much as the hash
        piece = stream.read(PIECE)
        header = piece[:HEADER_BYTES]
        if sniff(header, path) is None:
            return describe(header)
        digest = hashlib.sha256(piece)
        size = len(piece)
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
        return digest.digest(), size
