"""Unpack an archive that may be hostile: plain files only, inside the folder only, within a budget of bytes."""

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tlkit.core.errors import TlkitError
from tlkit.core.story import Story

CHUNK = 1 << 20
MAX_FILES = 2_000_000
BLIND = ("__MACOSX", "Thumbs.db", "desktop.ini")  # what desktops leave in archives
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool], budget: int, story: Story) -> None:
    """Write the plain files of `archive` whose name `wanted` accepts below `folder`.

    Args:
        archive: a zip, or a tar packed in any way.
        folder: exists; nothing is ever written outside it.
        wanted: takes a member's POSIX path.
        budget: bytes to write at most; counted as they come, not as the archive announces them.
        story: hears how far it is.

    Raises:
        TlkitError: the archive is damaged, names a place outside, or does not keep to the budget.
    """
    try:
        members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
        for count, (name, content) in enumerate(story.track(members, f"unpacking {archive.name}, files")):
            if count >= MAX_FILES:
                raise TlkitError(f"{archive.name} has more than {MAX_FILES:,} files.", _HINT)
            if not wanted(name):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            budget -= _write(content, target, budget, archive.name)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's trouble, not the archive's
            raise TlkitError(f"{archive.name} cannot be unpacked: {error}.", "make room, then run it again.") from error
        raise TlkitError(f"{archive.name} is damaged: {error}.", "delete it and download it again.") from error


_HINT = "do not use this archive: it is not what the recipe describes."


def safe_name(name: str, archive: str) -> str:
    """The member's path, if every system would put it below the folder it is unpacked in.

    Raises:
        TlkitError: for absolute paths, `..`, drive letters, backslashes and control characters.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", name):
        raise TlkitError(f"{archive} has a file named {name!r}, which could land outside its folder.", _HINT)
    return "/".join(part for part in parts if part != ".")


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir() or _blind(info.filename):
                continue
            name = safe_name(info.filename, archive.name)
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise TlkitError(f"{archive.name} has a link named {name!r}.", _HINT)
            with opened.open(info) as content:
                yield name, content


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, "r:*") as opened:
        for info in opened:
            if info.isdir() or _blind(info.name):
                continue
            name = safe_name(info.name, archive.name)
            content = opened.extractfile(info) if info.isreg() else None
            if content is None:
                raise TlkitError(f"{archive.name} has {name!r}, which is no plain file.", _HINT)
            with content:
                yield name, content


def _blind(name: str) -> bool:
    """Whether a member is some desktop's leftover or hidden."""
    return any(part in BLIND or (part.startswith(".") and part.strip(".")) for part in name.split("/"))


def _write(content: IO[bytes], target: Path, budget: int, archive: str) -> int:
    """Copy and count."""
    written = 0
    with target.open("wb") as file:
        while chunk := content.read(CHUNK):
            written += len(chunk)
            if written > budget:
                raise TlkitError(f"{archive} unpacks to far more than it should.", _HINT)
            file.write(chunk)
    return written
