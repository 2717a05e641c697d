"""Where work on samples is done: an executor is one row of `EXECUTORS`, and open for as long as a command."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tlkit.base.story import Story
from tlkit.extraction.executors.computation import Computation, Done

if TYPE_CHECKING:
    from tlkit.extraction.executors.on_ray import OnRay


class Executor(Protocol):
    """Somebody who computes rows of samples, here or elsewhere.

    It only computes: whoever asks for it appends to the store what it gives, so that workers need no disk of ours.
    """

    def map(self, work: Computation, samples: np.ndarray, story: Story) -> Iterator[Done]:
        """Work on the samples, int (n,), and give what comes of them as it comes, in any order.

        Args:
            work: what to do; `work(samples)` does it here, `work.portion(some)` can be sent.
            samples: in the order in which they are best worked on.
            story: hears who works, and what went wrong on the way.

        Raises:
            TlkitError: the work cannot be done.
        """

    def describe(self, engine: str) -> str:
        """Who would compute by an engine of this name, in words for a plan."""


class Here:
    """In this process, which has its own threads."""

    def map(self, work: Computation, samples: np.ndarray, story: Story) -> Iterator[Done]:
        """As of `Executor`, in the order of the samples."""
        return work(samples)

    def describe(self, engine: str) -> str:
        """As of `Executor`."""
        return "this process"


@contextlib.contextmanager
def _here(address: str) -> Iterator[Here]:
    yield Here()


def _on_ray(address: str) -> "AbstractContextManager[OnRay]":
    return importlib.import_module("tlkit.extraction.executors.on_ray").opened(address)


# name -> an executor, by what follows the name, until it is left; what it lacks is refused at once
EXECUTORS: dict[str, Callable[[str], AbstractContextManager[Executor]]] = {"here": _here, "ray": _on_ray}

_open: dict[str, Executor] = {}


@contextlib.contextmanager
def opened(text: str) -> Iterator[Executor]:
    """The executor of an option `NAME[:ADDRESS]` for as long as this lasts; whoever asks for it meanwhile gets the same.

    Raises:
        TlkitError: its package is not installed, or nobody answers at the address.
    """
    if text in _open:
        yield _open[text]
        return
    name, _, address = text.partition(":")
    with EXECUTORS[name](address) as executor:
        _open[text] = executor
        try:
            yield executor
        finally:
            del _open[text]


def spread(work: Computation, samples: np.ndarray, text: str, story: Story) -> Iterator[Done]:
    """Have the samples, int (n,) in the order of work, worked on by an executor."""
    with opened(text) as executor:
        yield from executor.map(work, samples, story)
