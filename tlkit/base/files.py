"""Files appear whole or not at all: write beside the target, flush, rename."""

import codecs
import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError, first_line, nearest


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
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # which has none where a disk is full
        raise
    finally:
        temporary.unlink(missing_ok=True)


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
            f"{typed!r} is an address, and a path is wanted.",
            f"download it first ({fetch}){unpack}, and give the folder or file.",
        )
    path = Path(typed).expanduser().absolute()
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    guess = nearest(path.name, siblings)
    if guess is None:
        return TlkitError(f"{typed!r} does not exist.", wanted)
    right = str(Path(typed).with_name(guess))
    return TlkitError(f"{typed!r} does not exist.", f"did you mean {right!r}?", instead=(typed, right))


# -- What the system says of a file, in our words ----------------------------------------------

_ROOM = "make room there, or choose another place; `tlkit cache show` says what the store of features holds."
_PLACE = "choose another place, or change who may write there."
# error number -> what is said of the file, and the remedy
_SAID = {
    errno.ENOSPC: ("its disk is full.", _ROOM),
    errno.EDQUOT: ("the quota of its disk is used up.", _ROOM),
    errno.EFBIG: ("it is larger than files may be here.", "`ulimit -f unlimited`, or another disk."),
    errno.EROFS: ("its disk can only be read.", _PLACE),
    errno.EACCES: ("permission denied.", _PLACE),
    errno.EPERM: ("permission denied.", _PLACE),
    errno.ENOENT: ("it is not there, or no longer.", "restore it; another program may have moved or removed it."),
    errno.EMFILE: ("too many files are open.", "`ulimit -n 4096` allows more."),
    errno.ENAMETOOLONG: ("its name is too long for its disk.", "choose a shorter one."),
    errno.EIO: ("its disk reports an error.", "copy what is there to another disk, and look into the system's log."),
}


def os_error(error: OSError | RuntimeError) -> TlkitError | None:
    """The one error that a user meets for what the system refused: which file, why, and the remedy.

    None for an error that is not of the system. HDF5 tells of what it could not write in the text of a RuntimeError.
    """
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (found := re.search(r"errno = (\d+)", str(error))):
        number = int(found[1])
    if not name and (found := re.search(r"filename = '([^']*)'", str(error))):
        name = found[1]
    if number is None and not isinstance(error, OSError):
        return None
    why, remedy = _SAID.get(number or 0, ("", ""))
    if not why:
        why, remedy = os.strerror(number) if number else first_line(error), "TLKIT_DEBUG=1 shows where it was met."
    name = re.sub(r"\.tmp-[0-9a-f]{8}-", "", str(name)) if name else "a file or connection"
    return TlkitError(f"{name}: {why}", remedy)


def try_to_write(folder: Path) -> None:
    """Raise where nothing can be written into an existing folder: a file without a name is tried, and is gone at once.

    Raises:
        TlkitError: with the reason of the system.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
    except OSError as error:
        why, remedy = _SAID.get(error.errno or 0, ("", ""))
        if error.errno == errno.ENOENT or not why:  # /proc
            why, remedy = f"{error.strerror}.", _PLACE
        raise TlkitError(f"nothing can be written into {str(folder)!r}: {why}", remedy) from None


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
