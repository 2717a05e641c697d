"""The code of a worker of a Ray cluster: it computes batches of images that it reads itself, or processes items one by one."""

import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.machine import confine, versions
from tlkit.base.story import Silence
from tlkit.extraction.executors import Computation, Done

if TYPE_CHECKING:
    from tlkit.extraction.engine import Engine


class Job(NamedTuple):
    """What is common to all batches of an extraction.

    Args:
        token: identifies it.
        versions: of packages that affect a result, here.
        cores: of a worker.
        backend: of Keras, here.
    """

    token: str
    versions: dict[str, str]
    cores: int
    backend: str

    def begin(self) -> None:
        """Make this worker, which has not loaded Keras yet, compute as the requesting process would.

        Raises:
            TlkitError: it has other versions of packages that affect a result.
        """
        confine(self.cores)
        os.environ["KERAS_BACKEND"] = self.backend
        _refuse_others(self.versions)


class _Heard(Silence):
    """Keeps messages for the requesting process."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


_engines: dict[str, "Engine"] = {}  # of the current job of this worker


def compute(
    job: Job, engine: list[Any], portion: Computation, images: int
) -> Iterator[tuple[list[Done], list[str]] | None]:
    """Yield None before computing; then for each batch its results and messages. A worker keeps its engine.

    Args:
        job: to which it belongs.
        engine: one reference to a function that opens the engine.
        portion: the work.
        images: how many there are, the first of its dataset.

    Raises:
        TlkitError: this worker has other versions of packages that affect a row.
    """
    import ray

    if job.token not in _engines:
        job.begin()
        _engines.clear()
        opened, contract = ray.get(engine[0])(), portion.source.contract
        opened.run(
            np.zeros((2, contract.height, contract.width, 3), np.uint8)
        )  # opens the sessions, which are opened on first use
        _engines[job.token] = opened
    yield None
    rows, heard = np.arange(images), _Heard()
    mine = portion.portion(rows, _engines[job.token], heard)
    for start in range(0, images, portion.batch):
        yield list(mine(rows[start : start + portion.batch])), heard.said


def carry_out(job: Job, function: list[Any], item: Any) -> Iterator[tuple[Any, list[str]] | None]:
    """The same for a function of one item; `function` holds one reference to it."""
    import ray

    job.begin()
    found = ray.get(function[0])
    yield None
    yield found(item), []


def _refuse_others(expected: dict[str, str]) -> None:
    found = versions()
    other = {name: found.get(name, "none") for name, number in expected.items() if found.get(name) != number}
    if other:
        here = ", ".join(f"{name} {expected[name]}" for name in other)
        there = ", ".join(f"{name} {number}" for name, number in other.items())
        raise TlkitError(
            f"a worker on {socket.gethostname()} has {there}, but here is {here}: results could differ.",
            "install the same versions on every machine (requirements.lock names them).",
        )
