"""Whether the network may be touched."""

import contextlib
import os
from collections.abc import Iterator

from tlkit.core.errors import TlkitError

OFFLINE = "TLKIT_OFFLINE"
ON, OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def is_offline() -> bool:
    """Whether the network must not be touched: TLKIT_OFFLINE=1, which `--offline` sets.

    Raises:
        TlkitError: the variable says neither yes nor no.
    """
    value = os.environ.get(OFFLINE, "").strip().lower()
    if value not in (*ON, *OFF):
        raise TlkitError(f"{OFFLINE} is {os.environ[OFFLINE]!r}, expected 1 or 0.", f"set {OFFLINE}=1, or unset it.")
    return value in ON


@contextlib.contextmanager
def offline_if(asked: bool) -> Iterator[None]:
    """Stay off the network inside, where asked; processes started inside do too."""
    before = os.environ.get(OFFLINE)
    if asked:
        os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if asked and before is None:
            del os.environ[OFFLINE]
        elif asked and before is not None:
            os.environ[OFFLINE] = before
