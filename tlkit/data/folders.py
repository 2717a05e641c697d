"""List the files below a folder, and read classes and splits from its folder names."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from tlkit.base.errors import TlkitError, nearest
from tlkit.base.files import Texts
from tlkit.data.dataset import SPLITS, UNASSIGNED, Problem
from tlkit.pixels.sniff import IMAGE_SUFFIXES, suffix
from tlkit.tasks.labels import class_name, class_names, cleaned

# Files that systems and tools leave beside images; names in lower case.
JUNK = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"))

Ancestors = tuple[tuple[int, int], ...]  # folders as (device, inode)


@dataclass
class Tree:
    """The contents of a folder; paths are relative and POSIX, sorted by code point.

    Args:
        files: everything that may be an image; content decides later.
        folders: every folder that was entered.
        loops: links back to a folder that contains them; not followed.
        ignored: number of hidden files and folders, system files, sockets and so on; a folder counts as one.
    """

    files: Sequence[str] = ()
    folders: list[str] = field(default_factory=list)
    loops: list[Problem] = field(default_factory=list)
    ignored: int = 0


def walk(root: Path) -> Tree:
    """List everything below `root`.

    Links to files and folders are followed. A folder may be reached by several paths, but never within
    itself, so that the walk always ends.

    Raises:
        TlkitError: if a folder cannot be listed.
    """
    tree = Tree()
    tree.files = Texts.of(_files(root, tree))
    tree.folders.sort()
    return tree


def _files(root: Path, tree: Tree) -> Iterator[str]:
    """Yield the files below a folder in the order of their paths; everything else is added to `tree`.

    A folder is sorted by its name with a trailing slash, as in the paths of its contents, so that the files need not be
    collected and sorted, which would take more memory than everything else.
    """
    open_folders = [_listed_below(root, "", (_identity(str(root)),), tree)]
    while open_folders:
        name, ancestors = next(open_folders[-1], ("", None))
        if ancestors:
            open_folders.append(_listed_below(root, name[:-1], ancestors, tree))
        elif name:
            yield name
        else:
            open_folders.pop()


def _listed_below(root: Path, folder: str, ancestors: Ancestors, tree: Tree) -> Iterator[tuple[str, Ancestors | None]]:
    """The entries of a folder in order: files, and folders with a trailing slash and their ancestors."""
    found: list[tuple[str, Ancestors | None]] = []
    for entry in _entries(root, folder):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith(".") or entry.name.lower() in JUNK:
            tree.ignored += 1
        elif _is_folder(entry):
            identity = _identity(entry.path)
            if identity in ancestors:
                tree.loops.append(Problem(path, "is a link back to a folder that contains it; not followed"))
            else:
                tree.folders.append(path)
                found.append((f"{path}/", (*ancestors, identity)))
        elif entry.is_symlink() or entry.is_file():
            found.append((path, None))
        else:
            tree.ignored += 1  # a socket, pipe or device: opening one may block for ever
    found.sort(key=itemgetter(0))
    return iter(found)


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
    """Whether it is a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int]:
    """Device and inode, which identify a folder whatever its path."""
    found = os.stat(path)  # noqa: PTH116 - a string from scandir, millions of times
    return found.st_dev, found.st_ino


# -- Reading classes and splits from folder names ----------------------------------

# Common names of splits. `eval` means whichever of val and test is missing, else test.
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
    **dict.fromkeys(("eval", "evaluation"), "eval"),
}
_PLAIN = ("train", "val", "valid", "validation", "test")  # need no note
_FILLERS = ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "jpg", "split")
_SPLIT_WORD = re.compile(f"({'|'.join(sorted(SPLIT_FOLDERS, key=len, reverse=True))})(?:{'|'.join(_FILLERS)})?")
LOOSE = -2  # the label of a file outside any class folder
MANY_FOLDERS = 10  # more folders than this cannot all be splits, so they are classes


def split_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split denoted by a folder's name, and the other words of the name; None for other names.

    `Training`, `test_set`, `valImages` and `train2017` denote splits without other words; `seg_train` has ("seg",).
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.findall(r"[^\W\d_]+", parted)
    meant = [found[1] for word in words if (found := _SPLIT_WORD.fullmatch(word))]
    if len(meant) != 1:
        return None
    rest = tuple(word for word in words if not _SPLIT_WORD.fullmatch(word) and word not in _FILLERS)
    return SPLIT_FOLDERS[meant[0]], rest


@dataclass(frozen=True)
class Layout:
    """Classes and splits as laid out in folders, with the files of the tree that belong to them.

    Args:
        classes: names of the class folders, see `labels.class_name`, sorted by code point like Keras.
        files: relative paths, without those of folders that are neither class nor split.
        labels: int32 (N,), index into `classes`, `LOOSE` for files outside class folders.
        given: int8 (N,), index into `SPLITS`, -1 if the layout names none.
        class_folders: relative path -> (label, given) of every class folder.
        notes: interpretations that the folders do not state explicitly, a sentence each.
        clips: for frames, the clip of each file.
        problems: clips that cannot be read.
    """

    classes: tuple[str, ...]
    files: Sequence[str]
    labels: np.ndarray
    given: np.ndarray
    class_folders: dict[str, tuple[int, int]]
    notes: tuple[str, ...] = ()
    clips: list[str] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()


def read_layout(tree: Tree, root: str, classes: Sequence[str] | None = None, *, clips: bool = False) -> Layout:
    """Read a layout: a folder per class, or train/val/test with classes inside.

    The second is assumed if `train` is accompanied by another split's name, or all folders have names of splits; so
    classes called train, bus and car remain classes. Names are read by `split_of`.

    Args:
        tree: the contents of the folder.
        root: the folder, as typed.
        classes: folder names that are classes, even if they look like splits.
        clips: whether class folders hold folders of frames, which may have the same names in all of them.

    Raises:
        TlkitError: for no class folders; a folder one level too high or too low; folders that all hold the same folders
            without being named as splits; a class missing from train; a repeated split; a split without classes.
    """
    inside = _folders_inside(tree)
    top = list(inside.pop(""))
    if not top:
        raise TlkitError(
            f"{root!r} has no class folders.",
            _class_among_others(Path(root))
            or "put the images of each class into a folder of its own, or give a CSV manifest with columns path,label.",
        )
    said_to_be_classes = bool(classes) and {class_name(name) for name in top} <= {*map(class_name, classes or ())}
    if not said_to_be_classes:
        splits = _splits_among(top, inside)
        if splits:
            return _split_folders(tree, root, splits, inside, classes)
        _refuse_wrapper(tree, root, top, inside)
        if not (clips and all(not inside[f"{folder}/{name}"] for folder in top for name in inside[folder])):
            _refuse_unnamed_splits(root, top, inside)
    names = class_names(top, classes, f"folders of {root!r}")
    codes = {name: code for code, name in enumerate(sorted(set(names.values())))}
    labels = {folder: codes[name] for folder, name in names.items()}
    return Layout(
        classes=tuple(codes),
        files=tree.files,
        labels=np.fromiter(
            (labels[path.partition("/")[0]] if "/" in path else LOOSE for path in tree.files), np.int32, len(tree.files)
        ),
        given=np.full(len(tree.files), UNASSIGNED, dtype=np.int8),
        class_folders={folder: (code, UNASSIGNED) for folder, code in labels.items()},
        notes=tuple(cleaned(names, "folder")),
    )


def _folders_inside(tree: Tree) -> dict[str, list[str]]:
    """The names of the folders in each folder ("" for the root)."""
    inside: dict[str, list[str]] = {"": []}
    for path in tree.folders:
        parent, _, name = path.rpartition("/")
        inside.setdefault(path, [])
        inside.setdefault(parent, []).append(name)
    return inside


def _splits_among(top: Sequence[str], inside: dict[str, list[str]]) -> dict[str, int]:
    """Index into `SPLITS` by folder, empty if the folders are not splits.

    Names with other words must share these words and have a class in common: `seg_train` and `seg_test` are splits,
    `train_station` and `test_tube` are not.
    """
    meant = {folder: found for folder in top if (found := split_of(folder))}
    for rest in sorted({rest for _, rest in meant.values()}, key=len):
        kinds = {folder: split for folder, (split, words) in meant.items() if words == rest}
        if "eval" in kinds.values():
            other = "val" if "test" in kinds.values() and "val" not in kinds.values() else "test"
            kinds = {folder: other if split == "eval" else split for folder, split in kinds.items()}
        several = len(set(kinds.values())) > 1 and "train" in kinds.values()
        held = [set(inside[_unwrapped(folder, inside)]) for folder in kinds]
        plain = not rest and all(folder.lower() in _PLAIN for folder in kinds)
        if (several and (plain or set.intersection(*held))) or (not rest and len(kinds) == len(top)):
            return {folder: SPLITS.index(split) for folder, split in kinds.items()}
    return {}


def _unwrapped(folder: str, inside: dict[str, list[str]]) -> str:
    """The folder that holds the class folders of a split: seg_train/seg_train, train/images, or the split itself."""
    while len(inside[folder]) == 1:
        (name,) = inside[folder]
        same = name.lower() == folder.rpartition("/")[2].lower() or name.lower() in _FILLERS
        if not same or not inside[f"{folder}/{name}"]:
            break
        folder = f"{folder}/{name}"
    return folder


def _split_folders(
    tree: Tree, root: str, splits: dict[str, int], inside: dict[str, list[str]], classes: Sequence[str] | None
) -> Layout:
    _refuse_twice(root, splits)
    places = {folder: _unwrapped(folder, inside) for folder in splits}
    held = {folder: inside[place] for folder, place in places.items()}
    for folder, names in held.items():
        if not names:
            raise TlkitError(
                f"{folder!r} in {root!r} has no class folders.",
                f"put its images into {folder}/CLASS/, or move the folder away; if the classes are called "
                f"{' and '.join(splits)}, say so: --classes {','.join(splits)}.",
            )
    named = class_names(
        sorted({name for names in held.values() for name in names}), classes, f"class folders of {root!r}"
    )
    known = _classes_of({folder: [named[name] for name in names] for folder, names in held.items()}, splits)
    codes = {name: code for code, name in enumerate(known)}
    class_folders = {
        f"{places[folder]}/{name}": (codes[named[name]], splits[folder])
        for folder, names in held.items()
        for name in names
    }
    depth = {folder: place.count("/") + 2 for folder, place in places.items()}
    files = Texts.of(path for path in tree.files if "/" not in path or path.partition("/")[0] in splits)
    folders = ("/".join(path.split("/")[: depth.get(path.partition("/")[0], 1)]) for path in files)
    placed = [class_folders.get(folder, (LOOSE, UNASSIGNED)) for folder in folders]
    return Layout(
        classes=known,
        files=files,
        labels=np.array([label for label, _ in placed], dtype=np.int32),
        given=np.array([split for _, split in placed], dtype=np.int8),
        class_folders=class_folders,
        notes=(*_understood(tree, splits, places), *cleaned(named, "folder")),
    )


def _understood(tree: Tree, splits: dict[str, int], places: dict[str, str]) -> Iterator[str]:
    """Notes on the interpretation of unusual split names, and on folders left out."""
    read = [f"{place} as {SPLITS[splits[name]]}" for name, place in places.items() if place.lower() not in _PLAIN]
    if read:
        yield f"Splits by the names of folders: {', '.join(read)}."
    beside = [folder for folder in tree.folders if "/" not in folder and folder not in splits]
    if beside:
        yield f"Left out, beside the folders of splits: {', '.join(beside)}."


def _refuse_twice(root: str, splits: dict[str, int]) -> None:
    for code, name in enumerate(SPLITS):
        folders = [folder for folder, split in splits.items() if split == code]
        if len(folders) > 1:
            raise TlkitError(
                f"{root!r} has {len(folders)} folders for {name}: {', '.join(map(repr, folders))}.",
                "keep one of them.",
            )


def _refuse_wrapper(tree: Tree, root: str, top: Sequence[str], inside: dict[str, list[str]]) -> None:
    """Raise for a single folder that holds folders: it should have been given instead."""
    folder = top[0]
    while len(inside[folder]) == 1:
        folder = f"{folder}/{inside[folder][0]}"
    if (
        len(top) > 1
        or not inside[folder]
        or any("/" not in path for path in tree.files if suffix(path) in IMAGE_SUFFIXES)
    ):
        return
    right = f"{root.rstrip('/')}/{folder}"
    raise TlkitError(
        f"{root!r} holds one folder, {folder!r}, and that holds {_listed(inside[folder])}: there would be a single "
        "class.",
        f"did you mean {right!r}? If {top[0]!r} is a class, say so: --classes {top[0]}.",
        instead=(root, right),
    )


def _refuse_unnamed_splits(root: str, top: Sequence[str], inside: dict[str, list[str]]) -> None:
    """Raise for folders that all hold the same folders: they look like splits with unknown names."""
    held = [frozenset(inside[_unwrapped(folder, inside)]) for folder in top]
    first = held[0]
    trained = [names for folder, names in zip(top, held, strict=True) if split_of(folder) == ("train", ())]
    alike = len(set(held)) == 1 or (len(trained) == 1 and all(names and names <= trained[0] for names in held))
    if len(top) < 2 or len(first) < 2 or not alike or len(top) > max(MANY_FOLDERS, len(first)):
        return
    raise TlkitError(
        f"the folders {_listed(top)} of {root!r} all hold the same folders ({_listed(sorted(first))}), as splits do, "
        "but are not named as splits.",
        f"if they are splits, rename them to train, val and test (mv {root.rstrip('/')}/{top[0]} "
        f"{root.rstrip('/')}/train); if they are the classes, say so: --classes {','.join(top)}; if these folders are "
        "clips of frames, say --time conv1d.",
    )


def _class_among_others(folder: Path) -> str:
    """The hint for a folder that looks like that of a single class, with others beside it; else ""."""
    above = folder.absolute().parent
    beside = [entry for entry in sorted(above.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if len(beside) < 2 or not all(_holds_image(entry) for entry in (folder, *beside)):
        return ""
    if split_of(above.name) and sum(split_of(entry.name) is not None for entry in above.parent.iterdir()) > 1:
        above = above.parent
        beside = [entry for entry in sorted(above.iterdir()) if entry.is_dir()]
    right = str(above) if folder.is_absolute() else os.path.relpath(above)
    return (
        f"did you mean {right!r}, which holds {_listed([entry.name for entry in beside])}? A classifier needs the "
        "folders of all classes."
    )


def _holds_image(folder: Path) -> bool:
    """Whether one of the first entries of a folder has an image's suffix."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return any(suffix(entry.name) in IMAGE_SUFFIXES for entry in itertools.islice(entries, 100))
    return False


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def refuse_inside(out: Path, images: str | Path) -> None:
    """Raise for an output folder inside the folder of images, which the next command would take for a class.

    Raises:
        TlkitError: naming both, and a path outside.
    """
    root, wanted = Path(images).expanduser().resolve(), out.expanduser().resolve()
    if root.is_dir() and (wanted == root or root in wanted.parents):
        raise TlkitError(
            f"--out {str(out)!r} lies inside the images, {str(images)!r}; the next command would take it for a class.",
            f"write it beside them: --out {root.with_name(f'{root.name}-{wanted.name}')}.",
        )


def _classes_of(inside: dict[str, list[str]], splits: dict[str, int]) -> tuple[str, ...]:
    """The classes of train, or of all splits if there is no train. Other splits may lack classes but not have more."""
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
    return tuple(sorted(set(inside[train])))
