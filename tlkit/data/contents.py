"""What listed files hold: sniff, hash, and look at images where that is wanted, from the same bytes."""

import hashlib
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tlkit.base.errors import UnreadableImage
from tlkit.base.machine import usable_cores
from tlkit.base.story import Story
from tlkit.data.dataset import Problem
from tlkit.data.decode import in_order
from tlkit.data.look import Checker, GrowingLooks, Looker, Looks
from tlkit.pixels.sniff import HEADER_BYTES, IMAGE_SUFFIXES, describe, sniff, suffix

CHUNK = 256  # files a thread takes at a time: enough to forget the cost of handing over
LOOKED = 64  # likewise of those that are decoded: their small copies are worked on together
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
        looks: of the images, None where they were not looked at.
    """

    images: np.ndarray
    sha256: np.ndarray
    sizes: np.ndarray
    problems: tuple[Problem, ...]
    ignored: int
    looks: Looks | None = None


@dataclass
class _Chunk:
    """The findings of some files."""

    files: int
    images: "array[int]"
    digests: bytearray
    sizes: "array[int]"
    problems: list[Problem]
    ignored: int
    columns: dict[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.files

    def join(self, other: "_Chunk") -> None:
        """Those of further files after them."""
        self.images.extend(other.images)
        self.digests += other.digests
        self.sizes.extend(other.sizes)
        self.problems += other.problems
        self.ignored += other.ignored


def read_contents(
    root: Path, paths: Sequence[str], story: Story, *, all_meant: bool = False, by: type[Looker | Checker] | None = None
) -> Contents:
    """Identify and hash files in threads; memory beyond the result does not grow with their number.

    Args:
        root: the folder that `paths` are relative to.
        paths: the files.
        story: hears the progress.
        all_meant: every file was named as an image by the user, so that none may be left out unsaid.
        by: who decodes images as well, each from the same bytes as its hash: to look at them, or so that those that
            cannot be decoded are problems.
    """
    size = LOOKED if by is Looker else CHUNK
    threads = usable_cores() if by else min(32, 2 * usable_cores())  # waiting for the disk costs no core
    read = partial(_read_chunk, root, paths, all_meant, by, size)
    starts = range(0, len(paths), size)
    found = _Chunk(len(paths), array("q"), bytearray(), array("q"), [], 0)
    looks = GrowingLooks(len(paths)) if by is Looker else None
    for chunk in story.track(in_order(read, starts, threads=threads, ahead=4 * threads), "reading files", len(paths)):
        found.join(chunk)
        if looks and chunk.columns:
            looks.add(chunk.columns)
    return Contents(
        images=np.array(found.images, dtype=np.int64),
        sha256=np.frombuffer(bytes(found.digests), dtype=np.uint8).reshape(-1, 32),
        sizes=np.array(found.sizes, dtype=np.int64),
        problems=tuple(found.problems),
        ignored=found.ignored,
        looks=looks.done() if looks else None,
    )


def _read_chunk(
    root: Path, paths: Sequence[str], all_meant: bool, by: type[Looker | Checker] | None, size: int, start: int
) -> _Chunk:
    stop = min(start + size, len(paths))
    chunk = _Chunk(stop - start, array("q"), bytearray(), array("q"), [], 0)
    looker = by(stop - start) if by else None
    for i in range(start, stop):
        path = paths[i]
        try:
            found = _fingerprint(os.path.join(root, path), path, looker)  # noqa: PTH118 - a million times
        except (OSError, UnreadableImage) as error:
            why = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            chunk.problems.append(Problem(path, why))
            continue
        if isinstance(found, str):
            if all_meant or suffix(path) in IMAGE_SUFFIXES:
                chunk.problems.append(Problem(path, found))
            else:
                chunk.ignored += 1
        else:
            chunk.images.append(i)
            chunk.digests += found[0]
            chunk.sizes.append(found[1])
    chunk.columns = looker.columns() if looker else None
    return chunk


def _fingerprint(file: str, path: str, looker: Looker | Checker | None) -> tuple[bytes, int] | str:
    """sha256 and size of an image file, which is looked at or decoded where that is wanted; or what else it holds."""
    with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - a million times; Path.open costs as much as the hash
        piece = stream.read(PIECE)
        header = piece[:HEADER_BYTES]
        if sniff(header, path) is None:
            return describe(header)
        if looker:
            content = piece + stream.readall()
            looker.add(content)
            return hashlib.sha256(content).digest(), len(content)
        digest = hashlib.sha256(piece)
        size = len(piece)
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
        return digest.digest(), size
