"""A sample folder appears whole or not at all, and says inside what it is."""

import contextlib
import csv
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkit.core.atomic import write_json
from tlkit.core.errors import TlkitError
from tlkit.core.labels import read_labels

CARD, TABLE = "sample.json", "images.csv"
PARTIAL = ".tmp-"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


def refuse_foreign(out: Path, *, overwrite: bool) -> None:
    """Raise unless `out` is free, or is a sample that may be replaced.

    `--overwrite` never deletes a folder that `tlkit sample` did not write: it could hold somebody's only photographs.

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
            f"{str(out)!r} is no sample of tlkit's: it has no {CARD}.",
            "--overwrite replaces only folders that `tlkit sample` wrote; choose another folder.",
        )


def downloads_of(out: Path) -> Path:
    """Where archives for `out` wait between a failure and the next try: on its disk, hidden."""
    return out / ".download" if out.is_dir() else out.with_name(f".{out.name}.download")


@contextlib.contextmanager
def new_folder(out: Path, card: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder; on success it becomes `out`, with its card.

    A new `out` appears in one step. One that is there is filled in place, for it may be a mount that cannot be
    renamed; then the card comes last and says that the rest is complete.
    """
    name = f"{PARTIAL}{secrets.token_hex(4)}"
    in_place = out.is_dir()
    temporary = out / name if in_place else out.with_name(f"{name}-{out.name}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        card = card | count_images(temporary)
        if in_place:
            _replace_contents(out, temporary)
            write_json(out / CARD, card)
        else:
            write_json(temporary / CARD, card)
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _contents(out: Path) -> list[Path]:
    """What is in a folder, without what an interrupted `tlkit sample` left."""
    return [path for path in out.iterdir() if not path.name.startswith((PARTIAL, ".download"))]


def _replace_contents(out: Path, new: Path) -> None:
    (out / CARD).unlink(missing_ok=True)
    for path in _contents(out):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in list(new.iterdir()):
        path.rename(out / path.name)


def count_images(folder: Path) -> dict[str, Any]:
    """`{"images": n, "classes": [name, ...]}` of a folder with images in class folders, in splits or not, or in a table."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if (folder / TABLE).is_file():
        with (folder / TABLE).open(encoding="utf-8", newline="") as file:
            labels = [read_labels(row["label"], TABLE) for row in csv.DictReader(file)]
        return {"images": len(files), "classes": sorted({name for names in labels for name in names})}
    return {"images": len(files), "classes": sorted({path.parent.name for path in files})}
