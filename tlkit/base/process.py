"""The process: faster start and exit of tlkit's own process, standard error, the Keras backend, seeds.

The `tlkit` command runs in its own process. A program that imports tlkit does not, and finds Keras unmodified.
"""

import atexit
import contextlib
import gc
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.files import remove, sweep_logs, temporary_beside
from tlkit.base.machine import temporary_root

# Optional imports of Keras, TensorFlow and scikit-learn, for functions that tlkit does not call (plots, the
# scikit-learn interface, data frames, conversion from JAX; bounding boxes, notebooks). Each costs 0.03 to one second.
LEFT_OUT = ("matplotlib", "sklearn", "pandas", "jax", "cv2", "IPython")

_mine = False
_claimed = 0.0


def claim_process() -> None:
    """Declare that this process belongs to tlkit alone."""
    global _mine, _claimed
    _mine, _claimed = True, time.monotonic()


def age() -> float:
    """Seconds since this process began, if it is tlkit's own; 0 in a program that imports tlkit.

    Linux records the start; elsewhere tlkit's first action counts as the start.
    """
    if not _mine:
        return 0.0
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - Path costs an import
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, AttributeError):
        return time.monotonic() - _claimed


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Make `sys.exit` end the process right after its last `atexit` function; enter this before others register.

    By then files are written and threads joined. Python would go on to tear down every module and network, which the
    system reclaims anyway.
    """
    codes: list[int] = []
    atexit.register(_end, codes)  # the first registered is called last
    try:
        yield
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):  # Python prints other codes
            codes.append(end.code or 0)
        raise


def _end(codes: list[int]) -> None:
    """Exit at once if there is an exit code and all output can be flushed."""
    if codes:
        with contextlib.suppress(OSError, ValueError):  # a closed pipe: Python has its own exit code for that
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(codes[0])


@contextlib.contextmanager
def lean_imports(*wanted: str) -> Iterator[None]:
    """Hide the packages of `LEFT_OUT` that are not `wanted`, so that optional imports of them are skipped.

    The garbage collector is paused meanwhile and ignores what was loaded, because modules are not garbage. Does nothing
    in a process that is not tlkit's own.
    """
    if not _mine:
        yield
        return
    kept = {*wanted, os.environ.get("KERAS_BACKEND")}
    hidden = [name for name in LEFT_OUT if name not in sys.modules and name not in kept]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes the import fail
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()
        atexit.register(gc.unfreeze)  # C libraries expect a full teardown at exit, and complain otherwise
        gc.enable()
        if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
            do_without_tensorflow()


def do_without_tensorflow() -> None:
    """Tell an imported Keras on another backend that TensorFlow is not installed.

    Otherwise it imports TensorFlow (four seconds) whenever it serialises or deserialises the configuration of a layer,
    on any backend, to check for TensorFlow objects.
    """
    if found := sys.modules.get("keras.src.utils.module_utils"):
        found.tensorflow._available = False


# -- Standard error: C libraries write to file descriptor 2 directly ---
#
# TensorFlow prints a dozen lines at every import that none of its settings turns off, and libtiff
# prints one for every unusual tag of every file. `TLKIT_DEBUG` lets them all through.


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Discard what C code writes to standard error within the context."""
    with _descriptor_2_is(os.devnull):
        yield


@contextlib.contextmanager
def native_stderr_apart(log: Path) -> Iterator[None]:
    """Redirect what C code writes to standard error into `log`; Python's own output is unaffected.

    The log is removed at the end. After a crash in C code, which Python cannot catch, it remains until the next
    command, with the last messages.
    """
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
    sweep_logs(log.parent)
    target = str(log) if os.access(log.parent, os.W_OK) else os.devnull
    with _descriptor_2_is(target) as real, _python_writes_to(real):
        try:
            yield
        finally:
            log.unlink(missing_ok=True)


@contextlib.contextmanager
def _python_writes_to(descriptor: int) -> Iterator[None]:
    """Point `sys.stderr` at another descriptor, unless it no longer uses descriptor 2."""
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
    """Redirect file descriptor 2 to `path`; yield a descriptor of its former target."""
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


@contextlib.contextmanager
def scratch_apart() -> Iterator[None]:
    """Put temporary files into a folder named after this process, which the next one removes if this one is killed.

    Other libraries create them: Keras unpacks a model while loading it, converters write intermediate files.
    """
    before = tempfile.tempdir
    try:
        place = scratch_folder()
    except OSError:  # nothing is writable; whoever needs to write will report it
        yield
        return
    tempfile.tempdir = str(place)
    try:
        yield
    finally:
        tempfile.tempdir = before
        remove(place)


def scratch_folder() -> Path:
    """A new folder for temporary files, named after this process; the caller removes it."""
    place = temporary_beside(temporary_root() / "tlkit")
    place.mkdir(mode=0o700)
    return place


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for tlkit's own temporary files, in any program; the next process removes that of a killed one."""
    place = scratch_folder()
    try:
        yield place
    finally:
        remove(place)


# -- The Keras backend, chosen before Keras is imported, because afterwards it is too late ---

# Backends that can train, in order of preference if none was chosen.
BACKENDS = ("tensorflow", "jax", "torch")


def settle_backend() -> str:
    """Choose an installed backend for Keras to load; return a message for the user, "" if nothing is unusual.

    `KERAS_BACKEND` decides, then Keras's own file, then TensorFlow. If the last two name one that is not installed, the
    first installed one of `BACKENDS` is used: Keras writes TensorFlow into its file by itself, so that file does not
    express the user's choice. `KERAS_BACKEND` is never overridden.

    Raises:
        TlkitError: if `KERAS_BACKEND` names an unknown backend or one not installed, or none is installed.
    """
    if "keras" in sys.modules:
        return ""
    asked = os.environ.get("KERAS_BACKEND")
    if asked:
        return _checked(asked)
    usual = _in_keras_file() or BACKENDS[0]
    if usual in BACKENDS and _installed(usual):
        os.environ["KERAS_BACKEND"] = usual
        return ""
    found = next(filter(_installed, BACKENDS), None)
    if found is None:
        raise TlkitError(
            "none of TensorFlow, JAX and PyTorch is installed; one of them is needed.",
            "pip install tensorflow, or pip install jax",
        )
    os.environ["KERAS_BACKEND"] = found
    reason = "is not installed" if usual in BACKENDS else "cannot train"
    return f"computing with {found}, because {usual} {reason}; set KERAS_BACKEND={found} to choose it permanently"


def usual_backend() -> str:
    """The backend that Keras uses, or would use if imported now with its chosen backend installed."""
    return os.environ.get("KERAS_BACKEND") or _in_keras_file() or BACKENDS[0]


def _checked(asked: str) -> str:
    """Raise if the requested backend is unknown or not installed; return "" otherwise."""
    if asked not in BACKENDS:
        raise unknown_name("a backend that tlkit can compute with (KERAS_BACKEND)", asked, BACKENDS)
    if not _installed(asked):
        others = [name for name in BACKENDS if _installed(name)]
        instead = f", or set KERAS_BACKEND={others[0]}, which is" if others else ""
        raise TlkitError(f"KERAS_BACKEND is {asked!r}, which is not installed.", f"pip install {asked}{instead}.")
    return ""


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _in_keras_file() -> str | None:
    """The backend in keras.json; None if the file or the key is missing, as in Keras."""
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("backend") if isinstance(content, dict) else None


# -- Reproducible initial weights, without affecting other random numbers ---


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the context, Keras initialisers and dropout layers take their seeds from `seed`.

    Keras seeds every unseeded initialiser from Python's `random` when the layer is created, and then draws statelessly.
    So building a model depends on nothing else, and the state of `random` outside the context is restored.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
