"""How much memory there is left to use."""

from pathlib import Path

# Of a container, version 2 first: its limit, what it uses, and the part of that which is file cache and can be dropped.
_CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def available_memory(meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process may still take: the machine's or its container's, whichever is less.

    None where the system does not say (anything but Linux).
    """
    found = _machine(meminfo), *(_container(groups, *row) for row in _CONTAINERS)
    return min((bytes_left for bytes_left in found if bytes_left is not None), default=None)


def _machine(meminfo: Path) -> int | None:
    fields = _fields(meminfo)
    return fields["MemAvailable:"] * 1024 if "MemAvailable:" in fields else None


def _container(groups: Path, limit: str, used: str, statistics: str, cache: str) -> int | None:
    try:
        most, now = (groups / limit).read_text().strip(), int((groups / used).read_text())
    except (OSError, ValueError):
        return None
    if not most.isdigit():  # "max": no limit
        return None
    return max(0, int(most) - now + _fields(groups / statistics).get(cache, 0))


def _fields(path: Path) -> dict[str, int]:
    """`name number` lines of a file; empty where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {parts[0]: int(parts[1]) for line in lines if len(parts := line.split()) > 1 and parts[1].isdigit()}
