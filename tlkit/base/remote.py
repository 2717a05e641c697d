"""Descriptions of files on the network, and whether the network may be used. Nothing here opens a connection."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tlkit.base.errors import TlkitError
from tlkit.base.files import md5_file, sha256_file


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file to download.

    Args:
        urls: addresses of the same bytes, tried in order.
        bytes: its exact size, 0 if only the server knows.
        sha256: hex, or "" if its publisher states none.
        md5: hex, if the publisher states only that.
        stated_by: who states size and checksum, or why there is none.
    """

    urls: tuple[str, ...]
    bytes: int
    sha256: str = ""
    md5: str = ""
    stated_by: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.urls[0].partition("?")[0].rpartition("/")[2]

    def check(self, place: str) -> None:
        """Refuse a description that no download could satisfy."""
        if not self.urls or any(not re.match(r"https?://[^/]+/.", url) for url in self.urls):
            raise TlkitError(f"{place} urls is {list(self.urls)}, expected http(s) addresses of a file.", "correct it.")
        if self.bytes < 1:
            raise TlkitError(f"{place} bytes is {self.bytes}, expected the exact size of the file.", "correct it.")
        for key, digits in (("sha256", 64), ("md5", 32)):
            value = getattr(self, key)
            if value and not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
                raise TlkitError(f"{place} {key} is {value!r}, expected {digits} lower-case hex digits.", "correct it.")

    def mismatch(self, path: Path) -> str:
        """How a file differs from what is stated; "" if it does not."""
        if self.bytes and path.stat().st_size != self.bytes:
            return f"it has {path.stat().st_size:,} bytes, expected {self.bytes:,}"
        for kind, wanted in (("sha256", self.sha256), ("md5", "" if self.sha256 else self.md5)):
            found = (sha256_file(path) if kind == "sha256" else md5_file(path)) if wanted else ""
            if found != wanted:
                return f"its {kind} is {found}, expected {wanted}"
        return ""


# -- Offline mode --------------------------------------------------------

OFFLINE = "TLKIT_OFFLINE"
ON, OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def is_offline() -> bool:
    """Whether the network must not be used: TLKIT_OFFLINE=1, which `--offline` sets.

    Raises:
        TlkitError: if the variable is neither 1 nor 0.
    """
    value = os.environ.get(OFFLINE, "").strip().lower()
    if value not in (*ON, *OFF):
        raise TlkitError(f"{OFFLINE} is {os.environ[OFFLINE]!r}, expected 1 or 0.", f"set {OFFLINE}=1, or unset it.")
    return value in ON


@contextlib.contextmanager
def offline_if(asked: bool) -> Iterator[None]:
    """If `asked`, use no network within the context, including processes started in it."""
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
