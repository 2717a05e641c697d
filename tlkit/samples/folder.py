"""A sample folder appears whole or not at all, and says inside what it is."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkit.core.atomic import write_json
from tlkit.core.errors import TlkitError
from tlkit.core.run_dir import refuse_occupied

CARD = "sample.json"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


def refuse_foreign(out: Path, *, overwrite: bool) -> None:
    """Raise unless `out` is free, or is a sample that may be replaced.

    `--overwrite` never deletes a folder that `tlkit sample` did not write: it could hold somebody's only photographs.

    Raises:
        TlkitError: naming the folder and the remedy.
    """
    if out.exists() and not out.is_dir():
        raise TlkitError(f"{str(out)!r} is a file, expected a folder to write.", "choose another folder.")
    refuse_occupied(out, overwrite=overwrite, remedy="choose another folder, or add --overwrite.")
    if out.is_dir() and any(out.iterdir()) and not (out / CARD).is_file():
        raise TlkitError(
            f"{str(out)!r} is no sample of tlkit's: it has no {CARD}.",
            "--overwrite replaces only folders that `tlkit sample` wrote; choose another folder.",
        )


@contextlib.contextmanager
def new_folder(out: Path, card: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder beside `out`; on success it gets its card and takes the place of `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".tmp-{secrets.token_hex(4)}-{out.name}")
    temporary.mkdir()
    try:
        yield temporary
        write_json(temporary / CARD, card | count_images(temporary))
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def count_images(folder: Path) -> dict[str, Any]:
    """`{"images": n, "classes": [name, ...]}` of a folder with images in class folders, in splits or not."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return {"images": len(files), "classes": sorted({path.parent.name for path in files})}
