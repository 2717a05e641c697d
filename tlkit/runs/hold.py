"""One process at a time writes a run folder: the holder is named, and a dead one holds nothing."""

import json
import os
import platform
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"


class Hold:
    """A run folder is this process's for as long as the object lives; the system lets go when the process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        weakref.finalize(self, _let_go, path, descriptor, os.getpid())


_held: "weakref.WeakValueDictionary[Path, Hold]" = weakref.WeakValueDictionary()


def hold(folder: Path) -> Hold | None:
    """Make the folder if need be, and keep other processes from writing it.

    Returns:
        None where files cannot be locked, or the folder not be written.

    Raises:
        TlkitError: another process holds it.
    """
    place = folder.resolve()
    if (mine := _held.get(place)) is not None and (folder / FILE).exists():
        return mine
    if fcntl is None:
        return None
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise TlkitError(
                f"{str(folder)!r} is being written by another process{holder}.",
                "wait until it is done, or stop it; then: " + f"tlkit finetune --resume {folder}",
            ) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        if _is_there(descriptor, folder / FILE):  # and was not let go of, and removed, in between
            facts = {"process": os.getpid(), "host": platform.node(), "since": _now()}
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(facts).encode())
            _held[place] = found = Hold(folder / FILE, descriptor)
            return found
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """`, 4711 on HOST since TIME`, as far as the lock says."""
    try:
        facts: dict[str, Any] = json.loads(os.read(descriptor, 4096))
        return f", {facts['process']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _let_go(path: Path, descriptor: int, process: int) -> None:
    if process == os.getpid():  # and not a copy of it
        with suppress(OSError):
            if _is_there(descriptor, path):
                path.unlink()
    with suppress(OSError):
        os.close(descriptor)
