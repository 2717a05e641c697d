"""Files appear whole or not at all: write beside the target, flush, rename."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError, first_line
from tlkit.base.leftovers import temporary_beside

CHECKSUM = "checksum"  # of a JSON object, the last of its names


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path` in one step.

    A kill at any moment leaves either the old file or the new one, never half of one. The
    temporary name keeps the suffix (writers choose formats by it) and starts with `.tmp-`,
    so that a leftover is recognisable and never read.

    Args:
        path: what to write.
        durable: wait until the disk has it; without, a loss of power (not a kill) may leave it empty or zeros.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system lets anybody ask for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically. Bytes of file names that are no UTF-8 come out as they are."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; bytes that are no UTF-8 come back as they were."""
    return json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))


def write_checked_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON with a checksum of its own, atomically."""
    content = json.loads(json.dumps(value, allow_nan=False))  # as it will be read: tuples as lists, names as text
    write_json(path, content | {CHECKSUM: sha256_json(content)})


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read what `write_checked_json` wrote, without its checksum; an object that has none is taken as it is.

    Raises:
        ValueError: it is no JSON, no object, or not what was written.
        OSError: it cannot be read.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    found = content.pop(CHECKSUM, None)
    if found is not None and found != sha256_json(content):
        raise ValueError(f"it is not what was written: its {CHECKSUM} is another")
    return content


@contextlib.contextmanager
def reading(path: Path, hint: str) -> Iterator[None]:
    """Inside, whatever a damaged or missing file makes its reader raise becomes one error that names the file.

    Args:
        path: of the file.
        hint: how to get it back.

    Raises:
        TlkitError: the file is gone, cannot be read, or holds what its reader does not understand.
    """
    try:
        yield
    except TlkitError:
        raise
    except FileNotFoundError as error:
        raise TlkitError(f"{str(path)!r} is gone.", hint) from error
    except OSError as error:
        if error.errno is None:  # of a library that reads the content, such as h5py
            raise TlkitError(f"{str(path)!r} is damaged: {first_line(error)}", hint) from error
        raise TlkitError(f"{str(path)!r} cannot be read: {error.strerror}.", hint) from error
    except Exception as error:  # json, csv, zipfile, NumPy, h5py and Keras each raise their own
        reason = first_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {first_line(error)}"
        raise TlkitError(f"{str(path)!r} is damaged: {reason}", hint) from error


# -- Names for content: the same bytes always get the same sha256, whatever the file is called ---


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_file(path: Path) -> str:
    """Hex md5 of a file's bytes, for the sums of publishers who state no other."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
