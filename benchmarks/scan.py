"""How long scanning and splitting take, and how much memory: many small files of distinct content.

    python benchmarks/scan.py [--images 100000] [--classes 100] [--distinct 1000]

With `--distinct` there are so many files, and the other images are hard links to them, so that a million take no room: each
unit of the split is then as many copies. Without, every file has content of its own.
The files are made in a temporary folder first, which is not counted. Memory is the growth of the
process's peak during scan and split, above what Python and numpy take before.
"""

import argparse
import io
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.base.machine import usable_cores
from tlkit.base.story import PlainStory
from tlkit.data.scan import scan
from tlkit.data.split import split


def write_images(root: Path, images: int, classes: int, distinct: int) -> None:
    """A tiny PNG again and again, with the number of the file behind its end: valid, and distinct."""
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(stream, "PNG")
    for label in range(classes):
        (root / f"class{label:04}").mkdir()
    for i in range(images):
        path = root / f"class{i % classes:04}" / f"image{i:08}.png"
        if i < distinct:
            path.write_bytes(stream.getvalue() + i.to_bytes(8, "big"))
        else:
            os.link(root / f"class{i % distinct % classes:04}" / f"image{i % distinct:08}.png", path)


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--distinct", type=int, help="files of distinct content; all unless given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root, options.images, options.classes, options.distinct or options.images)
        before, started = peak_mib(), time.monotonic()
        dataset = scan(root, story=PlainStory())
        scanned, after_scan = time.monotonic() - started, peak_mib()
        started = time.monotonic()
        rule = split(dataset, val=0.15, test=0.15, seed=0).rule
        divided, after_split = time.monotonic() - started, peak_mib()
        print(
            f"{platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}, numpy {np.__version__}"
        )
        print(f"{len(dataset)} images in {options.classes} classes; {rule}", file=sys.stderr)
        print("| step | seconds | images/s | peak memory above start, MiB |")
        print("|---|---|---|---|")
        print(f"| scan | {scanned:.1f} | {len(dataset) / scanned:,.0f} | {after_scan - before:.0f} |")
        print(f"| split | {divided:.1f} | {len(dataset) / divided:,.0f} | {after_split - before:.0f} |")


if __name__ == "__main__":
    main()
