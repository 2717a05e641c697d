"""Which frames of a clip are taken, and in which order they come."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

EVEN = 0.01  # by how much the times between frames may differ and still be one


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are taken: every `stride`-th, and of those `frames` at most, evenly spaced.

    Args:
        frames: T, at most; a clip that has fewer has them all. None for every one.
        stride: 1 takes every frame, 2 every other one.
        asked: whether folders are to be read as clips; a table says it itself, by its column `clip`.
    """

    frames: int | None = None
    stride: int = 1
    asked: bool = True

    def choose(self, count: int, times: Sequence[float] | None = None) -> np.ndarray:
        """Int (n,), ascending positions among `count` frames; the first and the last are among them, of one the middle.

        Args:
            count: frames there are.
            times: when each is shown, in seconds, ascending: where they are not evenly spaced, those frames are taken that
                lie nearest to evenly spaced times, each once.
        """
        left = np.arange(0, count, self.stride)
        if self.frames is None or len(left) <= self.frames:
            return left
        if self.frames == 1:
            return left[len(left) // 2 : len(left) // 2 + 1]
        steps = np.linspace(0, len(left) - 1, self.frames).round().astype(np.int64)
        if times is None:
            return left[steps]
        shown = np.asarray(times, np.float64)[left]
        gaps = np.diff(shown)
        if gaps.min() <= 0 or np.ptp(gaps) <= max(EVEN, EVEN * gaps.max()):
            return left[steps]
        return left[_nearest(shown, np.linspace(shown[0], shown[-1], self.frames))]


def _nearest(shown: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Ascending places, each once, of the times (n,) nearest to those that are wanted (m,), m < n."""
    places = np.abs(shown[None] - wanted[:, None]).argmin(axis=1)
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + 1)
    last = len(shown)
    for at in range(len(places) - 1, -1, -1):
        last = places[at] = min(places[at], last - 1)
    return places


def natural(name: str) -> list[str | int]:
    """A key by which frame_2 comes before frame_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def chosen(names: Sequence[str], keys: Sequence[object], sampling: Sampling, whole: Collection[int] = ()) -> list[int]:
    """The rows that are taken: clip by clip as they first appear, those of each in the order of their keys.

    Args:
        names: of the clip of each row.
        keys: of the place of each row in time; rows of one clip with equal keys stay in their order.
        sampling: which of them.
        whole: rows that are a clip each, whatever they are called.
    """
    members: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        members.setdefault(f"\0{row}" if row in whole else name, []).append(row)
    taken = []
    for rows in members.values():
        ordered = sorted(rows, key=lambda row: keys[row])  # type: ignore[arg-type, return-value]
        taken += [ordered[place] for place in sampling.choose(len(ordered)).tolist()]
    return taken
