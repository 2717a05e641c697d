"""The files below a folder, and the folders themselves; links followed, never in circles."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tlkit.core.errors import TlkitError
from tlkit.core.manifest import Problem

# Litter that systems and tools leave beside images; names compared in lower case.
JUNK = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"))


@dataclass
class Tree:
    """What lies below a folder; paths are relative and POSIX, sorted by code point.

    Args:
        files: everything that may be an image; content decides later.
        folders: every folder that was entered.
        loops: links that lead back to a folder they lie in; not followed.
        ignored: hidden files and folders, system litter, sockets and the like; a folder counts as one.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    loops: list[Problem] = field(default_factory=list)
    ignored: int = 0


def walk(root: Path) -> Tree:
    """List everything below `root`.

    Links to files and folders are followed. A folder may be reached twice by different ways, but
    never below itself, so that the walk always ends.

    Raises:
        TlkitError: a folder cannot be listed.
    """
    tree = Tree()
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", (_identity(str(root)),))]
    while waiting:
        folder, ancestors = waiting.pop()
        for entry in _entries(root, folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name.lower() in JUNK:
                tree.ignored += 1
            elif _is_folder(entry):
                identity = _identity(entry.path)
                if identity in ancestors:
                    tree.loops.append(Problem(path, "is a link back to a folder that it lies in; not followed"))
                else:
                    tree.folders.append(path)
                    waiting.append((path, (*ancestors, identity)))
            elif entry.is_symlink() or entry.is_file():
                tree.files.append(path)
            else:
                tree.ignored += 1  # a socket, pipe or device: opening one may wait for ever
    tree.files.sort()
    tree.folders.sort()
    return tree


def _entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    """The entries of one folder."""
    try:
        with os.scandir(root / folder) as entries:
            return list(entries)
    except OSError as error:
        raise TlkitError(
            f"the folder {str(root / folder)!r} cannot be listed: {error.strerror}.",
            "make it readable, or move it out of the image folder.",
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is neither."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int]:
    """Device and inode: the same folder, whatever way it was reached."""
    found = os.stat(path)  # noqa: PTH116 - a string from scandir, millions of times
    return found.st_dev, found.st_ino
