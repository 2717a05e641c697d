"""Where work on samples is done: an executor is one row of `EXECUTORS`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Executor(Protocol):
    """Somebody who works on slices of the samples, here or elsewhere.

    What `work` gives back is small and made of plain values, and everything large goes to the store, so that an executor
    may do it in another process or on another machine.
    """

    workers: int  # slices that are worked on at once

    def map(self, work: Callable[[np.ndarray], Iterable[T]], slices: Sequence[np.ndarray]) -> Iterator[T]:
        """Work on every slice, int (n,) samples each, and give what comes of it as it comes."""


class Here:
    """In this process, which has its own threads; slices one after the other."""

    workers = 1

    def map(self, work: Callable[[np.ndarray], Iterable[T]], slices: Sequence[np.ndarray]) -> Iterator[T]:
        """As of `Executor`, in the order of the slices."""
        return chain.from_iterable(map(work, slices))


EXECUTORS: dict[str, Callable[[], Executor]] = {"here": Here}


def spread(work: Callable[[np.ndarray], Iterable[T]], samples: np.ndarray, name: str) -> Iterator[T]:
    """Share the samples, int (n,) in the order of work, among the workers of an executor."""
    executor = EXECUTORS[name]()
    return executor.map(work, [part for part in np.array_split(samples, executor.workers) if len(part)])
