"""How many images a second become pixels: tlkit's batches, and Pillow without decoding smaller.

    python benchmarks/decode.py IMAGES_DIR [--size 224] [--repeat 5]

The best of several rounds, taken in turns, as other work on the machine only ever slows one down.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tlkit.core.cores import usable_cores
from tlkit.core.input_contract import InputContract
from tlkit.data.images import batches
from tlkit.data.scan import scan


def plain(files: list[Path], side: int, threads: int) -> None:
    """What a program without further thought does, in threads."""

    def decode(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(upright.resize((side, side), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, files):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    manifest = scan(options.images, labelled=False)
    files = [manifest.file(i) for i in range(len(manifest))]
    contract = InputContract(height=options.size, width=options.size)

    def tlkit(threads: int) -> None:
        for _ in batches(files, contract, 32, threads=threads):
            pass

    rows: dict[str, Callable[[], None]] = {}
    for threads in sorted({1, usable_cores()}):
        rows[f"tlkit, {threads} threads"] = lambda threads=threads: tlkit(threads)
        rows[f"plain Pillow, {threads} threads"] = lambda threads=threads: plain(files, options.size, threads)
    best = dict.fromkeys(rows, 0.0)
    for _ in range(options.repeat):
        for name, work in rows.items():
            started = time.monotonic()
            work()
            best[name] = max(best[name], len(files) / (time.monotonic() - started))
    print(f"{len(files)} images to {options.size}x{options.size}\n\n| | images/s |\n|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:.0f} |")


if __name__ == "__main__":
    main()
