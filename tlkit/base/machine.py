"""The version, on its own, so that every layer can read it."""

import functools
import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

import platformdirs

from tlkit.base.errors import TlkitError

__version__ = "0.1.0"


# -- Versions of what shapes results, without importing any of it ------------------------------

PACKAGES = (
    *("keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", "scipy", "scikit-learn", "cleanlab"),  # numbers
    *("pillow", "simplejpeg", "cykooz-resizer", "pillow-heif", "imagecodecs", "pyarrow"),  # pixels and tables
    *("keras-hub", "optuna", "h5py"),  # networks, searches and weights
    *("tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "openvino"),  # other runtimes
)


def versions() -> dict[str, str]:
    """Version of tlkit, Python and each package that shapes results; absent packages are left out."""
    found = {"tlkit": __version__, "python": platform.python_version()}
    return found | {package: version for package in PACKAGES if (version := _installed(package))}


@functools.cache
def _installed(package: str) -> str:
    """Its version, "" where it is absent; read once, for it takes milliseconds and is asked at every look into the store."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


# -- How many processor cores there are to use -------------------------------------------------


def usable_cores() -> int:
    """Cores this process may run on, at least 1; fewer than the machine has under `taskset` or in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# -- How much memory there is left to use ------------------------------------------------------

# Of a container, version 2 first: its limit, what it uses, and the part of that which is file cache and can be dropped.
_CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def available_memory(meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process may still take: the machine's or its container's, whichever is less.

    None where the system does not say (anything but Linux).
    """
    found = _machine(meminfo), *(_container(groups, *row) for row in _CONTAINERS)
    return min((bytes_left for bytes_left in found if bytes_left is not None), default=None)


def _machine(meminfo: Path) -> int | None:
    fields = _fields(meminfo)
    return fields["MemAvailable:"] * 1024 if "MemAvailable:" in fields else None


def _container(groups: Path, limit: str, used: str, statistics: str, cache: str) -> int | None:
    try:
        most, now = (groups / limit).read_text().strip(), int((groups / used).read_text())
    except (OSError, ValueError):
        return None
    if not most.isdigit():  # "max": no limit
        return None
    return max(0, int(most) - now + _fields(groups / statistics).get(cache, 0))


def _fields(path: Path) -> dict[str, int]:
    """`name number` lines of a file; empty where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {parts[0]: int(parts[1]) for line in lines if len(parts := line.split()) > 1 and parts[1].isdigit()}


# -- Where computed things are kept between runs: TLKIT_CACHE, or the system's cache folder ----


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


# -- How much disk the feature store may take: TLKIT_CACHE_BYTES, or half of what the disk has to give ---

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
