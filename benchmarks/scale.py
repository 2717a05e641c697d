"""`tlkit features` on more and more images: time and peak memory, the tables included.

    python benchmarks/scale.py --counts 1000,10000,100000

Every image is a file of distinct content: a small photograph-like JPEG with its number behind its
end, so that none is a duplicate. Each count starts from an empty store and writes CSV; then, from
the full store, the same as Parquet. Peak memory is that of the command's process (`ru_maxrss`).
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CLASSES = 10
PATTERNS = 50  # different pictures


class Cost(NamedTuple):
    """What one command took: seconds of wall time, MiB of memory at most."""

    seconds: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1000,10000,100000")
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--side", type=int, default=64, help="pixels of the files")
    options = parser.parse_args()
    network = ["--backbone", options.backbone, "--image-size", str(options.image_size)]
    print(f"{options.backbone} at {options.image_size} pixels\n")
    print("| images | CSV, empty store, s | ms an image more | peak MiB | Parquet, full store, s | peak MiB | CSV MB |")
    print("|---|---|---|---|---|---|---|")
    before: tuple[int, float] | None = None
    for count in map(int, options.counts.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_images(place / "images", count, options.side)
            first = measured(place, "features.csv", network)
            second = measured(place, "features.parquet", network)
            size = (place / "features.csv").stat().st_size / 1e6
        more = f"{1000 * (first.seconds - before[1]) / (count - before[0]):.2f}" if before else ""
        before = (count, first.seconds)
        print(
            f"| {count:,} | {first.seconds:.1f} | {more} | {first.memory:,.0f} "
            f"| {second.seconds:.1f} | {second.memory:,.0f} | {size:,.0f} |",
            flush=True,
        )
    # Only now, because it loads the backend, and a process begins with the peak of the one it was forked from.
    from measure import machine

    print("\n" + machine())


def write_images(root: Path, count: int, side: int) -> None:
    """JPEG files of distinct content in class folders."""
    random = np.random.default_rng(0)
    patterns = []
    for _ in range(PATTERNS):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        patterns.append(buffer.getvalue())
    for number in range(CLASSES):
        (root / f"class{number}").mkdir(parents=True)
    for number in range(count):
        path = root / f"class{number % CLASSES}" / f"{number:07d}.jpg"
        path.write_bytes(patterns[number % PATTERNS] + number.to_bytes(8, "little"))


def measured(place: Path, out: str, network: list[str]) -> Cost:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "tlkit", "features", str(place / "images"), "--out", str(place / out), *network]
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=os.environ | {"TLKIT_CACHE": str(place / "cache")},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return Cost(time.perf_counter() - started, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
