"""Recipes of public datasets: URLs, checksums, licence and layout of their files.

A recipe is a TOML file in `datasets/recipes`; its keys are the fields of `Recipe`. A wheel contains the same files.
"""

import contextlib
import csv
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError, nearest, unknown_name
from tlkit.base.files import PREFIX, temporary_beside, write_json
from tlkit.base.remote import RemoteFile
from tlkit.options import catalog
from tlkit.tasks.labels import read_labels

LAYOUTS = ("folders", "lists")


@dataclass(frozen=True, kw_only=True)
class ArchiveLayout:
    """Where the images are in the archives, and how their classes are found.

    Args:
        kind: `folders`: below `root` are CLASS/FILE or SPLIT/CLASS/FILE, kept as they are;
            `lists`: below `root` are files named CLASS_NUMBER, and text files list the files of each split.
        root: folder in the archive.
        inner: an archive inside the archive that contains everything, or "".
        lists: split -> text file in the archive; each line begins with a file name without suffix.
        rename: class folder -> better name.
        leave_out: folders that are not classes.
    """

    kind: str = "folders"
    root: str
    inner: str = ""
    lists: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A public dataset: its description, licence and files.

    Args:
        name: as typed.
        title: title in prose.
        homepage: page of its authors.
        licence: licence of the images, with remarks.
        citation: citation requested by its authors.
        images: expected number of images.
        classes: number of classes.
        splits: split -> number of images, as published; empty if the authors made no split.
        notes: remarks for users.
        files: files to download.
        layout: how they are arranged into class folders.
    """

    name: str
    title: str
    homepage: str
    licence: str
    citation: str
    images: int
    classes: int
    splits: Mapping[str, int] = field(default_factory=dict)
    notes: str = ""
    files: tuple[RemoteFile, ...]
    layout: ArchiveLayout

    @property
    def bytes(self) -> int:
        """Total bytes to download."""
        return sum(file.bytes for file in self.files)

    @property
    def card(self) -> dict[str, Any]:
        """The card written into the dataset's folder, which keeps the licence with the images."""
        keys = ("name", "title", "licence", "homepage", "citation", "notes")
        return {key: getattr(self, key) for key in keys} | {"urls": [file.urls[0] for file in self.files]}


def folder() -> Path:
    """The folder of recipes: beside this file in a wheel, `datasets/recipes` in a checkout."""
    shipped = Path(__file__).parent / "recipes"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "datasets" / "recipes"


def read_recipe(name: str) -> Recipe:
    """The recipe of a known name, or of a path to a TOML file.

    Raises:
        TlkitError: for a name that is neither, with the nearest known one; for a file that is not a recipe.
    """
    if name.endswith(".toml"):
        path = Path(name)
    elif name in catalog.FETCHED_SAMPLES:
        path = folder() / f"{name}.toml"
    else:
        known = (*catalog.MADE_SAMPLES, *catalog.FETCHED_SAMPLES)
        raise unknown_name("a sample", name, known)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TlkitError(f"the recipe {str(path)!r} does not exist.", "give the path of a recipe (.toml).") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TlkitError(f"the recipe {path} cannot be read: {error}.", "see datasets/recipes for examples.") from error
    return _recipe(content, str(path))


def _recipe(content: dict[str, Any], place: str) -> Recipe:
    """Build a recipe from parsed TOML, checking each part."""
    parts = dict(content)
    entries = parts.pop("files", [])
    files = tuple(_build(RemoteFile, entry, f"{place}, file {i}:") for i, entry in enumerate(entries, 1))
    if not files:
        raise TlkitError(f"{place} has no [[files]].", "see datasets/recipes for examples.")
    for i, file in enumerate(files, 1):
        file.check(f"{place}, file {i}:")
    layout = _build(ArchiveLayout, parts.pop("layout", {}), f"{place}, layout:")
    if layout.kind not in LAYOUTS:
        raise unknown_name(f"a layout ({place})", layout.kind, LAYOUTS)
    return _build(Recipe, parts | {"files": files, "layout": layout}, f"{place}:")


def _build(kind: type, given: dict[str, Any], place: str) -> Any:
    """Build a dataclass from a TOML table; raise for unknown keys, missing keys and values of the wrong type."""
    specs = {spec.name: spec for spec in fields(kind)}
    for key in given:
        if key not in specs:
            guess = nearest(key, specs)
            raise TlkitError(f"{place} unknown key {key!r}.", f"did you mean {guess!r}?" if guess else "drop it.")
    needed = [n for n, s in specs.items() if s.default is MISSING and s.default_factory is MISSING and n not in given]
    if needed:
        raise TlkitError(f"{place} {', '.join(needed)} not given.", "see datasets/recipes for examples.")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    for key, value in values.items():
        wanted = specs[key].type
        plain = {str: "text", int: "a whole number"}
        if wanted in plain and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise TlkitError(f"{place} {key} is {value!r}, expected {plain[wanted]}.", "correct it.")
    return kind(**values)


# -- Sample folders are written atomically, with a card -------------------

CARD, TABLE = "sample.json", "images.csv"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


def refuse_foreign(out: Path, *, overwrite: bool) -> None:
    """Raise unless `out` is unused, or is a sample that may be replaced.

    `--overwrite` never deletes a folder that `tlkit sample` did not write: it could hold someone's only photographs.

    Raises:
        TlkitError: naming the folder and the remedy.
    """
    if out.exists() and not out.is_dir():
        raise TlkitError(f"{str(out)!r} is a file, expected a folder to write.", "choose another folder.")
    if not out.exists() or not _contents(out):
        return
    if not overwrite:
        raise TlkitError(f"{str(out)!r} already exists.", "choose another folder, or add --overwrite.")
    if not (out / CARD).is_file():
        raise TlkitError(
            f"{str(out)!r} is not a sample of tlkit's: it has no {CARD}.",
            "--overwrite replaces only folders that `tlkit sample` wrote; choose another folder.",
        )


def downloads_of(out: Path) -> Path:
    """The hidden folder, on the disk of `out`, that keeps archives between a failure and the next try."""
    return out / ".download" if out.is_dir() else out.with_name(f".{out.name}.download")


@contextlib.contextmanager
def new_folder(out: Path, card: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder; on success it becomes `out`, with its card.

    A new `out` appears in one step. An existing one is filled in place, because it may be a mount that cannot be
    renamed; then the card is moved last, to mark the rest as complete, and the old contents are removed after that.
    """
    in_place = out.is_dir()
    temporary, old = (temporary_beside(out / name if in_place else out) for name in ("sample", "old"))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        card = card | count_images(temporary)
        if in_place:
            _replace_contents(out, temporary, old)
            write_json(out / CARD, card)
        else:
            write_json(temporary / CARD, card)
            temporary.rename(out)
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def _contents(out: Path) -> list[Path]:
    """The contents of a folder, without leftovers of an interrupted `tlkit sample`."""
    return [path for path in out.iterdir() if not path.name.startswith((PREFIX, ".download"))]


def _replace_contents(out: Path, new: Path, old: Path) -> None:
    """Replace the contents by renames, which are too fast to leave a mixture in practice."""
    old.mkdir()
    # the card, which marks the folder as complete, first
    for path in sorted(_contents(out), key=lambda path: path.name != CARD):
        path.rename(old / path.name)
    for path in list(new.iterdir()):
        path.rename(out / path.name)


def count_images(folder: Path, above: int = 0) -> dict[str, Any]:
    """Count images and classes, `{"images": n, "classes": [name, ...]}`, in class folders, splits or a table.

    Args:
        folder: folder of the sample.
        above: number of folders between an image and its class folder, 1 for clips.
    """
    files = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if (folder / TABLE).is_file():
        with (folder / TABLE).open(encoding="utf-8", newline="") as file:
            labels = [read_labels(row["label"], TABLE) for row in csv.DictReader(file)]
        return {"images": len(files), "classes": sorted({name for names in labels for name in names})}
    return {"images": len(files), "classes": sorted({path.parents[above].name for path in files})}
