"""How a pipeline talks while it works: sentences and progress, to whoever listens."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Story(Protocol):
    """What pipelines expect of a listener; `cli` gives a progress bar on a terminal, plain lines elsewhere."""

    def say(self, text: str) -> None:
        """One sentence or block of text for the user."""

    def detail(self, text: str) -> None:
        """Something only a curious user wants (`-v`)."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items`, showing how far it is. An item that has `__len__` counts as that many."""


class PlainStory:
    """Lines on stderr; progress at most every five seconds. The default from Python and without a terminal.

    Args:
        verbosity: 0 quiet, 1 normal, 2 with details.
    """

    def __init__(self, verbosity: int = 1) -> None:
        self.verbosity = verbosity

    def say(self, text: str) -> None:
        """Print to stderr."""
        if self.verbosity >= 1:
            print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Print to stderr when verbose."""
        if self.verbosity >= 2:
            print(text, file=sys.stderr, flush=True)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items`; say how far it is every five seconds and when done, if it took that long."""
        started = last = time.monotonic()
        done = 0
        for item in items:
            yield item
            done += len(item) if hasattr(item, "__len__") else 1
            now = time.monotonic()
            if now - last >= 5:
                last = now
                rate = done / (now - started)
                self.say(f"  {description}: {done}{f' of {total}' if total else ''} ({rate:.0f}/s)")


class Silence:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Just yield."""
        yield from items
