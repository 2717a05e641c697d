"""The files below a folder, and the folders themselves; links followed, never in circles."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tlkit.base.errors import TlkitError, nearest
from tlkit.data.dataset import SPLITS, UNASSIGNED, Problem

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
    """Device and inode: the same folder, by whatever path it was reached."""
    found = os.stat(path)  # noqa: PTH116 - a string from scandir, millions of times
    return found.st_dev, found.st_ino


# -- What the folders say: which is a class, which is a split ----------------------------------

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LOOSE = -2  # the label of a file that lies in no class folder


@dataclass(frozen=True)
class Layout:
    """Classes and splits as laid out in folders; `files` are the tree's, in order, less those outside.

    Args:
        classes: folder names, sorted by code point as Keras does.
        files: relative paths, those of folders that are neither class nor split left out.
        labels: int32 (N,), index into `classes`, `LOOSE` for files in no class folder.
        given: int8 (N,), index into `SPLITS`, -1 where the layout names none.
        class_folders: relative path -> (label, given) of every class folder.
        beside: folders beside train/val/test that take no part.
    """

    classes: tuple[str, ...]
    files: list[str]
    labels: np.ndarray
    given: np.ndarray
    class_folders: dict[str, tuple[int, int]]
    beside: tuple[str, ...] = ()


def read_layout(tree: Tree, root: str) -> Layout:
    """Class per folder, or train/val/test with classes inside.

    The second is meant when `train` stands beside another split's name, or all folders have names
    of splits; so that classes called train, bus and car stay classes.

    Raises:
        TlkitError: no class folders; a class that train lacks; a split twice; a split without classes.
    """
    top = [folder for folder in tree.folders if "/" not in folder]
    if not top:
        raise TlkitError(
            f"{root!r} has no class folders.",
            "put the images of each class into a folder of its own, or give a CSV manifest with columns path,label.",
        )
    splits = {folder: SPLITS.index(SPLIT_FOLDERS[folder.lower()]) for folder in top if folder.lower() in SPLIT_FOLDERS}
    if len(splits) == len(top) or (0 in splits.values() and len(set(splits.values())) > 1):
        return _split_folders(tree, root, top, splits)
    codes = {name: code for code, name in enumerate(top)}
    return Layout(
        classes=tuple(top),
        files=tree.files,
        labels=np.array([codes[p.partition("/")[0]] if "/" in p else LOOSE for p in tree.files], dtype=np.int32),
        given=np.full(len(tree.files), UNASSIGNED, dtype=np.int8),
        class_folders={name: (code, UNASSIGNED) for name, code in codes.items()},
    )


def _split_folders(tree: Tree, root: str, top: Sequence[str], splits: dict[str, int]) -> Layout:
    _refuse_twice(root, splits)
    inside: dict[str, list[str]] = {folder: [] for folder in splits}
    for path in tree.folders:
        folder, _, name = path.partition("/")
        if folder in splits and name and "/" not in name:
            inside[folder].append(name)
    for folder, names in inside.items():
        if not names:
            raise TlkitError(
                f"{folder!r} in {root!r} has no class folders.",
                f"put its images into {folder}/CLASS/, or move the folder away.",
            )
    classes = _classes_of(inside, splits)
    codes = {name: code for code, name in enumerate(classes)}
    class_folders = {f"{f}/{name}": (codes[name], splits[f]) for f, names in inside.items() for name in names}
    files = [path for path in tree.files if "/" not in path or path.partition("/")[0] in splits]
    placed = [class_folders.get("/".join(path.split("/", 2)[:2]), (LOOSE, UNASSIGNED)) for path in files]
    return Layout(
        classes=classes,
        files=files,
        labels=np.array([label for label, _ in placed], dtype=np.int32),
        given=np.array([split for _, split in placed], dtype=np.int8),
        class_folders=class_folders,
        beside=tuple(folder for folder in top if folder not in splits),
    )


def _refuse_twice(root: str, splits: dict[str, int]) -> None:
    for code, name in enumerate(SPLITS):
        folders = [folder for folder, split in splits.items() if split == code]
        if len(folders) > 1:
            raise TlkitError(
                f"{root!r} has {len(folders)} folders for {name}: {', '.join(map(repr, folders))}.",
                "keep one of them.",
            )


def _classes_of(inside: dict[str, list[str]], splits: dict[str, int]) -> tuple[str, ...]:
    """The classes of train; of all where there is no train. Others may lack some, none may have more."""
    train = next((folder for folder, code in splits.items() if code == 0), None)
    if train is None:
        return tuple(sorted({name for names in inside.values() for name in names}))
    for folder, names in inside.items():
        unknown = sorted(set(names) - set(inside[train]))
        if unknown:
            guess = nearest(unknown[0], inside[train])
            raise TlkitError(
                f"{folder!r} has {'a class' if len(unknown) == 1 else 'classes'} that {train!r} lacks: "
                f"{', '.join(map(repr, unknown[:5]))}{' ...' if len(unknown) > 5 else ''}.",
                (f"did you mean {guess!r}? " if guess else "")
                + f"a model cannot learn a class without training images: rename the folder, add {train}/{unknown[0]}, "
                "or remove it.",
            )
    return tuple(sorted(inside[train]))
