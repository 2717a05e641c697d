"""What the benchmarks share: rows measured in turn, several times, shown as medians, spreads and ratios.

The machines these run on are shared and noisy, so no figure stands alone: rows are timed in turn
within one run, and what is claimed is the ratio between them.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from tlkit.backbones import runtime
from tlkit.base.machine import usable_cores


class Log:
    """Results by what was measured, one a line of a file: a long measurement may be stopped and taken up."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, {}
        for line in path.read_text().splitlines() if path.is_file() else []:
            *key, result = json.loads(line)
            self.known[tuple(key)] = result

    def result(self, key: tuple, measured: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
        """Of the file, or measured now and written to it."""
        if key not in self.known:
            self.known[key] = measured()
            with self.path.open("a") as stream:
                stream.write(json.dumps([*key, self.known[key]]) + "\n")
        return self.known[key]


def in_turn(rows: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, list[float]]:
    """Seconds of each repeat of each row; row after row, then all again, so that noise meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, work in rows.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """(median, least, greatest) of theirs over ours, repeat by repeat: above 1 is faster."""
    ratios = sorted(other / own for own, other in zip(ours, theirs, strict=True))
    return median(ratios), ratios[0], ratios[-1]


def table(seconds: Mapping[str, Sequence[float]], work: float, unit: str, ours: str) -> str:
    """A markdown table: median rate, its spread, and how many times as fast `ours` is, with the spread.

    Args:
        seconds: of every repeat, by row.
        work: units of work that one repeat does.
        unit: of the work, e.g. `images`.
        ours: the row that the others are held against.
    """
    lines = [f"| | {unit}/s, median | least to most | {ours} is faster by |", "|---|---|---|---|"]
    for name, times in seconds.items():
        rates = sorted(work / each for each in times)
        mid, low, high = ratio(seconds[ours], times)
        against = "" if name == ours else f"{mid:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {name} | {median(rates):.1f} | {rates[0]:.1f} to {rates[-1]:.1f} | {against} |")
    return "\n".join(lines)


def machine() -> str:
    """Hardware, load and versions, as the line under a table."""
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = ", ".join(f"{name} {version}" for name, version in runtime.versions().items())
    return f"{usable_cores()} cores of {model}, load {os.getloadavg()[0]:.1f}; {versions}"
