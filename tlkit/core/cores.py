"""How many processor cores there are to use."""

import os


def usable_cores() -> int:
    """Cores this process may run on, at least 1; fewer than the machine has under `taskset` or in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
