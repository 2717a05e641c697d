"""How a pipeline talks while it works: sentences and progress, to whoever listens."""

import importlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

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

    every = 5.0  # seconds between two words on progress

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
        """Yield from `items`; say how far it is every few seconds."""
        started = last = time.monotonic()
        done = 0
        for item in items:
            yield item
            done += len(item) if hasattr(item, "__len__") else 1
            now = time.monotonic()
            if now - last >= self.every:
                last = now
                self._tell_progress(f"  {progress(description, done, total, now - started)}")

    def _tell_progress(self, line: str) -> None:
        self.say(line)


def progress(description: str, done: int, total: int | None, seconds: float) -> str:
    """How far something is: `reading files: 320 of 398 (17/s), 5 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    shown = f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
    left = f", {clock((total - done) / rate)} left" if total and rate else ""
    return f"{description}: {done}{f' of {total}' if total else ''} ({shown}){left}"


def clock(seconds: float) -> str:
    """A time as people say it: `40 s`, `2:05 min`, `1:10 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02d} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d} h"


class NotebookStory(PlainStory):
    """One plain output of a notebook's cell that grows line by line; progress takes turns in its last line.

    Not on stderr, which notebooks show as a red wall.
    """

    every = 0.5

    def __init__(self, verbosity: int = 1) -> None:
        super().__init__(verbosity)
        self._lines: list[str] = []
        self._below = ""
        self._handle: Any = None

    def say(self, text: str) -> None:
        """Add it below."""
        if self.verbosity >= 1:
            self._lines += text.split("\n")
            self._show()

    def detail(self, text: str) -> None:
        """Add it below when verbose."""
        if self.verbosity >= 2:
            self.say(text)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items`; the last line says how far it is, twice a second, and is gone at the end."""
        yield from super().track(items, description, total)
        if self._below:
            self._show()

    def _tell_progress(self, line: str) -> None:
        if self.verbosity:
            self._show(line)

    def _show(self, below: str = "") -> None:
        self._below = below
        display = importlib.import_module("IPython.display").display  # there, where a notebook is

        content = {"text/plain": "\n".join([*self._lines, below] if below else self._lines)}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def story_for_python(verbose: bool = True) -> Story:
    """Who listens where nobody was named: a notebook's cell, else lines on stderr; nobody without `verbose`."""
    if not verbose:
        return Silence()
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return NotebookStory() if type(shell).__name__ == "ZMQInteractiveShell" else PlainStory()


class Silence:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Just yield."""
        yield from items
