"""`tlkit cache`: show or clear the feature store, the networks kept as ONNX and the decoded frames of films.

tlkit cache show
tlkit cache clear --older-than 30
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tlkit.base.machine import budget, bytes_text, parse_bytes
from tlkit.base.story import Story
from tlkit.data import films
from tlkit.extraction import kept
from tlkit.extraction.room import DAY, Held, list_spaces, older_than, remove_until
from tlkit.extraction.store import store_dir
from tlkit.options.commands import CacheConfig


def run(config: CacheConfig, story: Story | None = None) -> dict[str, Any]:
    """Show or remove the spaces of the store, the networks and the frames of films; all of it can be computed again.

    Anything in use by another process is kept, and reported. `keep` counts features only, because networks are few.

    Returns:
        `folder`, `spaces` (as they are now; each with its description, `images`, `bytes`, `used` in
        days ago, `in_use`), `bytes`, `budget`, `budget_reason`, `networks` (`files`, `bytes`, `budget`), `films`
        (`files`, `bytes`), `removed` (bytes), `text`.

    Raises:
        TlkitError: if `keep` is not a size.
    """
    removed = _clear(config) if config.action == "clear" else []
    everything = config.action == "clear" and config.keep is None
    forgotten = kept.clear(config.older_than) if everything else 0
    decoded = films.clear(config.older_than) if everything else 0
    spaces = list_spaces()
    total = sum(space.bytes for space in spaces)
    most, reason = budget(store_dir(), total)
    lines = _cleared(config, removed, spaces) if config.action == "clear" else _shown(spaces)
    if forgotten:
        lines.append(f"removed {bytes_text(forgotten)} of networks kept as ONNX")
    if decoded:
        lines.append(f"removed {bytes_text(decoded)} of frames of films")
    networks = kept.list_kept()
    if networks:
        held = f"{bytes_text(sum(each.bytes for each in networks))} of {bytes_text(kept.most_bytes())}"
        lines.append(f"{kept.networks_dir()}: {len(networks)} kept as ONNX, {held}")
    if seen := films.list_films():
        held = bytes_text(sum(each.bytes for each in seen))
        lines.append(f"{films.frames_dir()}: frames of {len(seen)} films, {held}")
    lines.append(f"{store_dir()}: {bytes_text(total)} of {bytes_text(most)} ({reason})")
    return {
        "folder": str(store_dir()),
        "spaces": [_as_json(space) for space in spaces],
        "bytes": total,
        "budget": most,
        "budget_reason": reason,
        "networks": {
            "files": len(networks),
            "bytes": sum(each.bytes for each in networks),
            "budget": kept.most_bytes(),
        },
        "films": {"files": len(seen), "bytes": sum(each.bytes for each in seen)},
        "removed": sum(space.bytes for space in removed) + forgotten + decoded,
        "text": "\n".join(lines),
    }


def _clear(config: CacheConfig) -> list[Held]:
    """Remove what the options select, least recently used first; everything if they select nothing."""
    spaces = list_spaces()
    chosen = spaces if config.older_than is None else older_than(spaces, config.older_than)
    keep = parse_bytes(config.keep, "--keep") if config.keep is not None else -1
    return remove_until(chosen, sum(space.bytes for space in spaces), keep)


def _cleared(config: CacheConfig, removed: Sequence[Held], left: Sequence[Held]) -> list[str]:
    lines = [f"removed {bytes_text(sum(space.bytes for space in removed))} of computed features"]
    busy = [space for space in left if space.busy]
    if busy and config.older_than is None:
        lines.append(f"kept {bytes_text(sum(space.bytes for space in busy))} that another process is using")
    return lines


def _as_json(space: Held) -> dict[str, Any]:
    found = {"images": space.images, "bytes": space.bytes, "used": round((time.time() - space.used) / DAY, 3)}
    return {**space.description, **found, "in_use": space.busy}


def _shown(spaces: Sequence[Held]) -> list[str]:
    """One line per kind of feature, most recently used first; views of one kind share a line."""
    kinds: dict[str, list[Held]] = defaultdict(list)
    for space in reversed(spaces):
        kinds[_kind(space)].append(space)
    lines = []
    for kind, members in kinds.items():
        views = ", ".join(sorted({str(space.description.get("view", "?")) for space in members}, key=int_or_last))
        busy = "in use" if any(space.busy for space in members) else f"used {_ago(members[0].used)}"
        images = max(space.images for space in members)
        size = bytes_text(sum(space.bytes for space in members))
        lines.append(
            f"  {size:>11}  {images:>9,} {'image ' if images == 1 else 'images'}  {busy:<18}  {kind}, view {views}"
        )
    return lines


def int_or_last(text: str) -> int:
    """Sort key: numbers by value, everything else after them."""
    return int(text) if text.isdigit() else 2**31


def _kind(space: Held) -> str:
    """Network, layer, size, number format and augmentation of a space, as text."""
    about = space.description
    if not about:
        return "of an unknown kind"
    contract = about["contract"]
    name = about.get("about", {}).get("network") or "a network"
    words = [f"{name} (weights {about['weights'][:8]})", about["output"]]
    words.append(f"{contract['height']}x{contract['width']} {contract['fit']}")
    words += [about[key] for key in ("precision", "stored") if about.get(key, "float32") != "float32"]
    words += [f"augmentation {about['strength']} of seed {about['seed']}"] if "strength" in about else []
    return ", ".join(words)


def _ago(used: float) -> str:
    days = (time.time() - used) / DAY
    return f"{days:.0f} days ago" if days >= 2 else f"{days * 24:.0f} hours ago" if days * 24 >= 2 else "just now"
