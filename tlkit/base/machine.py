"""The machine: installed versions, cores, memory, cache folder, extras, and messages for system errors."""

import errno
import functools
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import platformdirs

from tlkit.base.errors import TlkitError, first_line
from tlkit.base.files import FULL, PREFIX

__version__ = "0.1.0"


# -- Versions of packages that affect results, without importing them ------------------------------

PACKAGES = (
    *("keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", "scipy", "scikit-learn", "cleanlab"),  # numbers
    *("pillow", "simplejpeg", "cykooz-resizer", "pillow-heif", "imagecodecs", "pyarrow"),  # pixels and tables
    *("keras-hub", "h5py"),  # networks and weights
    *("tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "openvino"),  # other runtimes
)


def versions() -> dict[str, str]:
    """Versions of tlkit, Python and each package that affects results; missing packages are omitted."""
    found = {"tlkit": __version__, "python": platform.python_version()}
    return found | {package: version for package in PACKAGES if (version := _installed(package))}


@functools.cache
def _installed(package: str) -> str:
    """The version of a package, "" if missing; cached, since looking it up takes milliseconds."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


# -- Processor cores -------------------------------------------------


_confined: int | None = None


def usable_cores() -> int:
    """Cores this process may run on, at least 1; fewer than the machine has under `taskset` or in a container."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, _confined or found)


def confine(cores: int) -> None:
    """Limit this process, one of several on a machine, to `cores` cores from now on."""
    global _confined
    _confined = cores


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has bfloat16 instructions; True if the system does not say."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", text) is not None


def accelerators_visible() -> bool:
    """Whether an NVIDIA or AMD GPU seems available to this process, without loading a driver library."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(map(Path.exists, (Path("/dev/kfd"), Path("/dev/dxg"))))


# -- Available memory ------------------------------------------------------

# Files of a control group, version 2 first: its limit, its usage, and the reclaimable file cache within that.
_CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def available_memory(meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes of memory still available: the machine's or the container's, whichever is less.

    None if the system does not say (anything but Linux).
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
    """The `name number` lines of a file; empty if it does not exist."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {parts[0]: int(parts[1]) for line in lines if len(parts := line.split()) > 1 and parts[1].isdigit()}


# Error texts for exhausted memory: TensorFlow, JAX, PyTorch, NumPy, ONNX Runtime.
_OUT_OF_MEMORY = (
    *("RESOURCE_EXHAUSTED", "ResourceExhausted", "MemoryError", "out of memory", "Unable to allocate"),
    *("Failed to allocate memory", "bad allocation", "bad_alloc"),
)


def ran_out(error: BaseException) -> bool:
    """Whether an error, of any backend or of reading files, means that memory ran out."""
    return isinstance(error, MemoryError) or any(
        message in text for text in (type(error).__name__, str(error)) for message in _OUT_OF_MEMORY
    )


# -- The cache folder: TLKIT_CACHE, or the system's ----


def cache_dir() -> tuple[Path, str]:
    """The cache folder and the reason for it.

    `TLKIT_CACHE` if set; else the user's cache folder (`~/.cache/tlkit` on Linux); else, if that is not writable
    (a container without a home), a folder under the temporary one.
    """
    if chosen := os.environ.get("TLKIT_CACHE"):
        return Path(chosen), "TLKIT_CACHE"
    usual = Path(platformdirs.user_cache_dir("tlkit"))
    if _writable(usual):
        return usual, "the system's cache folder"
    return temporary_root() / f"tlkit-{os.getuid() if hasattr(os, 'getuid') else 'cache'}", (
        f"{usual} cannot be written; set TLKIT_CACHE to keep features between runs"
    )


def temporary_root() -> Path:
    """The folder for temporary files of all processes; this one may have its own within it (base/process.py).

    Python's own search writes a test file there, which is left behind if the process is killed at that moment.
    """
    named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")] + ["/tmp" * (os.name == "posix")]
    writable = (place for place in named if place and os.access(place, os.W_OK))
    here = Path(tempfile.tempdir or next(writable, None) or tempfile.gettempdir())
    return here.parent if here.name.startswith(PREFIX) else here


def _writable(folder: Path) -> bool:
    """Whether `folder`, or its nearest existing parent, is writable."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return os.access(existing, os.W_OK | os.X_OK)


# -- Disk space of the feature store: TLKIT_CACHE_BYTES, or half of what is available ---

SHARE = 0.5  # of the free disk space plus what the store already holds
VARIABLE = "TLKIT_CACHE_BYTES"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str, place: str) -> int:
    """Parse `20GB`, `500 MB`, `1.5G` or a plain number into bytes; 1 KB is 1024 bytes.

    Raises:
        TlkitError: for anything else, naming `place`.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if not found:
        raise TlkitError(f"{place} is {text!r}, expected a size.", "for example: 20GB, 500MB, or a number of bytes.")
    return int(float(found[1]) * UNITS[found[2]])


def bytes_text(count: int) -> str:
    """A size as text: `1.5 GB`, `12.0 MB`."""
    return f"{count / 2**30:,.1f} GB" if count >= 2**30 else f"{count / 2**20:,.1f} MB"


def budget(folder: Path, held: int) -> tuple[int, str]:
    """The maximum bytes of the store in `folder`, which holds `held` bytes now, and the reason.

    Raises:
        TlkitError: if TLKIT_CACHE_BYTES is not a size.
    """
    if chosen := os.environ.get(VARIABLE):
        return parse_bytes(chosen, VARIABLE), VARIABLE
    reason = f"half of the free disk and of what is held; {VARIABLE} sets another"
    return int(SHARE * (free_bytes(folder) + held)), reason


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that need not exist yet."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


# -- Extras: their modules, whether these are installed, and how to install them ---


class Extra(NamedTuple):
    """One extra of pyproject.toml: its modules and their purpose."""

    modules: tuple[str, ...]
    purpose: str


EXTRAS = {
    "heic": Extra(("pillow_heif",), "HEIC photographs"),
    "hub": Extra(("keras_hub",), "--backbone hub:PRESET"),
    "jax": Extra(("jax",), "computing without TensorFlow"),
    "video": Extra(("av",), "clips in mp4, avi, mkv or webm files"),
    "ray": Extra(("ray",), "--executor ray"),
    "balance": Extra(("imblearn",), "finetune --balance smote"),
    "litert": Extra(("ai_edge_litert",), "running LiteRT without TensorFlow"),
    "openvino": Extra(("openvino",), "export --format openvino"),
    "serve": Extra(("fastapi", "uvicorn", "httptools", "multipart", "prometheus_client"), "tlkit serve"),
    "tensorboard": Extra(("tensorboard",), "looking at logs/"),
    "mlflow": Extra(("mlflow",), "--log mlflow"),
    "wandb": Extra(("wandb",), "--log wandb"),
}


def absent(modules: Iterable[str]) -> list[str]:
    """The given modules that are not installed."""
    return [module for module in modules if importlib.util.find_spec(module) is None]


def lacking(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return absent(EXTRAS[extra].modules)


def install(extra: str) -> str:
    """The command that installs an extra.

    If tlkit came from an index, the extra is named; from a checkout or a wheel `pip install tlkit[...]` would query an
    index that has no tlkit, or a different one, so the packages themselves are named.
    """
    try:
        distribution = importlib.metadata.distribution("tlkit")
    except importlib.metadata.PackageNotFoundError:  # not installed, only a folder
        return f"pip install '.[{extra}]', in the checkout"
    if distribution.read_text("direct_url.json") is None:
        return f"pip install 'tlkit[{extra}]'"
    marked = re.compile(rf"""(.*?)\s*;.*extra\s*==\s*["']{extra}["']""")
    wanted = [found[1] for line in distribution.requires or () if (found := marked.match(line))]
    return "pip install " + " ".join(f"'{name}'" for name in wanted)


# -- Errors of the operating system: which file, why, and the remedy ----------

_ROOM = "make room there, or choose another place; `tlkit cache show` lists what the feature store holds."
_PLACE = "choose another place, or change who may write there."
# error number -> message on the file, and the remedy
_SAID = {
    errno.ENOSPC: ("its disk is full.", _ROOM),
    errno.EDQUOT: ("the quota of its disk is used up.", _ROOM),
    errno.EFBIG: ("it exceeds the maximum file size here.", "use `ulimit -f unlimited`, or another disk."),
    errno.EROFS: ("its disk is read-only.", _PLACE),
    errno.EACCES: ("permission denied.", _PLACE),
    errno.EPERM: ("permission denied.", _PLACE),
    errno.ENOENT: (
        "it does not exist, or no longer does.",
        "restore it; another program may have moved or removed it.",
    ),
    errno.EMFILE: ("too many files are open.", "`ulimit -n 4096` allows more."),
    errno.ENAMETOOLONG: ("its name is too long for its disk.", "choose a shorter one."),
    errno.EIO: ("its disk reports an error.", "copy its files to another disk, and check the system log."),
}


FULL_BELOW = 2**14  # bytes that are free


def full_disk(error: BaseException, path: Path) -> OSError | None:
    """The system's error behind a library's failure to write, if the disk is full; None for other errors.

    Args:
        error: raised by the library.
        path: the file it was writing.
    """
    number, text = getattr(error, "errno", None), str(error)
    if number not in FULL:
        said = re.search(r"errno = (\d+)", text)
        number = int(said[1]) if said else next((one for one in FULL if os.strerror(one) in text), None)
        if number is None and free_bytes(path) < FULL_BELOW:  # some errors give no reason
            number = errno.ENOSPC
    return OSError(number, os.strerror(number), str(path)) if number in FULL and number else None


def os_error(error: OSError | RuntimeError) -> TlkitError | None:
    """The error shown to users for an error of the system: which file, why, and the remedy.

    None for other errors. HDF5 reports failed writes in the text of a RuntimeError.
    """
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (found := re.search(r"errno = (\d+)", str(error))):
        number = int(found[1])
    if not name and (found := re.search(r"filename = '([^']*)'", str(error))):
        name = found[1]
    if number is None and not isinstance(error, OSError):
        return None
    if number == errno.ENOENT and not name and not _here():
        return TlkitError("the folder that this command was started in is gone.", "go to another one first: cd ~")
    why, remedy = _SAID.get(number or 0, ("", ""))
    if not why:
        why, remedy = os.strerror(number) if number else first_line(error), "TLKIT_DEBUG=1 shows where it occurred."
    if name == tempfile.gettempdir():
        name, remedy = temporary_root(), "make room there, or set the variable TMPDIR to another folder."
    name = (
        re.sub(r"\.tmp-[0-9a-f]{8}(-\d+-[0-9a-f]{8})?-((artifacts|files)/)?", "", str(name))
        if name
        else "a file or connection"
    )
    return TlkitError(f"{name}: {why}", remedy)


def _here() -> bool:
    """Whether the folder that relative paths start from is still there."""
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


def try_to_write(folder: Path) -> None:
    """Raise if nothing can be written into an existing folder; tries an unnamed temporary file.

    Raises:
        TlkitError: with the system's reason.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
    except OSError as error:
        why, remedy = _SAID.get(error.errno or 0, ("", ""))
        if error.errno == errno.ENOENT or not why:  # /proc
            why, remedy = f"{error.strerror}.", _PLACE
        raise TlkitError(f"nothing can be written into {str(folder)!r}: {why}", remedy) from None
