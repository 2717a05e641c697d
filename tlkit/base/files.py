"""Files appear whole or not at all: write beside the target, flush, rename; what a killed process left is removed."""

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

CHECKSUM = "checksum"  # of a JSON object, the last of its names
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says where there is no room


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
    except OSError as error:
        error.filename = str(path)  # which has none where a disk is full
        raise
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
    """Write `text` as UTF-8, atomically. Bytes of file names that are no UTF-8 come out as `BYTES_AS_TEXT` has them."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=BYTES_AS_TEXT, newline="")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; bytes of file names that are no UTF-8 come back as they were."""
    return json.loads(restored(path.read_text(encoding="utf-8", errors="surrogateescape")))


# -- Names of files that are no UTF-8 --------------------------------------------------------------
#
# A name is bytes, and Python holds a byte that is no UTF-8 as a lone surrogate, U+DC80 to U+DCFF, which no file in UTF-8
# can hold. It is written as the character of the private use area at U+EF00 + byte, U+EF80 to U+EFFF (as MirBSD's
# OPTU-8 has it), so that everything written is UTF-8, and read back from there.

BYTES_AS_TEXT = "tlkit-bytes-as-text"  # the error handler of files that are written
_ESCAPED, _PRIVATE = range(0xDC80, 0xDD00), range(0xEF80, 0xF000)
_RESTORED = dict(zip(_PRIVATE, map(chr, _ESCAPED), strict=True))


def _as_private(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = [ord(letter) for letter in error.object[error.start : error.end]]
    if any(code not in _ESCAPED for code in codes):
        raise error
    # As bytes: CPython's UTF-8 encoder takes no other text than ASCII from a handler.
    return "".join(chr(code - _ESCAPED[0] + _PRIVATE[0]) for code in codes).encode(), error.end


codecs.register_error(BYTES_AS_TEXT, _as_private)


def restored(text: str) -> str:
    """What was written with `BYTES_AS_TEXT`, as the name of the file that it is."""
    return text if text.isascii() else text.translate(_RESTORED)


def missing(typed: str, wanted: str) -> TlkitError:
    """The error for a path that does not exist: an address, or a name to correct.

    Args:
        typed: what the user gave.
        wanted: what to give, where there is nothing to correct.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", typed, re.IGNORECASE):  # not C:/
        name = typed.partition("?")[0].rstrip("/").rpartition("/")[2]
        fetch = f"curl -LO {shlex.quote(typed)}" if typed.lower().startswith("http") else "copy it here"
        unpack = f", unpack it (unzip {name})" if name.lower().endswith(".zip") else ""
        return TlkitError(
            f"{typed!r} is an address, expected a path.",
            f"download it first ({fetch}){unpack}, and give the folder or file.",
        )
    path = Path(typed).expanduser().absolute()
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    guess = nearest(path.name, siblings, alike=0.7)  # a folder holds names of all kinds
    if guess is None:
        return TlkitError(f"{typed!r} does not exist.", wanted)
    right = str(Path(typed).with_name(guess))
    return TlkitError(f"{typed!r} does not exist.", f"did you mean {right!r}?", instead=(typed, right))


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


def is_full(error: BaseException) -> bool:
    """Whether there was no room to unpack a file that is read; then the error names the folder for temporary files."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return False
    error.filename = error.filename or tempfile.gettempdir()
    return True


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
        if is_full(error):
            raise
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


SETTLED_AFTER = 2.0  # seconds after its last change that a file's size and times are taken for its content
_known: dict[
    tuple[str, int, int, int, int, int], str
] = {}  # path, device, inode, size, times of change in ns -> sha256


def known_sha256(path: Path) -> str:
    """Hex sha256 of a file that is asked for again and again: one that has not changed since is not read again."""
    status = path.stat()
    stamp = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if stamp in _known:
        return _known[stamp]
    found = sha256_file(path)
    if (
        time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_AFTER
    ):  # what changed later might change again within the clock's tick
        _known[stamp] = found
    return found


def md5_file(path: Path) -> str:
    """Hex md5 of a file's bytes, for the sums of publishers who state no other."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


# -- Temporary files and folders say whose they are, so that those of a killed process are removed by the next one ---
#
#     .tmp-HOST-PROCESS-RANDOM-NAME     beside NAME, until it takes its place
#
# HOST stands for the machine, because on a shared disk the same number is another process elsewhere.

PREFIX = ".tmp-"
_ASIDE = ".replaced-"
_OURS = re.compile(r"\.tmp-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(-.*)?", re.DOTALL)
_swept: set[Path] = set()


def temporary_beside(path: Path) -> Path:
    """A name for what will take the place of `path`; what dead processes left in its folder is removed first."""
    sweep(path.parent)
    return path.with_name(f"{PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


@contextlib.contextmanager
def replacing_all(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder; on success all that is in it moves into `folder`, on failure nothing does.

    A new `folder` appears in one step. In one that exists a kill may come between two files: the longest names move
    first, so that a file that lists the others arrives after them.
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
    """Remove temporary files and folders of dead processes, once a folder in the life of this process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):  # a folder that is not there, or not to be read
        for entry in folder.iterdir():
            if is_nobodys(entry.name):
                _put_back(entry, folder)
                remove(entry)


def is_nobodys(name: str) -> bool:
    """Whether a file of this name was made by a process of this machine that is no more."""
    found = _OURS.fullmatch(name)
    return found is not None and found[1] == _host() and not is_alive(int(found[2]))


def remove(path: Path) -> None:
    """Remove a file or a folder, if that can be done."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether this machine has a process of that number; taken for granted where nobody can ask without harm."""
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
    """Whether it is over and only nobody has asked how: in a container whose first process never does, it stays like that."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:  # no Linux, or over by now
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


# -- Cells of CSV tables that no spreadsheet runs as a formula, and that read back as what they were ---
#
# A spreadsheet takes text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula; a file or class may
# be called like that (CWE-1236, "Improper Neutralization of Formula Elements in a CSV File"). The rule: text that begins
# with any number of apostrophes and then one of these is written with one more apostrophe before it, and read without. Numbers
# are written as they are.

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_WRITTEN = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def written_cell(cell: str) -> str:
    """Text as it is written to a table."""
    if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


def read_cell(cell: str) -> str:
    """Text as it was before `written_cell`; text of other tables that begins in no such way is as it is."""
    return cell[1:] if _WRITTEN.match(cell) else cell


class CellWriter:
    """`csv.writer` for tables of names and numbers.

    Args:
        file: to write to.
        lineterminator: at the end of each row.
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


# -- Very many strings, such as the paths of a million files, in one piece of memory instead of an object each ---


class Texts(Sequence[str]):
    """Strings that do not change, a third of the size of a list of them; each is made anew when it is asked for.

    Equal to any sequence of the same strings. Whatever Python can hold comes back, names of files that are no UTF-8 as well.

    Args:
        content: UTF-8, one after the other, surrogates as they are.
        ends: int64, where each ends.
    """

    __slots__ = ("content", "ends")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, content: bytes, ends: "array[int]") -> None:
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Of strings, which are looked at one after the other."""
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
    """Strings that come one after the other, to become `Texts`."""

    def __init__(self) -> None:
        self._content, self._ends = bytearray(), array("q")

    def append(self, text: str) -> None:
        """The next."""
        self._content += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))

    def done(self) -> Texts:
        """All of them."""
        return Texts(bytes(self._content), self._ends)


def taken(texts: Sequence[str], places: Iterable[int]) -> Sequence[str]:
    """Some of them, in the order of their places, kept as they were kept."""
    found = (texts[place] for place in places)
    return Texts.of(found) if isinstance(texts, Texts) else list(found)


def first_places(texts: Sequence[str], wanted: Set[str]) -> dict[str, int]:
    """Where those that are wanted stand first; of a million, an index of all would take hundreds of megabytes."""
    places: dict[str, int] = {}
    for place, text in enumerate(texts if wanted else ()):
        if text in wanted:
            places.setdefault(text, place)
    return places
