"""How a pipeline talks while it works: sentences and progress, to whoever listens."""

import importlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from tlkit.base.progress import Phase, Progress

T = TypeVar("T")


class Story(Protocol):
    """What pipelines expect of a listener; `cli` gives a progress bar on a terminal, plain lines elsewhere."""

    def say(self, text: str) -> None:
        """One sentence or block of text for the user."""

    def detail(self, text: str) -> None:
        """Something only a curious user wants (`-v`)."""

    def expect(self, *phases: Phase) -> None:
        """The phases of the command, in order; said again when more is known of them."""

    def begin(self, name: str) -> None:
        """The phase of this name begins."""

    def reach(self, done: float, total: float) -> None:
        """So much of the phase under way is done."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items`, showing how far it is. An item that has `__len__` counts as that many."""

    def close(self) -> None:
        """The command is over, done or not."""


class Silence:
    """Says nothing; what listens to some things only is derived from it."""

    def say(self, text: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def expect(self, *phases: Phase) -> None:
        """Nothing."""

    def begin(self, name: str) -> None:
        """Nothing."""

    def reach(self, done: float, total: float) -> None:
        """Nothing."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Just yield."""
        yield from items

    def close(self) -> None:
        """Nothing."""


class PlainStory:
    """Lines on stderr; one on the progress of the whole every five seconds, and ever more rarely as the command goes on.

    The default from Python and without a terminal.

    Args:
        verbosity: 0 quiet, 1 normal, 2 with details.
    """

    every = 5.0  # seconds between two words on progress, at least ...
    rarely = 0.02  # ... and this much of the time since the first

    def __init__(self, verbosity: int = 1) -> None:
        self.verbosity = verbosity
        self.progress = Progress(time.monotonic)
        self._started = self._last = 0.0

    def say(self, text: str) -> None:
        """Print to stderr."""
        if self.verbosity >= 1:
            print(text, file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Print to stderr when verbose."""
        if self.verbosity >= 2:
            self.say(text)

    def expect(self, *phases: Phase) -> None:
        """As `Story`."""
        self.progress.expect(*phases)
        self._moved()

    def begin(self, name: str) -> None:
        """As `Story`."""
        self.progress.begin(name)
        self._moved()

    def reach(self, done: float, total: float) -> None:
        """As `Story`."""
        self.progress.reach(done, total)
        self._moved()

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items`; say every few seconds how far the whole is."""
        count = self.progress.count(description, total)
        self._moved()
        for item in items:
            yield item
            count.add(item)
            self._moved()

    def close(self) -> None:
        """The command is over."""

    def _moved(self) -> None:
        """Something was done: tell of it when it is time to."""
        now = time.monotonic()
        self._started = self._started or now
        self._last = self._last or now
        if not self.progress.begun:
            return
        if now - self._last >= max(self.every, self.rarely * (now - self._started)):
            self._last = now
            self._tell(f"  {self.progress.line}")

    def _tell(self, line: str) -> None:
        self.say(line)


class NotebookStory(PlainStory):
    """One plain output of a notebook's cell that grows line by line; progress is its last line.

    Not on stderr, which notebooks show as a red wall.
    """

    every, rarely = 0.5, 0.0

    def __init__(self, verbosity: int = 1) -> None:
        super().__init__(verbosity)
        self._lines: list[str] = []
        self._below = ""
        self._handle: Any = None

    def say(self, text: str) -> None:
        """Add it below."""
        if self.verbosity >= 1:
            self._lines += text.split("\n")
            self._show(self._below)

    def close(self) -> None:
        """The last line, which says how far it is, goes."""
        if self._below:
            self._show()

    def _tell(self, line: str) -> None:
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
