"""A process that is tlkit's alone starts faster: it leaves out what only other people's programs would use.

`tlkit` on the command line is such a process. A program that imports tlkit is not, and finds Keras as it always is.
"""

import atexit
import contextlib
import gc
import os
import sys
import time
from collections.abc import Iterator

# What Keras and TensorFlow load if they find it, for functions that tlkit does not call (plots, scikit-learn's
# interface, data frames, conversion from JAX). Each costs a tenth of a second to one second.
LEFT_OUT = ("matplotlib", "sklearn", "pandas", "jax")

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
def lean_imports() -> Iterator[None]:
    """Inside, importing a package of `LEFT_OUT` fails, so that what can do without it does; afterwards it works.

    The garbage collector rests meanwhile and passes over what was loaded from then on: modules are no garbage.
    Nothing happens in a process that is not ours alone.
    """
    if not _mine:
        yield
        return
    hidden = [name for name in LEFT_OUT if name not in sys.modules and name != os.environ.get("KERAS_BACKEND")]
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
