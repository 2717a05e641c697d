"""Fetch a public dataset by its recipe: download, check, unpack, arrange into class folders."""

import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tlkit.base.download import Patience, download
from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.samples.recipes import IMAGE_SUFFIXES, ArchiveLayout, Recipe

# Photographs do not compress: an archive that unpacks to more than this multiple of its size is not a dataset of them.
EXPANSION = 4
SLACK = 64 << 20


def fetch(recipe: Recipe, folder: Path, downloads: Path, story: Story, patience: Patience | None = None) -> None:
    """Write the dataset into `folder` (exists, empty) as CLASS/FILE or SPLIT/CLASS/FILE.

    Args:
        recipe: recipe of the dataset.
        folder: folder to fill.
        downloads: folder that keeps archives between a failure and the next try; removed on success.
        story: receives progress.
        patience: timeouts and retries.

    Raises:
        TlkitError: if a file cannot be downloaded, differs from the recipe, or has a different layout.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    archives = [downloads / file.name for file in recipe.files]
    _require_space(recipe, downloads, archives)
    for file, archive in zip(recipe.files, archives, strict=True):
        if not file.sha256 and not file.md5:
            story.say(f"{file.name}: no checksum is known ({file.stated_by}).")
        download(file, archive, story, patience)
    unpacked = folder / ".unpacked"
    unpacked.mkdir()
    budget = EXPANSION * recipe.bytes + SLACK
    for archive in archives:
        _unpack_wanted(archive, unpacked, recipe.layout, budget, story)
    if recipe.layout.kind == "folders":
        _arrange_folders(unpacked, folder, recipe.layout)
    else:
        _arrange_lists(unpacked, folder, recipe.layout)
    shutil.rmtree(unpacked)
    if not any(folder.iterdir()):
        raise TlkitError(
            f"{recipe.name} has no images below {recipe.layout.root!r}.", "correct root in the recipe's [layout]."
        )
    shutil.rmtree(downloads)


def _require_space(recipe: Recipe, downloads: Path, archives: list[Path]) -> None:
    """Refuse, before downloading, if the archives and about as much again for the images would not fit."""
    here = sum(path.stat().st_size for path in downloads.iterdir() if path.is_file())
    needed, free = 2 * recipe.bytes - here, shutil.disk_usage(downloads).free
    if free < needed:
        raise TlkitError(
            f"{recipe.name} needs about {needed / 1e9:.1f} GB in {str(downloads.parent)!r}, {free / 1e9:.1f} GB are "
            "free.",
            "make room, or choose a folder on another disk.",
        )


def _unpack_wanted(archive: Path, unpacked: Path, layout: ArchiveLayout, budget: int, story: Story) -> None:
    """Unpack the images below the root and the lists, through the inner archive if there is one."""

    def wanted(name: str) -> bool:
        image = name.startswith(f"{layout.root}/") and name.lower().endswith(IMAGE_SUFFIXES)
        return image or name in layout.lists.values()

    if not layout.inner:
        unpack(archive, unpacked, wanted, budget, story)
        return
    unpack(archive, unpacked, layout.inner.__eq__, budget, story)
    inner = unpacked / layout.inner
    if not inner.is_file():
        raise TlkitError(f"{archive.name} has no {layout.inner!r} in it.", "correct inner in the recipe's [layout].")
    unpack(inner, unpacked, wanted, budget, story)


def _arrange_folders(unpacked: Path, folder: Path, layout: ArchiveLayout) -> None:
    """Move root/CLASS/FILE or root/SPLIT/CLASS/FILE up, renaming classes by the recipe."""
    root = unpacked / layout.root
    for path in sorted(root.rglob("*")):
        *parents, name = path.relative_to(root).parts
        if path.is_dir() or not 1 <= len(parents) <= 2 or parents[-1] in layout.leave_out:
            continue
        parents[-1] = safe_name(layout.rename.get(parents[-1], parents[-1]), "the recipe's rename")
        _move(path, folder.joinpath(*parents, name))


def _arrange_lists(unpacked: Path, folder: Path, layout: ArchiveLayout) -> None:
    """Move root/CLASS_NUMBER.jpg to SPLIT/CLASS/CLASS_NUMBER.jpg for each line of the split's list."""
    files = {path.stem: path for path in (unpacked / layout.root).glob("*") if path.is_file()}
    for split, list_name in layout.lists.items():
        listing = unpacked / list_name
        if not listing.is_file():
            raise TlkitError(f"no archive has {list_name!r} in it.", "correct lists in the recipe's [layout].")
        for line in listing.read_text(encoding="utf-8").splitlines():
            stem = line.split()[0] if line.strip() and not line.startswith("#") else ""
            if stem in files:
                _move(files.pop(stem), folder / split / stem.rpartition("_")[0] / f"{stem}.jpg")


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


# -- Unpack an archive that may be hostile: plain files only, inside the folder only, within a budget of bytes ---

CHUNK = 1 << 20
MAX_FILES = 2_000_000
BLIND = ("__MACOSX", "Thumbs.db", "desktop.ini")  # files that desktop systems add to archives
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool], budget: int, story: Story) -> None:
    """Write the plain files of `archive` whose name `wanted` accepts below `folder`.

    Args:
        archive: a zip, or a tar with any compression.
        folder: existing folder; nothing is ever written outside it.
        wanted: decides by a member's POSIX path.
        budget: maximum bytes to write, counted as written, not as declared by the archive.
        story: receives progress.

    Raises:
        TlkitError: if the archive is damaged, names a path outside the folder, or exceeds the budget.
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
        if isinstance(error, OSError) and error.errno:  # a problem of the disk, not of the archive
            raise TlkitError(f"{archive.name} cannot be unpacked: {error}.", "make room, then run it again.") from error
        raise TlkitError(f"{archive.name} is damaged: {error}.", "delete it and download it again.") from error


_HINT = "do not use this archive: it is not what the recipe describes."


def safe_name(name: str, archive: str) -> str:
    """The member's path, if it is inside the target folder on every system.

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
                raise TlkitError(f"{archive.name} has {name!r}, which is not a plain file.", _HINT)
            with content:
                yield name, content


def _blind(name: str) -> bool:
    """Whether a member is hidden or a file of a desktop system."""
    return any(part in BLIND or (part.startswith(".") and part.strip(".")) for part in name.split("/"))


def _write(content: IO[bytes], target: Path, budget: int, archive: str) -> int:
    """Copy a member within the budget; return its bytes."""
    written = 0
    with target.open("wb") as file:
        while chunk := content.read(CHUNK):
            written += len(chunk)
            if written > budget:
                raise TlkitError(f"{archive} unpacks to far more than it should.", _HINT)
            file.write(chunk)
    return written
