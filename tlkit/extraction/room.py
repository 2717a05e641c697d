"""Room in the feature store: what it holds, what may be removed, and what is removed when the budget is reached."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json
from tlkit.base.machine import budget, bytes_text, free_bytes
from tlkit.base.story import Story
from tlkit.extraction.lease import in_use, last_used, remove, sweep
from tlkit.extraction.shards import BARE, INDEX, rows_of
from tlkit.extraction.store import store_dir

DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class Held:
    """A space on disk.

    Args:
        folder: of its shards.
        description: of its numbers; empty where it cannot be read.
        images: that have a row.
        bytes: on disk.
        used: when, in seconds since the epoch.
        busy: whether a process uses it now.
    """

    folder: Path
    description: Mapping[str, Any]
    images: int
    bytes: int
    used: float
    busy: bool


def list_spaces() -> list[Held]:
    """Every space of the store, the least recently used first."""
    found = []
    for folder in store_dir().glob("[!.]*"):
        try:
            found.append(_held(folder))
        except FileNotFoundError:  # removed a moment ago
            continue
    return sorted(found, key=lambda space: space.used)


def _held(folder: Path) -> Held:
    files = list(folder.iterdir())
    try:
        description = read_json(folder / "space.json")
    except (OSError, ValueError):  # not there yet, or damaged
        description = {}
    return Held(
        folder=folder,
        description=description if isinstance(description, dict) else {},
        images=sum(rows_of(file) for file in files if file.suffix in (INDEX, BARE)),
        bytes=sum(file.stat().st_size for file in files),
        used=last_used(folder),
        busy=in_use(folder),
    )


def make_room(needed: int, story: Story) -> None:
    """Remove the least recently used spaces until `needed` more bytes are within the budget.

    Spaces in use by a process, this one included, stay; so the budget may be exceeded, which is then reported.

    Raises:
        TlkitError: when the disk itself does not have that much left.
    """
    spaces = list_spaces()
    total = sum(space.bytes for space in spaces)
    most, reason = budget(store_dir(), total)
    removed = remove_until([space for space in spaces if not space.busy], total, most - needed)
    if removed:
        story.say(
            f"{bytes_text(sum(space.bytes for space in removed))} of features, used last {_days(removed[-1].used)} ago or "
            f"before, removed from the store to stay within its {bytes_text(most)} ({reason})"
        )
    total -= sum(space.bytes for space in removed)
    free = free_bytes(store_dir())
    if needed > free:
        raise TlkitError(
            f"this needs {bytes_text(needed)} in the feature store {str(store_dir())!r}, and its disk has {bytes_text(free)} free.",
            "make room, set TLKIT_CACHE to a folder on another disk, use --stored-as float16, or fewer --views where training asks for them.",
        )
    if total + needed > most:
        story.say(
            f"the feature store will hold {bytes_text(total + needed)}, more than its {bytes_text(most)} ({reason}): "
            "all of it is in use"
        )


def remove_until(spaces: Sequence[Held], total: int, most: int) -> list[Held]:
    """Remove spaces in their order until `total` bytes have become at most `most`. Returns those removed."""
    sweep(store_dir())
    removed = []
    for space in spaces:
        if total <= most:
            break
        if remove(space.folder):
            removed.append(space)
            total -= space.bytes
    return removed


def older_than(spaces: Sequence[Held], days: float) -> list[Held]:
    """The spaces that have not been used for so long."""
    return [space for space in spaces if time.time() - space.used > days * DAY]


def _days(used: float) -> str:
    hours = (time.time() - used) / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours" if hours >= 1 else "less than an hour"
