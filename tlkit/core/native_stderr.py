"""Quiet for libraries that write to file descriptor 2 behind Python's back."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Send what C++ code writes to standard error nowhere; Python's own stderr comes back afterwards.

    TensorFlow greets every import with a dozen lines that no setting of its own turns off.
    `TLKIT_DEBUG` lets them through.
    """
    if os.environ.get("TLKIT_DEBUG"):
        yield
        return
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
