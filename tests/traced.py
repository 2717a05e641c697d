"""What a call takes of memory, by tracemalloc: NumPy's arrays and Python's objects, whatever else the process holds."""

import gc
import tracemalloc


def peak(call):
    """Bytes at most while it runs, beyond those before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def kept(call):
    """Bytes of what it gives."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = call()  # noqa: F841 - held until it is measured
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def each(call, few, many):
    """Bytes at most for each item that there is more, of a call that is told how many items to work on."""
    call(many)  # what it loads and keeps the first time, room for the parts of paths that Python interns among it
    most = min(peak(lambda: call(many)) for _ in range(2))  # what threads that others left take meanwhile is none of it
    return (most - peak(lambda: call(few))) / (many - few)
