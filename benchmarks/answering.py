"""Answers of a finished run: one photograph in a cold process, many of them, and a server, against another tlkit.

    python benchmarks/answering.py RUN IMAGES --other OTHER/.venv/bin/tlkit

RUN was written by this tlkit, so that it holds an answering file; OTHER is the command of an older one, which answers
with Keras. Each row is a process of its own, in turn with the other's, five repeats; memory is the greatest resident set
of the process. The answers of both are held against each other: the same classes, probabilities within 1e-4.
"""

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import IO

OURS = str(Path(sys.executable).with_name("tlkit"))


def asked(command: str, run: str, images: list[str]) -> tuple[float, float, str]:
    """Seconds, greatest resident MB, and what it printed."""
    started = time.perf_counter()
    process = subprocess.Popen([command, "predict", run, *images], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = process.stdout.read().decode()  # type: ignore[union-attr]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} predict failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024, said


def served(command: str, run: str, _: list[str]) -> tuple[float, float, str]:
    """Seconds until /readyz answers, and the resident MB then."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [command, "serve", run, "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    lines: IO[bytes] = process.stderr  # type: ignore[assignment]
    port = next(found[1] for line in lines if (found := re.search(r"http://[^:]+:(\d+)", line.decode())))
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
            break
        except OSError:
            time.sleep(0.02)
    seconds = time.perf_counter() - started
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    process.terminate()
    lines.read()
    process.wait()
    return seconds, int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, ""  # type: ignore[index]


def furthest(ours: str, theirs: str) -> float:
    """The greatest difference of a probability.

    Raises:
        SystemExit: a class differs.
    """
    pairs = list(zip(csv.DictReader(io.StringIO(ours)), csv.DictReader(io.StringIO(theirs)), strict=True))
    changed = [one["path"] for one, two in pairs if one["class"] != two["class"]]
    if changed:
        raise SystemExit(f"other classes: {changed[:3]}")
    return max(abs(float(one["probability"]) - float(two["probability"])) for one, two in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("images")
    parser.add_argument("--other", required=True)
    parser.add_argument("--many", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--rows", default="predict,serve", help="Which, by how their names begin.")
    options = parser.parse_args()
    kinds = (".jpg", ".jpeg", ".png")
    files = sorted(str(path) for path in Path(options.images).rglob("*") if path.suffix.lower() in kinds)[
        : options.many
    ]
    rows: dict[str, tuple[Callable, list[str]]] = {
        "predict, 1 photograph": (asked, files[:1]),
        f"predict, {len(files)} photographs": (asked, files),
        "serve, ready": (served, []),
    }
    print("| | seconds | other | ratio | MB | other | ratio |\n|---|---|---|---|---|---|---|")
    for name, (measure, images) in rows.items():
        if not name.startswith(tuple(options.rows.split(","))):
            continue
        ours, theirs = [], []
        for _ in range(options.repeat):
            ours.append(measure(OURS, options.run, images))
            theirs.append(measure(options.other, options.run, images))
        cells = []
        for column in (0, 1):
            one, two = (median(row[column] for row in side) for side in (ours, theirs))
            ratio = median(a[column] / b[column] for a, b in zip(ours, theirs, strict=True))
            cells += [f"{one:.2f}" if column == 0 else f"{one:.0f}", f"{two:.2f}" if column == 0 else f"{two:.0f}"]
            cells.append(f"{ratio:.3f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        if images:
            print(f"<!-- greatest difference of a probability: {furthest(ours[0][2], theirs[0][2]):.2g} -->")
    from measure import machine  # only now: a child starts with the greatest resident set of its parent

    print(f"\n{machine()}\n{json.dumps({'images': options.images, 'run': Path(options.run).name})}")


if __name__ == "__main__":
    main()
