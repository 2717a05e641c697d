"""Scan folders and tables into a dataset."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.files import missing, taken
from tlkit.base.story import SILENCE, Story
from tlkit.data.dataset import SPLITS, UNASSIGNED, UNLABELLED, Dataset, Problem
from tlkit.data.films import FILMS
from tlkit.data.fixes import Fixing, apply_fixes
from tlkit.data.folders import LOOSE, Layout, Tree, read_layout, walk
from tlkit.data.look import Contents, Looker, read_contents
from tlkit.data.numbers import TARGET
from tlkit.data.split import group_column, group_pattern, match_groups
from tlkit.data.table import CLIP, SUFFIXES, Listing, elsewhere, labels_of, read_listing
from tlkit.pixels.sniff import IMAGE_SUFFIXES, suffix
from tlkit.tasks.labels import class_name
from tlkit.tasks.number import NUMBER
from tlkit.tasks.registry import asked_for, of_texts, picked
from tlkit.tasks.task import Task

if TYPE_CHECKING:
    from tlkit.data.clips import Finder

Wanted = tuple[Sequence[str] | None, Sequence[str]]  # requested classes, and those of a classifier
Reading = partial[Contents]  # `read_contents` with a story


def scan(
    images: str | Path,
    *,
    classes: Sequence[str] | None = None,
    group_by: str | None = None,
    labelled: bool | Task | None = True,
    known: Sequence[str] = (),
    fixes: Fixing | None = None,
    look: bool = False,
    story: Story = SILENCE,
) -> Dataset:
    """List the images of a folder (class per folder, or train/val/test with classes inside) or of a manifest file.

    Rows are sorted by path for a folder and keep the order of a manifest file. Content, not the name, decides
    what is an image; whether it can be decoded is checked later.

    Args:
        images: a folder, or a .csv, .tsv or .parquet file with columns `path,label[,split][,group]`.
        classes: class names in index order. Defaults to folder names sorted by code point, like Keras. For numbers,
            their columns.
        group_by: groups that must not straddle splits: a column of the manifest file, or a regular
            expression on the relative path whose first group is the group's name.
        labelled: True requires classes, a task its kind of ground truth; False takes every image below the folder with
            label -1; None takes classes if the folders or the file name them.
        known: classes of a classifier: folders with these names are classes, even if they look like splits.
        fixes: labels to change and images to drop.
        look: whether to decode every image as well, to find those that cannot be (`Dataset.unreadable`).
        story: receives progress and messages.

    Raises:
        TlkitError: for a missing source, no classes, an empty class folder, a class missing from train, ...
    """
    read = partial(read_contents, story=story, by=Looker if look else None)
    dataset = listed(images, (classes, known), group_by, labelled, read, None, story)
    tell_unexpected(dataset, story)
    return apply_fixes(dataset, fixes, story)


def listed(
    images: str | Path,
    wanted: Wanted,
    group_by: str | None,
    labelled: bool | Task | None,
    read: Reading,
    clips: "Finder | None",
    story: Story,
) -> Dataset:
    """List the images, or with `clips` the sampled frames."""
    source = Path(images).expanduser().absolute()
    if source.is_dir() or (clips is not None and source.is_file() and clips.takes(source)):
        return _scan_folder(source, str(images), wanted, group_by, labelled, read, clips, story)
    if source.suffix.lower() in SUFFIXES and source.is_file():
        return _scan_file(source, wanted, group_by, labelled, read, clips, story)
    raise _no_source(str(images), source)


def _scan_folder(
    root: Path,
    typed: str,
    wanted: Wanted,
    group_by: str | None,
    labelled: bool | Task | None,
    reading: Reading,
    clips: "Finder | None",
    story: Story,
) -> Dataset:
    if isinstance(labelled, Task):
        labelled.refuse("folders", f"--task {labelled.name} for {typed!r}")
    pattern = group_pattern(group_by) if group_by else None
    root, tree = (root, walk(root)) if root.is_dir() else (root.parent, Tree(files=[root.name]))
    flat = labelled is False or (labelled is None and not tree.folders)
    layout = _unlabelled(tree) if flat else read_layout(tree, typed, wanted[0] or wanted[1], clips=clips is not None)
    names = layout.classes if flat else _class_names(layout.classes, wanted[0], "class folder")
    layout, beside = (layout, 0) if clips is None else clips.of_layout(layout, root, typed)
    if clips is None:
        _refuse_films(layout, typed)
    contents = reading(root, layout.files)
    labels, given = layout.labels[contents.images], layout.given[contents.images]
    paths = taken(layout.files, contents.images.data)
    problems = (*layout.problems, *contents.problems)
    refuse_none(typed, paths, problems)
    _refuse_empty(layout, labels, given, problems)
    for note in layout.notes:
        story.say(note)
    loose = [Problem(paths[i], "lies in no class folder") for i in np.flatnonzero(labels == LOOSE).tolist()]
    dataset = Dataset(
        root=root,
        classes=names,
        paths=paths,
        labels=_renumbered(labels, layout.classes, names),
        sha256=contents.sha256,
        sizes=contents.sizes,
        given=given,
        set_aside=(*tree.loops, *problems),
        ignored=tree.ignored + contents.ignored + beside,
        extra={} if clips is None else {CLIP: taken(layout.clips, contents.images.data)},
        looks=contents.looks,
    )
    dataset = dataset.without(loose) if loose else dataset
    if isinstance(labelled, Task):
        truth = labelled.renamed(dataset.labels, None, names, names)
        dataset = replace(dataset, labels=truth[0], targets=truth[1])
    if pattern is None:
        return dataset
    named = dataset.paths if clips is None else list(map(clips.named, dataset.paths, dataset.extra[CLIP]))
    return replace(dataset, groups=match_groups(pattern, named))


def _scan_file(
    file: Path,
    wanted: Wanted,
    group_by: str | None,
    labelled: bool | Task | None,
    reading: Reading,
    clips: "Finder | None",
    story: Story,
) -> Dataset:
    listing = read_listing(file, labelled=labelled, classes=wanted[0] or wanted[1])
    if clips is not None:
        listing = clips.of_listing(listing, file)
    elif CLIP in listing.columns and group_by != CLIP:
        story.say(f"{file.name} has a column {CLIP!r}, but its rows are read as single images here.")
    for note in listing.notes:
        story.say(note)
    names: tuple[str, ...] = ()
    labels = np.full(len(listing.paths), UNLABELLED, dtype=np.int32)
    targets = None
    if labelled is not False and listing.labels is not None:
        names, labels, targets = _truth(file, listing, listing.labels, wanted, labelled)
    groups = _listed_groups(listing, group_by)
    contents = reading(file.parent, listing.paths, all_meant=True)
    kept, problems = contents.images.data, (*listing.problems, *contents.problems)
    if not kept and listing.paths and not any((file.parent / path).exists() for path in listing.paths):
        raise TlkitError(
            f"{str(file)!r} holds no image: none of the files it lists is there ({len(listing.paths):,}, the first "
            f"{listing.paths[0]!r}).",
            elsewhere(file, listing.paths),
        )
    refuse_none(str(file), kept, problems)
    dataset = Dataset(
        root=file.parent,
        classes=names,
        paths=taken(listing.paths, kept),
        labels=labels[contents.images],
        targets=picked(targets, contents.images),
        sha256=contents.sha256,
        sizes=contents.sizes,
        given=listing.given[contents.images],
        groups=None if groups is None else taken(groups, kept),
        extra={name: taken(column, kept) for name, column in listing.columns.items()},
        set_aside=problems,
        looks=contents.looks,
    )
    for name, count in zip(names, dataset.class_counts().tolist(), strict=True):
        if not count:
            raise TlkitError(f"no image of class {name!r} in {str(file)!r} can be used.", first_of(problems))
    return dataset


def _truth(
    file: Path, listing: Listing, texts: Sequence[str], wanted: Wanted, labelled: bool | Task | None
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray | None]:
    """The names of classes or numbers, and the columns `labels` and `targets`, from a table."""
    asked = labelled if isinstance(labelled, Task) else None
    if asked is NUMBER:
        names = tuple(wanted[0] or wanted[1] or (TARGET,))
        return names, *asked.read(texts, names)
    known: dict[str, tuple[str, ...]] = {}  # one object shared by rows with the same labels
    read = [known.get(text) or known.setdefault(text, labels_of(file, texts, row)) for row, text in enumerate(texts)]
    names = _class_names(tuple(sorted({name for row in known.values() for name in row})), wanted[0], "label")
    _refuse_untrained(file, read, listing.given)
    return names, *of_texts(texts, asked).read(texts, names)


class _Asked(Protocol):
    """Options on task and labels."""

    @property
    def task(self) -> str: ...
    @property
    def target(self) -> Sequence[str] | None: ...
    @property
    def classes(self) -> Sequence[str] | None: ...


def labelling(config: _Asked, otherwise: bool | None = True) -> dict[str, Any]:
    """`labelled` and `classes` of `scan` from options; `labelled` is `otherwise` if the task is `auto`."""
    asked = asked_for(config.task)
    return {"labelled": otherwise if asked is None else asked, "classes": config.target or config.classes}


def _listed_groups(listing: Listing, group_by: str | None) -> Sequence[str] | None:
    """Groups from a column, which is removed from the extra ones, or from a pattern."""
    column = group_column(group_by, list(listing.columns))
    if column is not None:
        groups = listing.columns.pop(column)
        return groups if any(groups) else None
    return match_groups(group_pattern(group_by, list(listing.columns)), listing.paths) if group_by else None


def _unlabelled(tree: Tree) -> Layout:
    """The layout of all files without classes, whatever their folder."""
    n = len(tree.files)
    labels, given = np.full(n, UNLABELLED, np.int32), np.full(n, UNASSIGNED, np.int8)
    return Layout(classes=(), files=tree.files, labels=labels, given=given, class_folders={})


def _class_names(found: tuple[str, ...], asked: Sequence[str] | None, kind: str) -> tuple[str, ...]:
    """The classes in index order: as requested, checked against those found, else as found."""
    if asked is None:
        return found
    asked = [class_name(name) for name in asked]
    if len(set(asked)) < len(asked):
        twice = next(name for name in asked if list(asked).count(name) > 1)
        raise TlkitError(f"--classes names {twice!r} twice.", "name every class once.")
    for name in asked:
        if name not in found:
            raise unknown_name(f"a {kind} here", name, found)
    missing = [name for name in found if name not in asked]
    if missing:
        raise TlkitError(
            f"--classes leaves out the {kind} {missing[0]!r}.", f"name every class: {','.join([*asked, *missing])}."
        )
    return tuple(asked)


def _renumbered(labels: np.ndarray, found: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """Labels as indices into `names` instead of `found`; negative ones are kept."""
    if found == names:
        return labels
    table = np.array([names.index(name) for name in found], dtype=np.int32)
    return np.where(labels >= 0, table[labels], labels).astype(np.int32)


def refuse_none(source: str, kept: Sequence[object], problems: Sequence[Problem]) -> None:
    """Raise if no image is left of a source."""
    if not kept:
        raise TlkitError(f"{source!r} holds no image.", first_of(problems))


def _refuse_films(layout: Layout, typed: str) -> None:
    """Raise for films: they are clips, which must be requested."""
    kinds = {suffix(path) for path in layout.files}
    if kinds & FILMS and not kinds & IMAGE_SUFFIXES:
        first = next(path for path in layout.files if suffix(path) in FILMS)
        raise TlkitError(
            f"{typed!r} holds films and no images, the first {first!r}.",
            "`tlkit finetune` treats each as a clip with --frames 16; other commands take images.",
        )


def _refuse_empty(layout: Layout, labels: np.ndarray, given: np.ndarray, problems: Sequence[Problem]) -> None:
    """Raise for a class folder without images."""
    filled = set(zip(labels.tolist(), given.tolist(), strict=True))
    for folder, place in layout.class_folders.items():
        if place not in filled:
            bad = [problem for problem in problems if problem.path.startswith(f"{folder}/")]
            raise TlkitError(
                f"the class folder {folder!r} holds no image.",
                first_of(bad) if bad else "put images of the class into it, or remove it.",
            )


def _refuse_untrained(file: Path, labels: Sequence[tuple[str, ...]], given: np.ndarray) -> None:
    """Raise for a class that occurs only in val or test; rows without a split may train."""
    if not (given == SPLITS.index("train")).any():
        return
    trained = {
        name for names, code in zip(labels, given, strict=True) if code <= SPLITS.index("train") for name in names
    }
    unknown = sorted({name for names in labels for name in names} - trained)
    if unknown:
        raise TlkitError(
            f"{str(file)!r} has no training row of class {unknown[0]!r}, only rows of other splits.",
            "a model cannot learn a class without training images: correct the label, or remove those rows.",
        )


def tell_unexpected(dataset: Dataset, story: Story) -> None:
    """Report missing classes, files set aside and files left out."""
    for code, split in enumerate(SPLITS):
        rows = dataset.given == code
        lacking = np.flatnonzero(dataset.class_counts(rows) == 0).tolist() if rows.any() else []
        if lacking:
            names = ", ".join(dataset.classes[label] for label in lacking[:5])
            story.say(f"{split} has no image of {len(lacking)} classes: {names}{' ...' if len(lacking) > 5 else ''}.")
    if dataset.set_aside:
        first = dataset.set_aside[0]
        count = len(dataset.set_aside)
        which = f"{first.path!r} " if count == 1 else f"the first, {first.path!r}, "
        story.say(f"{'1 file' if count == 1 else f'{count:,} files'} set aside: {which}{first.reason}.")
    if dataset.ignored:
        story.detail(f"Left out {dataset.ignored} files that are not images.")


def first_of(problems: Sequence[Problem]) -> str:
    """The remedy, naming the first file that was set aside."""
    if not problems:
        return "give a folder of images, or a CSV file with columns path,label."
    count = f"{len(problems)} files were" if len(problems) > 1 else "one file was"
    return f"{count} set aside, first {problems[0].path!r}, which {problems[0].reason}."


# Files that contain or list images but cannot be read by a command, and what to do with each.
_PACKED = {
    **dict.fromkeys((".zip",), "unpack it and give the folder: unzip {file} -d {stem}"),
    **dict.fromkeys(
        (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"),
        "unpack it and give the folder: mkdir {stem} && tar -xf {file} -C {stem}",
    ),
    **dict.fromkeys((".7z", ".rar"), "unpack it and give the folder: 7z x {file} -o{stem}"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as CSV UTF-8, with columns path,label"),
    **dict.fromkeys((".json", ".jsonl", ".txt", ".xml"), "write a CSV with columns path,label[,split] from it"),
    **dict.fromkeys(
        (".npz", ".npy", ".h5", ".hdf5", ".mat", ".tfrecord", ".lmdb", ".arrow"),
        "write its images into a folder for each class",
    ),
}


def _no_source(typed: str, source: Path) -> TlkitError:
    """The error for a source that is missing or not a table."""
    if not source.exists():
        return missing(typed, "give a folder of images.")
    kind = source.suffix.lower()
    if kind in IMAGE_SUFFIXES or suffix(source.name) in IMAGE_SUFFIXES:
        what, remedy = "is one image", "give the folder of images; `tlkit predict RUN FILE` classifies one."
    elif kind in _PACKED:
        stem = source.name.partition(".")[0]
        what, remedy = (
            f"is a file ({kind})",
            _PACKED[kind].format(file=shlex.quote(typed), stem=shlex.quote(stem)) + ".",
        )
    else:
        what, remedy = (
            "is a file",
            f"give a folder of images, or a file ending in {', '.join(SUFFIXES)} with columns path,label.",
        )
    return TlkitError(f"{typed!r} {what}, neither a folder nor a manifest file.", remedy)
