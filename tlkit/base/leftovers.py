"""Temporary files and folders say whose they are, so that those of a killed process are removed by the next one.

    .tmp-HOST-PROCESS-RANDOM-NAME     beside NAME, until it takes its place

HOST stands for the machine, because on a shared disk the same number is another process elsewhere.
"""

import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

PREFIX = ".tmp-"
_OURS = re.compile(r"\.tmp-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(-.*)?", re.DOTALL)
_swept: set[Path] = set()


def temporary_beside(path: Path) -> Path:
    """A name for what will take the place of `path`; what dead processes left in its folder is removed first."""
    sweep(path.parent)
    return path.with_name(f"{PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def sweep(folder: Path) -> None:
    """Remove temporary files and folders of dead processes, once a folder in the life of this process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):  # a folder that is not there, or not to be read
        for entry in folder.iterdir():
            if is_nobodys(entry.name):
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
    return True


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
