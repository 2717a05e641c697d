"""How much disk the feature store may take: TLKIT_CACHE_BYTES, or half of what the disk has to give."""

import os
import re
import shutil
from pathlib import Path

from tlkit.core.errors import TlkitError

SHARE = 0.5  # of the free disk and of what the store holds already
VARIABLE = "TLKIT_CACHE_BYTES"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str, place: str) -> int:
    """`20GB`, `500 MB`, `1.5G` or a plain number, in bytes; 1 KB is 1024 bytes.

    Raises:
        TlkitError: for anything else, naming `place`.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if not found:
        raise TlkitError(f"{place} is {text!r}, expected a size.", "for example: 20GB, 500MB, or a number of bytes.")
    return int(float(found[1]) * UNITS[found[2]])


def bytes_text(count: int) -> str:
    """`1.5 GB`, `12.0 MB`."""
    return f"{count / 2**30:,.1f} GB" if count >= 2**30 else f"{count / 2**20:,.1f} MB"


def budget(folder: Path, held: int) -> tuple[int, str]:
    """Bytes that the store in `folder`, which holds `held` bytes now, may hold, and why.

    Raises:
        TlkitError: when TLKIT_CACHE_BYTES is no size.
    """
    if chosen := os.environ.get(VARIABLE):
        return parse_bytes(chosen, VARIABLE), VARIABLE
    reason = f"half of the free disk and of what is held; {VARIABLE} sets another"
    return int(SHARE * (free_bytes(folder) + held)), reason


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of a folder that need not exist yet."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free
