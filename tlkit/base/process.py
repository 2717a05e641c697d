"""The process: a faster start and end where it is tlkit's own, standard error, the backend of Keras, seeds.

`tlkit` on the command line is such a process. A program that imports tlkit is not, and finds Keras as it always is.
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

# What Keras, TensorFlow and scikit-learn load if they find it, for functions that tlkit does not call (plots, scikit-learn's
# interface, data frames, conversion from JAX; boxes in pictures, notebooks). Each costs 0.03 to one second.
LEFT_OUT = ("matplotlib", "sklearn", "pandas", "jax", "cv2", "IPython")

_mine = False
_claimed = 0.0


def claim_process() -> None:
    """Say that nobody but tlkit uses this process."""
    global _mine, _claimed
    _mine, _claimed = True, time.monotonic()


def age() -> float:
    """Seconds since this process began, where it is ours alone; 0 in a program that imports tlkit.

    Linux says when it began; elsewhere the first thing that tlkit does counts as the beginning.
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
    """Inside, `sys.exit` ends the process right after its last `atexit` function; enter it before others are registered.

    Files are written and threads joined by then. What Python would take apart after that, every module and every
    network, the system takes back anyway.
    """
    codes: list[int] = []
    atexit.register(_end, codes)  # the first to be registered is the last to be called
    try:
        yield
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):  # Python prints any other
            codes.append(end.code or 0)
        raise


def _end(codes: list[int]) -> None:
    """End here, where there is a code to end with and nothing is left to be printed."""
    if codes:
        with contextlib.suppress(OSError, ValueError):  # whoever read along has gone: Python says so by its own code
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(codes[0])


@contextlib.contextmanager
def lean_imports(*wanted: str) -> Iterator[None]:
    """Inside, importing a package of `LEFT_OUT` that is not `wanted` fails, so that what can do without it does; afterwards it works.

    The garbage collector rests meanwhile and passes over what was loaded from then on: modules are no garbage.
    Nothing happens in a process that is not ours alone.
    """
    if not _mine:
        yield
        return
    kept = {*wanted, os.environ.get("KERAS_BACKEND")}
    hidden = [name for name in LEFT_OUT if name not in sys.modules and name not in kept]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: looked for, and not there
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries in C expect everything to be taken apart at the end, and complain
        gc.enable()
        if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
            do_without_tensorflow()


def do_without_tensorflow() -> None:
    """Tell Keras on another backend, once it is imported, that there is no TensorFlow.

    Else it imports TensorFlow (four seconds) as soon as it writes down or reads the options of a layer, on any backend, to
    see whether one of them is TensorFlow's.
    """
    if found := sys.modules.get("keras.src.utils.module_utils"):
        found.tensorflow._available = False


# -- Standard error for Python alone: libraries in C write to file descriptor 2 behind its back ---
#
# TensorFlow greets every import with a dozen lines that no setting of its own turns off, and libtiff
# writes one for every odd tag of every file. `TLKIT_DEBUG` lets them all through.


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Send what C code writes to standard error nowhere; everything is as before afterwards."""
    with _descriptor_2_is(os.devnull):
        yield


@contextlib.contextmanager
def native_stderr_apart(log: Path) -> Iterator[None]:
    """Send what C code writes to standard error into `log`, while Python's own stays where it is.

    The log is removed at the end. After a crash in C code, which Python cannot see, it is still
    there and holds the last words, until the next command.
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


@contextlib.contextmanager
def scratch_apart() -> Iterator[None]:
    """Temporary files lie in a folder that says whose it is, so that those of a killed process are removed by the next one.

    Other libraries make them: Keras unpacks a model for as long as it loads it, converters write what they convert.
    """
    before = tempfile.tempdir
    try:
        place = scratch_folder()
    except OSError:  # nowhere to write; whoever needs to will say so
        yield
        return
    tempfile.tempdir = str(place)
    try:
        yield
    finally:
        tempfile.tempdir = before
        remove(place)


def scratch_folder() -> Path:
    """A new folder for temporary files, whose name says whose it is; whoever asked for it removes it."""
    place = temporary_beside(temporary_root() / "tlkit")
    place.mkdir(mode=0o700)
    return place


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for temporary files of tlkit itself, in a program that imports it too; the next process removes that of a killed one."""
    place = scratch_folder()
    try:
        yield place
    finally:
        remove(place)


# -- Which of Keras's backends computes. Settled before Keras is imported, because then it is too late to choose ---

# Backends that can train, in the order in which they are taken where none was chosen.
BACKENDS = ("tensorflow", "jax", "torch")


def settle_backend() -> str:
    """Make sure that the backend Keras will load is there; returns what to tell the user, "" if all is as usual.

    `KERAS_BACKEND` decides, then Keras's own file, then TensorFlow. Where the last two name one that is not
    installed, the first of `BACKENDS` that is takes its place: Keras writes TensorFlow into its file unasked, so that
    file is no wish of the user's. A wish in `KERAS_BACKEND` is never replaced.

    Raises:
        TlkitError: `KERAS_BACKEND` names one that is unknown or not installed, or none is installed.
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
            "none of TensorFlow, JAX and PyTorch is installed; one of them has to compute.",
            "pip install tensorflow, or pip install jax",
        )
    os.environ["KERAS_BACKEND"] = found
    reason = "is not installed" if usual in BACKENDS else "cannot train"
    return f"computing with {found}, because {usual} {reason}; KERAS_BACKEND={found} says so for good"


def usual_backend() -> str:
    """The backend that Keras has, or would have if it were imported now and its wish were there."""
    return os.environ.get("KERAS_BACKEND") or _in_keras_file() or BACKENDS[0]


def _checked(asked: str) -> str:
    """Nothing to tell about a backend that was asked for and is there."""
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
    """The backend in keras.json; None without such a file or such a line, as Keras has it."""
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("backend") if isinstance(content, dict) else None


# -- Random initial weights that a seed reproduces, without touching anybody else's random numbers ---


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block, Keras initialisers and dropout layers draw their own seeds from `seed`.

    Keras gives every initialiser without a seed one from Python's `random` when the layer is made,
    and draws from it without state. So this is all that building a model depends on, and the state
    of `random` outside the block stays what it was.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
