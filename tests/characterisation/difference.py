"""Whether two plain values are the same, floats within a tolerance; and where they are not."""

from collections.abc import Iterator
from typing import Any


def differences(recorded: Any, seen: Any, tolerance: float, place: str = "") -> Iterator[str]:
    """Sentences on what differs. More keys than were recorded are no difference: files and tables may say more.

    Args:
        recorded: the value to hold against.
        seen: the value now.
        tolerance: of floats: absolute up to 1, relative above.
        place: where the values are from.
    """
    if isinstance(recorded, dict) and isinstance(seen, dict):
        for key, value in recorded.items():
            if key in seen:
                yield from differences(value, seen[key], tolerance, f"{place}/{key}")
            else:
                yield f"{place}/{key} is missing"
    elif isinstance(recorded, list) and isinstance(seen, list):
        if len(recorded) != len(seen):
            yield f"{place} has {len(seen)} entries, recorded are {len(recorded)}"
        for index, (value, other) in enumerate(zip(recorded, seen, strict=False)):
            yield from differences(value, other, tolerance, f"{place}/{index}")
    elif not same(recorded, seen, tolerance):
        yield f"{place} is {seen!r}, recorded is {recorded!r}"


def same(recorded: Any, seen: Any, tolerance: float) -> bool:
    """Whether two values are one; numbers within the tolerance where either is a float, else exactly."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (recorded, seen))
    if numbers and isinstance(recorded + seen, float):
        return abs(recorded - seen) <= tolerance * max(1.0, abs(recorded))
    return type(recorded) is type(seen) and recorded == seen
