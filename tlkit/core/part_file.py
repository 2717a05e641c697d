"""What a download goes into until it is whole: a file beside the target, for one process alone."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tlkit.core.errors import TlkitError
from tlkit.core.offline import is_offline
from tlkit.core.story import Story

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def part_of(target: Path, story: Story) -> Iterator[Path | None]:
    """The path beside `target` to download to, for this process alone, which waits if need be; None when offline.

    The lock is on the part itself, so that none is left behind; the system lets go of it however its holder ends.
    """
    if is_offline() or target.exists():
        yield None
        return
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(part, story)
    except OSError as error:
        raise unwritable(part, error) from error
    try:
        yield part
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()
        os.close(descriptor)


def _locked(part: Path, story: Story) -> int:
    """An open file, locked, that still is the one called `part`."""
    if fcntl is None:  # Windows, where an open file cannot be renamed either
        part.touch()
        return os.open(os.devnull, os.O_RDONLY)
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            story.say(f"another process is downloading {part.name.removesuffix('.part')}; waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return descriptor
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), part.stat()):
                return descriptor
        os.close(descriptor)  # the other process has put it in place, or thrown it away
        if part.with_name(part.name.removesuffix(".part")).exists():
            return os.open(os.devnull, os.O_RDONLY)


def unwritable(path: Path, error: OSError) -> TlkitError:
    """The error for a path that the system will not write."""
    return TlkitError(
        f"{str(path)!r} cannot be written: {error.strerror or error}.", "make room there, or choose another folder."
    )
