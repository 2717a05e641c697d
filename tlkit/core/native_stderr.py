"""Standard error for Python alone: libraries in C write to file descriptor 2 behind its back.

TensorFlow greets every import with a dozen lines that no setting of its own turns off, and libtiff
writes one for every odd tag of every file. `TLKIT_DEBUG` lets them all through.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Send what C code writes to standard error nowhere; everything is as before afterwards."""
    with _descriptor_2_is(os.devnull):
        yield


@contextlib.contextmanager
def native_stderr_apart(log: Path) -> Iterator[None]:
    """Send what C code writes to standard error into `log`, while Python's own stays where it is.

    The log is removed at the end. After a crash in C code, which Python cannot see, it is still
    there and holds the last words.
    """
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
    target = str(log) if os.access(log.parent, os.W_OK) else os.devnull
    with _descriptor_2_is(target) as real, _python_writes_to(real):
        try:
            yield
        finally:
            log.unlink(missing_ok=True)


@contextlib.contextmanager
def _python_writes_to(descriptor: int) -> Iterator[None]:
    """Point `sys.stderr` at another descriptor, unless somebody already took it away from descriptor 2."""
    python = sys.stderr
    try:
        if python.fileno() != 2:
            raise OSError
    except (AttributeError, OSError):
        yield
        return
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1) as moved:
        sys.stderr = moved
        try:
            yield
        finally:
            sys.stderr = python


@contextlib.contextmanager
def _descriptor_2_is(path: str) -> Iterator[int]:
    """File descriptor 2 writes to `path`; yields a descriptor of what it was."""
    real = os.dup(2)
    if not os.environ.get("TLKIT_DEBUG"):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, 2)
        os.close(target)
    try:
        yield real
    finally:
        os.dup2(real, 2)
        os.close(real)
