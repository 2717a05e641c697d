"""How many images a second become pixels: tlkit's batches, Keras's loader, and Pillow without decoding smaller.

    python benchmarks/decode.py IMAGES_DIR [--size 224] [--megapixels 12] [--against CHECKOUT] [--profile]

With --megapixels, JPEG files of that size are made from the first images of the folder (enlarged, with the grain of a
sensor, so that they take as many bytes as photographs do) and timed instead. --against times another checkout of tlkit
too, in a process of its own under CHECKOUT/.venv. The rows take turns, --repeats times, in two threads each.
--profile says what one image takes in one thread, step by step: reading numbers out of the file, decoding it, resizing.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras
import numpy as np
import simplejpeg
from measure import in_turn, machine, table
from photographs import enlarged
from PIL import Image, ImageOps

from tlkit.data.dataset import InputContract
from tlkit.data.decode import batches, decode
from tlkit.data.scan import scan
from tlkit.pixels import decoding
from tlkit.pixels.opening import open_picture

BATCH = 32


def plain(files: list[Path], side: int, threads: int) -> None:
    """What a program without further thought does, in threads."""

    def decode(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(upright.resize((side, side), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, files):
            pass


def loader(folder: Path, side: int) -> Callable[[], None]:
    """`image_dataset_from_directory`, which decodes as it is gone through."""
    dataset = keras.utils.image_dataset_from_directory(
        folder, labels=None, shuffle=False, batch_size=BATCH, image_size=(side, side), verbose=False
    )

    def work() -> None:
        for _ in dataset:
            pass

    return work


# Another checkout: a line in, the folder decoded once, a line out.
_OTHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tlkit.core.input_contract import InputContract
from tlkit.data.images import batches
files, side = sorted(Path(sys.argv[2]).iterdir()), int(sys.argv[3])
for _ in sys.stdin:
    for _ in batches(files, InputContract(height=side, width=side), 32, threads=int(sys.argv[4])):
        pass
    print("done", flush=True)
"""


@contextmanager
def another(checkout: Path, folder: Path, side: int, threads: int) -> Iterator[Callable[[], None]]:
    """The batches of another checkout, in a process that waits between the turns."""
    command = [checkout / ".venv/bin/python", "-c", _OTHER, checkout, folder, str(side), str(threads)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
    ) as process:

        def work() -> None:
            print("go", file=process.stdin, flush=True)
            if process.stdout.readline() != "done\n":
                raise SystemExit(f"{checkout} cannot decode them.")

        yield work
        process.stdin.close()


def profile(files: list[Path], side: int) -> str:
    """A table of processor milliseconds an image in one thread, the least of five; each step contains those above."""
    contents, contract = [file.read_bytes() for file in files], InputContract(height=side, width=side)
    numbers = {"colorspace": "RGB", "min_height": 1, "min_width": 1, "min_factor": 1}

    def least(work: Callable[[bytes], object]) -> float:
        times = []
        for _ in range(5):
            started = time.thread_time()
            for content in contents:
                work(content)
            times.append(time.thread_time() - started)
        return 1000 * min(times) / len(contents)

    rows = {
        "read at an eighth: nearly all of it is Huffman decoding": lambda c: simplejpeg.decode_jpeg(c, **numbers),
        "decode for this size": lambda c: open_picture(c, decoding._needed((side, side), "squash", decoding.GAPS[2])),
        "decode and resize": lambda c: decode(c, contract),
        "the rules of version 1": lambda c: decode(c, InputContract(height=side, width=side, version=1)),
    }
    lines = ["| step | ms an image, one thread |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {least(work):.2f} |" for name, work in rows.items())])


def linked(files: list[Path], into: Path) -> None:
    """Links to the files, all in one folder, so that every row reads the same ones."""
    for number, file in enumerate(files):
        (into / f"{number:06d}{file.suffix.lower()}").symlink_to(file.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--megapixels", type=float, help="make files of this size and time those")
    parser.add_argument("--count", type=int, default=24, help="how many to make")
    parser.add_argument("--limit", type=int, help="so many files of the folder at most, evenly chosen")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--against", type=Path, help="another checkout of tlkit with its .venv")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    dataset = scan(options.images, labelled=False)
    found = [dataset.file(i) for i in range(len(dataset))]
    jpegs = [file for file in found if file.suffix.lower() in (".jpg", ".jpeg")]
    jpegs = jpegs[:: max(1, len(jpegs) // options.limit)][: options.limit] if options.limit else jpegs
    contract, threads = InputContract(height=options.size, width=options.size), options.threads
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_ones:
        if options.megapixels:
            enlarged(jpegs, options.megapixels, options.count, Path(folder))
        else:
            linked(jpegs, Path(folder))
        files = sorted(Path(folder).iterdir())

        def tlkit() -> None:
            for _ in batches(files, contract, BATCH, threads=threads):
                pass

        rows: dict[str, Callable[[], None]] = {
            "tlkit": tlkit,
            "Keras's loader": loader(Path(folder), options.size),
            "plain Pillow": lambda: plain(files, options.size, threads),
        }
        if options.against:
            other = another(options.against.resolve(), Path(folder), options.size, threads)
            rows[f"tlkit of {options.against.name}"] = open_ones.enter_context(other)
        for work in rows.values():
            work()
        seconds = in_turn(rows, options.repeats)
        size = sum(file.stat().st_size for file in files) / len(files) / 1e6
        kind = f" of {options.megapixels:g} megapixels" if options.megapixels else ""
        print(f"{len(files)} JPEG files{kind}, {size:.3f} MB each, to {options.size} pixels, {threads} threads\n")
        print(table(seconds, len(files), "images", "tlkit"))
        if options.profile:
            print(f"\n{profile(files[:24], options.size)}")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
