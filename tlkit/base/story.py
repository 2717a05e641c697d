"""The story: messages and progress that a pipeline sends to a listener while it works."""

import contextlib
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
Heard = Callable[[float], None]  # callback with the progress of a single computation, 0..1


def unheard(part: float) -> None:
    """Ignore the progress."""


def percent(share: float | None, digits: int = 0) -> str:
    """A fraction as text, in one form everywhere: 0.8 is `80 %`, None is `not defined`."""
    return "not defined" if share is None else f"{100 * share:.{digits}f} %"


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 epoch`, `12 epochs`, `1,200 epochs`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


# -- Progress of a command over all of its phases: the fraction done and the time left ---
#
#     progress.expect(Phase("reading files", 0.2, 1e-3), Phase("extracting", 3.0, 0.01), Phase("writing", 0.5))
#
# Each phase is weighted by its expected seconds. A phase that is skipped, because its result is stored, is over at
# once. The time left is that of the current phase at its pace so far, plus the expected time of later phases.

TYPICAL = 1000  # images, until their number is known
UNCOUNTED_MOST = 0.95  # maximum progress of a phase without a count, however long it takes


class Phase(NamedTuple):
    """A part of a command.

    Args:
        name: description.
        seconds: expected duration regardless of the number of images.
        each: additional seconds per image.
        by: name of the track that counts it; default: the name of the phase.
    """

    name: str
    seconds: float
    each: float = 0.0
    by: str = ""


class Progress:
    """The progress of a command through its phases.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._forget()

    def _forget(self) -> None:
        self._phases: tuple[Phase, ...] = ()
        self._alone = False  # whether the only phase is an unexpected track
        self._at = -1  # the index of the current phase
        self._taken: dict[str, float] = {}  # duration of the finished phases that were not skipped
        self._images = 0
        self._began = self._counted_at = self._now()
        self._part: float | None = None  # fraction of the current phase, if it is counted
        self._first = (0.0, 0.0)  # the first counted fraction and its time; what came before is preparation
        self._shown = 0.0
        self._count: Count | None = None

    def expect(self, *phases: Phase) -> None:
        """Set the phases of the command, in this order; one that has begun under the same name continues.

        Without arguments, start over for another command.
        """
        name = self.name
        if not phases:
            self._forget()
        self._phases = phases
        self._at = next((place for place, phase in enumerate(phases) if phase.name == name), -1)

    def begin(self, name: str) -> None:
        """Begin a phase and end those before it. A finished or unexpected phase counts as part of the current one."""
        place = next((place for place, phase in enumerate(self._phases) if phase.name == name), -1)
        if place <= self._at:
            return
        if self._at >= 0:
            self._taken[self.name] = self._now() - self._began
        self._at, self._began, self._part, self._count = place, self._now(), None, None
        self._first = (0.0, self._began)

    def reach(self, done: float, total: float) -> None:
        """Set how much of the current phase is done; 0 announces that it will be counted."""
        self._part, self._counted_at = max(self._part or 0.0, min(1.0, done / max(total, 1))), self._now()
        if not self._first[0]:
            self._first = (self._part, self._counted_at)

    def count(self, description: str, total: int | None) -> "Count":
        """Begin a track: the phase of its name, else part of the current one; its own phase if none is expected."""
        if self._alone or not self._phases:
            self._forget()
            self._phases, self._alone = ((Phase(description, 1.0),), True) if total else ((), False)
        now = self._phases[self._at] if self._at >= 0 else None
        if now is None or (now.by or now.name) != description:
            ahead = (phase for phase in self._phases[self._at + 1 :] if (phase.by or phase.name) == description)
            now = next(ahead, None)
            self.begin(now.name if now else "")
        if now and now.each and total and not self._images:
            self._images = total
        self._count = Count(self, description, total, self._now, moves=now is not None)
        return self._count

    @property
    def begun(self) -> bool:
        """Whether there is progress to show."""
        return self._at >= 0 or self._count is not None

    @property
    def name(self) -> str:
        """Name of the current phase, "" before any."""
        return self._phases[self._at].name if self._at >= 0 else ""

    @property
    def fraction(self) -> float | None:
        """Fraction of the whole, 0..1, never decreasing; None if no phases are expected."""
        if self._at < 0:
            return None
        weights = [self._weight(place) for place in range(len(self._phases))]
        done = sum(weights[: self._at]) + weights[self._at] * self._done
        self._shown = max(self._shown, min(1.0, done / max(sum(weights), 1e-9)))
        return self._shown

    @property
    def left(self) -> float:
        """Estimated seconds left."""
        later = sum(self._expected(place) for place in range(self._at + 1, len(self._phases)))
        if not self._part:
            return max(0.0, self._expected(self._at) - (self._now() - self._began)) + later
        part, since = self._first
        if self._part > part:
            each = (self._counted_at - since) / (self._part - part)
        else:
            each = (since - self._began) / part if self._alone else self._expected(self._at)
        return max(0.0, (1 - self._part) * each - (self._now() - self._counted_at)) + later

    @property
    def line(self) -> str:
        """The progress as text: `34 %, 2:05 min left: extracting, 320 of 398 (17/s)`."""
        share, name = self.fraction, self.name
        counted = self._count.text if self._count else ""
        if share is None:
            return f"{self._count.description}, {counted}" if self._count else ""
        if self._count and self._count.description != name:
            counted = f"{self._count.description} {counted}"
        return f"{int(100 * share)} %, {clock(self.left)} left: {name}" + (f", {counted}" if counted else "")

    @property
    def _done(self) -> float:
        """Fraction of the current phase: as counted, else by the clock."""
        if self._part is not None:
            return self._part
        return min(UNCOUNTED_MOST, (self._now() - self._began) / max(self._expected(self._at), 1e-9))

    def _weight(self, place: int) -> float:
        """Seconds of a phase: actual if finished, else expected."""
        taken = self._taken.get(self._phases[place].name) if place < self._at else None
        return self._expected(place) if taken is None else taken

    def _expected(self, place: int) -> float:
        phase = self._phases[place]
        return phase.seconds + phase.each * (self._images or TYPICAL)


class Count:
    """The count of a track, as part of a `Progress`."""

    def __init__(
        self, progress: Progress, description: str, total: int | None, now: Callable[[], float], *, moves: bool
    ) -> None:
        self.description, self.total, self.done = description, total, 0
        self._progress, self._now, self._began, self._moves = progress, now, now(), moves

    def add(self, item: object) -> None:
        """Count one more item; one with `__len__` counts as that many."""
        self.done += len(item) if hasattr(item, "__len__") else 1
        if self._moves and self.total:
            self._progress.reach(self.done, self.total)

    @property
    def text(self) -> str:
        """The count as text: `320 of 398 (17/s)`."""
        rate = self.done / max(self._now() - self._began, 1e-9)
        pace = f" ({rate:.0f}/s)" if rate >= 10 else f" ({rate:.1f}/s)" if self.done else ""
        return f"{self.done}{f' of {self.total}' if self.total else ''}{pace}"


def clock(seconds: float) -> str:
    """A duration as text: `40 s`, `2:05 min`, `1:10 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02d} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d} h"


# -- Listeners ---


class Story(Protocol):
    """The interface of a listener; `cli` uses a progress bar on a terminal, plain lines elsewhere."""

    def say(self, text: str) -> None:
        """Show a sentence or block of text."""

    def detail(self, text: str) -> None:
        """Show a detail (`-v`)."""

    def expect(self, *phases: Phase) -> None:
        """Set the phases of the command, in order; called again when more is known."""

    def begin(self, name: str) -> None:
        """Begin the phase of this name."""

    def reach(self, done: float, total: float) -> None:
        """Set how much of the current phase is done."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items`, showing progress. An item with `__len__` counts as that many."""

    def close(self) -> None:
        """End the command, whether it succeeded or not."""


class Silence:
    """A listener that ignores everything; base of partial listeners."""

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
        """Yield from `items`."""
        yield from items

    def close(self) -> None:
        """Nothing."""


SILENCE = Silence()  # for defaults


class PlainStory:
    """Lines on stderr, with a progress line every five seconds, less often the longer the command takes.

    The default from Python and without a terminal.

    Args:
        verbosity: 0 quiet, 1 normal, 2 with details.
    """

    every = 5.0  # minimum seconds between two progress lines ...
    rarely = 0.02  # ... and as a fraction of the time since the first

    def __init__(self, verbosity: int = 1) -> None:
        self.verbosity = verbosity
        self.progress = Progress(time.monotonic)
        self._started = self._last = 0.0

    def say(self, text: str) -> None:
        """Print to stderr; if it is closed, as after closing the terminal, the work continues."""
        if self.verbosity >= 1:
            with contextlib.suppress(OSError):
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
        """Yield from `items`; print the overall progress every few seconds."""
        count = self.progress.count(description, total)
        self._moved()
        for item in items:
            yield item
            count.add(item)
            self._moved()

    def close(self) -> None:
        """End the command."""

    def _moved(self) -> None:
        """Print the progress if a line is due."""
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


class SteadyStory(PlainStory):
    """Plain lines that also appear while nothing is counted: a thread checks every second whether one is due.

    For the command line, which has a process of its own.
    """

    look = 1.0  # seconds between two checks

    def __init__(self, verbosity: int = 1) -> None:
        super().__init__(verbosity)
        self._turn, self._over = threading.Lock(), threading.Event()
        self._watch: threading.Thread | None = None

    def expect(self, *phases: Phase) -> None:
        """As `Story`; starts the thread."""
        super().expect(*phases)
        if phases and self.verbosity and self._watch is None:
            self._watch = threading.Thread(target=self._look, name="tlkit-story", daemon=True)
            self._watch.start()

    def close(self) -> None:
        """End the command and the thread."""
        self._over.set()
        if self._watch is not None:
            self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(self.look):
            self._moved()

    def _moved(self) -> None:
        with self._turn:
            super()._moved()


class NotebookStory(PlainStory):
    """A plain output of a notebook cell that grows line by line, with the progress as the last line.

    It does not use stderr, which notebooks show in red.
    """

    every, rarely = 0.5, 0.0

    def __init__(self, verbosity: int = 1) -> None:
        super().__init__(verbosity)
        self._lines: list[str] = []
        self._below = ""
        self._handle: Any = None

    def say(self, text: str) -> None:
        """Append the text."""
        if self.verbosity >= 1:
            self._lines += text.split("\n")
            self._show(self._below)

    def close(self) -> None:
        """Remove the progress line."""
        if self._below:
            self._show()

    def _tell(self, line: str) -> None:
        if self.verbosity:
            self._show(line)

    def _show(self, below: str = "") -> None:
        self._below = below
        display = importlib.import_module("IPython.display").display  # installed wherever there is a notebook

        content = {"text/plain": "\n".join([*self._lines, below] if below else self._lines)}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def story_for_python(verbose: bool = True) -> Story:
    """The default listener in Python: a notebook cell, else lines on stderr; none without `verbose`."""
    if not verbose:
        return Silence()
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return NotebookStory() if type(shell).__name__ == "ZMQInteractiveShell" else PlainStory()
