"""Where computed things are kept between runs: TLKIT_CACHE, or the system's cache folder."""

import os
import tempfile
from pathlib import Path

import platformdirs


def cache_dir() -> tuple[Path, str]:
    """The cache folder and why it is that one.

    `TLKIT_CACHE` if set; else the system's user cache folder (`~/.cache/tlkit` on Linux); else,
    where that cannot be written (a container without a home), a folder under the temporary one.
    """
    if chosen := os.environ.get("TLKIT_CACHE"):
        return Path(chosen), "TLKIT_CACHE"
    usual = Path(platformdirs.user_cache_dir("tlkit"))
    if _writable(usual):
        return usual, "the system's cache folder"
    return Path(tempfile.gettempdir()) / f"tlkit-{os.getuid() if hasattr(os, 'getuid') else 'cache'}", (
        f"{usual} cannot be written; set TLKIT_CACHE to keep features between runs"
    )


def _writable(folder: Path) -> bool:
    """Whether `folder`, or its nearest existing parent, can be written."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return os.access(existing, os.W_OK | os.X_OK)
