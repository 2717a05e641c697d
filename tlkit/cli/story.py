"""The story on a terminal: sentences on stderr and one progress bar."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tlkit.core.story import PlainStory, Story

T = TypeVar("T")


def listener(*, quiet: bool, verbose: bool) -> Story:
    """A progress bar where stderr is a terminal, plain lines elsewhere."""
    verbosity = 0 if quiet else 2 if verbose else 1
    return TerminalStory(verbosity) if verbosity and sys.stderr.isatty() else PlainStory(verbosity)


class TerminalStory(PlainStory):
    """Plain sentences, and a progress bar that leaves nothing behind."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items` under a bar with rate and remaining time."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(description, total=total)
            for item in items:
                yield item
                progress.advance(task, len(item) if hasattr(item, "__len__") else 1)
