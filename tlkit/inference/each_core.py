"""A batch cut into small ones, each computed by one core from beginning to end.

Cores never wait for each other inside a layer, as they do when all of them share every layer, and small batches stay
in the cache (docs/log.md has what that gained).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tlkit.core.cores import usable_cores

SMALL_BATCH = 8  # images: enough for the matrix products, few enough for the cache

Fetch = Callable[[], tuple[np.ndarray, ...]]


def on_each_core(call: Callable[[np.ndarray], Sequence[np.ndarray]]) -> Callable[[np.ndarray], Fetch]:
    """Batches of any size through a function of float32 batches that computes in the thread it is called in.

    Args:
        call: float32 (b, ...) -> one float32 (b, ...) for each output; called from several threads at once.

    Returns:
        uint8 or float32 (B, ...) -> a function that waits for one float32 (B, ...) for each output.
    """
    threads = usable_cores()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tlkit-infer")

    def compute(part: np.ndarray) -> Sequence[np.ndarray]:
        return call(part.astype(np.float32, copy=False))

    def begin(inputs: np.ndarray) -> Fetch:
        begun = [pool.submit(compute, part) for part in parts(inputs, threads)]

        def fetch() -> tuple[np.ndarray, ...]:
            done = [part.result() for part in begun]
            return tuple(np.concatenate(outputs) for outputs in zip(*done, strict=True))

        return fetch

    return begin


def parts(inputs: np.ndarray, threads: int) -> list[np.ndarray]:
    """Batches of `SMALL_BATCH` at most, about equal, as many for each thread."""
    rounds = -(-len(inputs) // (SMALL_BATCH * threads))
    return np.array_split(inputs, max(1, min(len(inputs), rounds * threads)))
