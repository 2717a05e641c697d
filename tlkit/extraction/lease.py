"""Leases on folders of the store: shared locks that end with their holder, and removal of folders without one.

Every user of a folder holds a shared lock on the file `lease` in it; the system releases it when the
process ends, however it ends. Removal takes the exclusive lock, so a folder in use is never removed. The
modification time of the file is when the folder was last taken into use.
"""

import contextlib
import errno
import os
import secrets
import shutil
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FILE = "lease"
REMOVED = ".removed-"
UNLOCKED_HOURS = 24  # where files cannot be locked, a folder used this recently counts as in use


class Lease:
    """Keeps a folder from being removed for as long as this object lives; see `take`."""

    def __init__(self, descriptor: int | None) -> None:
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)


def take(folder: Path) -> Lease:
    """Create the folder if necessary, mark it as used now, and hold it.

    Raises:
        OSError: when it neither exists nor can be created.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except FileNotFoundError:  # removed a moment ago
            continue
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES) and any(folder.iterdir()):
                return Lease(None)  # the store of another user, read-only
            raise
        _lock(descriptor, exclusive=False)
        if _still_there(descriptor, folder):
            os.utime(folder / FILE)
            return Lease(descriptor)
        os.close(descriptor)


def last_used(folder: Path) -> float:
    """Seconds since the epoch."""
    marker = folder / FILE
    return (marker if marker.exists() else folder).stat().st_mtime


def in_use(folder: Path) -> bool:
    """Whether a process holds the folder now."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _free(descriptor, last_used(folder))
    finally:
        os.close(descriptor)


def remove(folder: Path) -> bool:
    """Remove a folder unless it is in use: first rename it in one step, then delete it.

    Returns:
        Whether it is gone.
    """
    try:
        used = last_used(folder)
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT)
    except OSError:
        return not folder.exists()
    try:
        if not _free(descriptor, used) or not _still_there(descriptor, folder):
            return False
        away = folder.with_name(REMOVED + secrets.token_hex(8))
        folder.rename(away)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    shutil.rmtree(away, ignore_errors=True)
    return True


def sweep(parent: Path) -> None:
    """Delete what a killed `remove` left behind."""
    for leftover in parent.glob(REMOVED + "*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def alone(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process is the only one inside; False without waiting where another is, or files cannot be locked or written."""
    try:
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT)
    except OSError:
        yield False
        return
    try:
        yield bool(_lock(descriptor, exclusive=True))
    finally:
        os.close(descriptor)


def _free(descriptor: int, used: float) -> bool:
    """Whether no process holds the folder; this one then holds it exclusively until the descriptor is closed."""
    locked = _lock(descriptor, exclusive=True)
    return locked if locked is not None else time.time() - used > UNLOCKED_HOURS * 3600


def _lock(descriptor: int, *, exclusive: bool) -> bool | None:
    """Whether the lock was acquired; None where files cannot be locked. Waits for a shared one."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _still_there(descriptor: int, folder: Path) -> bool:
    """Whether the open file is still the one in the folder, not that of a folder removed since."""
    try:
        return os.path.samestat(os.fstat(descriptor), (folder / FILE).stat())
    except OSError:
        return False
