"""Atomic writes: write beside the target, flush, rename; leftovers of killed processes are removed."""

import codecs
import contextlib
import csv
import errno
import functools
import hashlib
import json
import os
import platform
import re
import secrets
import shlex
import shutil
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, overload

from tlkit.base.errors import TlkitError, first_line, nearest

CHECKSUM = "checksum"  # key of the checksum, the last in a JSON object
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # error numbers for a full disk


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` in one step.

    A kill at any moment leaves either the old file or the new one, never part of one. The temporary name keeps the
    suffix (writers choose formats by it) and starts with `.tmp-`, so that a leftover is recognisable and never read.

    Args:
        path: what to write.
        durable: flush to disk first; otherwise a power loss (not a kill) may leave it empty or zero-filled.
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
    except OSError as error:
        error.filename = str(path)  # it has no name if the disk is full
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the directory entries of a folder to disk, if the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically. Bytes of file names that are not UTF-8 are encoded by `BYTES_AS_TEXT`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=BYTES_AS_TEXT, newline="")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; bytes of file names that are not UTF-8 are restored."""
    return json.loads(restored(path.read_text(encoding="utf-8", errors="surrogateescape")))


# -- File names that are not UTF-8 --------------------------------------------------------------
#
# A file name is bytes, and Python represents a byte that is not UTF-8 as a lone surrogate, U+DC80 to U+DCFF, which
# UTF-8 cannot encode. It is written as the private use character U+EF00 + byte, U+EF80 to U+EFFF (as in MirBSD's
# OPTU-8), so that everything written is UTF-8, and converted back on reading.

BYTES_AS_TEXT = "tlkit-bytes-as-text"  # the error handler for files that are written
_ESCAPED, _PRIVATE = range(0xDC80, 0xDD00), range(0xEF80, 0xF000)
_RESTORED = dict(zip(_PRIVATE, map(chr, _ESCAPED), strict=True))


def _as_private(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = [ord(letter) for letter in error.object[error.start : error.end]]
    if any(code not in _ESCAPED for code in codes):
        raise error
    # As bytes: CPython's UTF-8 encoder accepts only ASCII text from an error handler.
    return "".join(chr(code - _ESCAPED[0] + _PRIVATE[0]) for code in codes).encode(), error.end


codecs.register_error(BYTES_AS_TEXT, _as_private)


def restored(text: str) -> str:
    """Restore a file name that was written with `BYTES_AS_TEXT`."""
    return text if text.isascii() else text.translate(_RESTORED)


def missing(typed: str, wanted: str) -> TlkitError:
    """The error for a path that does not exist, which may be a URL or a misspelt name.

    Args:
        typed: what the user gave.
        wanted: what was expected, if there is nothing to correct.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", typed, re.IGNORECASE):  # not C:/
        name = typed.partition("?")[0].rstrip("/").rpartition("/")[2]
        fetch = f"curl -LO {shlex.quote(typed)}" if typed.lower().startswith("http") else "copy it here"
        unpack = f", unpack it (unzip {name})" if name.lower().endswith(".zip") else ""
        return TlkitError(
            f"{typed!r} is an address, expected a path.",
            f"download it first ({fetch}){unpack}, then give the folder or file.",
        )
    path = Path(typed).expanduser().absolute()
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    guess = nearest(path.name, siblings, alike=0.7)  # stricter, as a folder holds many unrelated names
    if guess is None:
        return TlkitError(f"{typed!r} does not exist.", wanted)
    right = str(Path(typed).with_name(guess))
    return TlkitError(f"{typed!r} does not exist.", f"did you mean {right!r}?", instead=(typed, right))


def write_checked_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON with a checksum of its content, atomically."""
    content = json.loads(json.dumps(value, allow_nan=False))  # as it will be read: tuples as lists, keys as text
    write_json(path, content | {CHECKSUM: sha256_json(content)})


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read what `write_checked_json` wrote, without its checksum; an object without one is accepted.

    Raises:
        ValueError: if it is not JSON, not an object, or its checksum does not match.
        OSError: if it cannot be read.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError("it does not hold a JSON object")
    found = content.pop(CHECKSUM, None)
    if found is not None and found != sha256_json(content):
        raise ValueError(f"it is not what was written: its {CHECKSUM} is another")
    return content


def is_full(error: BaseException) -> bool:
    """Whether the disk was too full to unpack a file being read; `error` then names the temporary folder."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return False
    error.filename = error.filename or tempfile.gettempdir()
    return True


@contextlib.contextmanager
def reading(path: Path, hint: str) -> Iterator[None]:
    """Context in which any error from reading a damaged or missing file becomes a TlkitError that names it.

    Args:
        path: the file.
        hint: how to restore it.

    Raises:
        TlkitError: if the file is gone, cannot be read or cannot be parsed.
    """
    try:
        yield
    except TlkitError:
        raise
    except FileNotFoundError as error:
        raise TlkitError(f"{str(path)!r} is gone.", hint) from error
    except OSError as error:
        if is_full(error):
            raise
        if error.errno is None:  # from a library that reads the content, such as h5py
            raise TlkitError(f"{str(path)!r} is damaged: {first_line(error)}", hint) from error
        raise TlkitError(f"{str(path)!r} cannot be read: {error.strerror}.", hint) from error
    except Exception as error:  # json, csv, zipfile, NumPy, h5py and Keras each raise their own
        reason = first_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {first_line(error)}"
        raise TlkitError(f"{str(path)!r} is damaged: {reason}", hint) from error


# -- Content hashes ---


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SETTLED_AFTER = 2.0  # seconds after the last change from which size and times identify a file's content
_known: dict[
    tuple[str, int, int, int, int, int], str
] = {}  # path, device, inode, size, times of change in ns -> sha256


def known_sha256(path: Path) -> str:
    """Hex sha256 of a file, cached until the file changes."""
    status = path.stat()
    stamp = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if stamp in _known:
        return _known[stamp]
    found = sha256_file(path)
    if (
        time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_AFTER
    ):  # a later change may hide another within the clock's tick
        _known[stamp] = found
    return found


def md5_file(path: Path) -> str:
    """Hex md5 of a file's bytes, for publishers who state no other checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


# -- Temporary names carry the process that made them, so that those of a killed process are removed by the next one ---
#
#     .tmp-HOST-PROCESS-RANDOM-NAME     beside NAME, which it will replace
#
# HOST identifies the machine, because on a shared disk the same number may be a process elsewhere.

PREFIX = ".tmp-"
_ASIDE = ".replaced-"
_OURS = re.compile(r"\.tmp-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(-.*)?", re.DOTALL)
_swept: set[Path] = set()


def temporary_beside(path: Path) -> Path:
    """A temporary name for what will replace `path`; leftovers of dead processes in its folder are removed first."""
    sweep(path.parent)
    return path.with_name(f"{PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


@contextlib.contextmanager
def replacing_all(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder; on success everything in it is moved into `folder`, on failure nothing is.

    A new `folder` appears in one step. In an existing one a kill may come between two files: the longest names are
    moved first, so that a file whose name others extend appears only after them.
    """
    new = not folder.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = temporary_beside(folder if new else folder / "files")
    try:
        made.mkdir()
        yield made
        if new and not folder.exists():
            made.rename(folder)
            sync_folder(folder.parent)
            return
        for path in sorted(made.iterdir(), key=lambda path: (-len(path.name), path.name)):
            place = folder / path.name
            if place.is_dir():  # a rename cannot replace a folder that is not empty
                place.rename(made / f"{_ASIDE}{path.name}")
            path.replace(place)
        sync_folder(folder)
    finally:
        _put_back(made, folder)
        remove(made)


def _put_back(made: Path, folder: Path) -> None:
    """Return to `folder` what was moved aside and has not been replaced, because the move after it failed or was killed."""
    for old in made.glob(f"{_ASIDE}*"):
        place = folder / old.name.removeprefix(_ASIDE)
        if not place.exists():
            old.rename(place)


def sweep(folder: Path) -> None:
    """Remove temporary files and folders of dead processes, once per folder and process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):  # a folder that is missing or not readable
        for entry in folder.iterdir():
            if is_nobodys(entry.name):
                _put_back(entry, folder)
                remove(entry)


def is_nobodys(name: str) -> bool:
    """Whether a file of this name was made by a process of this machine that has ended."""
    found = _OURS.fullmatch(name)
    return found is not None and found[1] == _host() and not is_alive(int(found[2]))


def remove(path: Path) -> None:
    """Remove a file or a folder, ignoring failures."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether this machine has a process of that number; assumed where it cannot be checked safely."""
    if os.name != "posix" or process <= 0:
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return not _has_ended(process)


def _has_ended(process: int) -> bool:
    """Whether it is a zombie: in a container whose first process never reaps children, it stays one."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:  # not Linux, or ended meanwhile
        return False
    return stat.rpartition(b")")[2].split()[:1] in ([b"Z"], [b"X"])


def sweep_logs(folder: Path) -> None:
    """Remove `native-PROCESS.log` of dead processes."""
    with suppress(OSError):
        for log in folder.glob("native-*.log"):
            process = log.stem.partition("-")[2]
            if process.isdecimal() and not is_alive(int(process)):
                remove(log)


@functools.cache
def _host() -> str:
    return hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]


# -- CSV cells that spreadsheets do not run as formulas, and that read back unchanged ---
#
# Spreadsheets take text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula, and a file or
# class may have such a name (CWE-1236, "Improper Neutralization of Formula Elements in a CSV File"). The rule: text
# that begins with any number of apostrophes followed by one of these is written with one more apostrophe in front,
# which is removed on reading. Numbers are written unchanged.

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_WRITTEN = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def written_cell(cell: str) -> str:
    """Text as written to a table."""
    if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


def read_cell(cell: str) -> str:
    """Undo `written_cell`; text of other tables without such a beginning is unchanged."""
    return cell[1:] if _WRITTEN.match(cell) else cell


class CellWriter:
    """`csv.writer` for tables of names and numbers.

    Args:
        file: the file to write to.
        lineterminator: ends each row.
    """

    def __init__(self, file: TextIO, lineterminator: str = "\r\n") -> None:
        self._writer = csv.writer(file, lineterminator=lineterminator)

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([written_cell(cell) if isinstance(cell, str) else cell for cell in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write rows."""
        for row in rows:
            self.writerow(row)


# -- Very many strings, such as the paths of a million files, in one block of memory instead of an object each ---


class Texts(Sequence[str]):
    """An immutable sequence of strings at a third of the memory of a list; each is created on access.

    Equal to any sequence of the same strings. Holds any Python string, including file names that are not UTF-8.

    Args:
        content: the strings as concatenated UTF-8, with surrogates kept.
        ends: int64, the end offset of each.
    """

    __slots__ = ("content", "ends")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, content: bytes, ends: "array[int]") -> None:
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Build from strings, consumed one by one."""
        if isinstance(texts, Texts):
            return texts
        growing = GrowingTexts()
        for text in texts:
            growing.append(text)
        return growing.done()

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self.ends:
            yield self.content[start:end].decode("utf-8", "surrogatepass")
            start = end

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        if isinstance(index, slice):
            return Texts.of(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]
        start = self.ends[place - 1] if place else 0
        return self.content[start : self.ends[place]].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3])) + ", ..." * (len(self) > 3)
        return f"<{len(self)} texts: {shown}>"


class GrowingTexts:
    """A builder of `Texts` from strings that arrive one by one."""

    def __init__(self) -> None:
        self._content, self._ends = bytearray(), array("q")

    def append(self, text: str) -> None:
        """Append a string."""
        self._content += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))

    def done(self) -> Texts:
        """The strings so far, as `Texts`."""
        return Texts(bytes(self._content), self._ends)


def taken(texts: Sequence[str], places: Iterable[int]) -> Sequence[str]:
    """The strings at `places`, in that order, in the same kind of container."""
    found = (texts[place] for place in places)
    return Texts.of(found) if isinstance(texts, Texts) else list(found)


def first_places(texts: Sequence[str], wanted: Set[str]) -> dict[str, int]:
    """First index of each wanted string; an index of all of a million would take hundreds of megabytes."""
    places: dict[str, int] = {}
    for place, text in enumerate(texts if wanted else ()):
        if text in wanted:
            places.setdefault(text, place)
    return places
