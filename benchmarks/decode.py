"""How many images a second become pixels: tlkit's batches, Keras's loader, and Pillow without decoding smaller.

    python benchmarks/decode.py IMAGES_DIR [--size 224] [--megapixels 12]

With --megapixels, JPEG files of that size are made from the first images of the folder (enlarged, with the grain of a
sensor, so that they take as many bytes as photographs do) and timed instead. The rows take turns.
"""

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import keras
import numpy as np
from measure import in_turn, machine, table
from PIL import Image, ImageOps

from tlkit.base.machine import usable_cores
from tlkit.data.dataset import InputContract
from tlkit.data.decode import batches, native
from tlkit.data.scan import scan

BATCH = 32
GRAIN = 6.0  # deviation of the noise added to enlarged images, in grey levels


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


def enlarged(files: list[Path], megapixels: float, count: int, into: Path) -> None:
    """JPEG files of a size in pixels, 4 to 3."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    size, random = (width, round(width * 3 / 4)), np.random.default_rng(0)
    for number, file in enumerate(islice(cycle(files), count)):
        large = Image.fromarray(native(file)).resize(size, Image.Resampling.BICUBIC)
        grain = random.normal(0, GRAIN, (size[1], size[0], 1)).astype(np.float32)
        pixels = (np.asarray(large, np.float32) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(into / f"{number:04d}.jpg", quality=90)


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
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    dataset = scan(options.images, labelled=False)
    found = [dataset.file(i) for i in range(len(dataset))]
    jpegs = [file for file in found if file.suffix.lower() in (".jpg", ".jpeg")]
    contract, threads = InputContract(height=options.size, width=options.size), usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        if options.megapixels:
            enlarged(jpegs, options.megapixels, options.count, Path(folder))
        else:
            linked(jpegs, Path(folder))
        files = sorted(Path(folder).iterdir())

        def tlkit() -> None:
            for _ in batches(files, contract, BATCH):
                pass

        rows: dict[str, Callable[[], None]] = {
            "tlkit": tlkit,
            "Keras's loader": loader(Path(folder), options.size),
            "plain Pillow": lambda: plain(files, options.size, threads),
        }
        for work in rows.values():
            work()
        seconds = in_turn(rows, options.repeats)
        size = sum(file.stat().st_size for file in files) / len(files) / 1e6
        kind = f" of {options.megapixels:g} megapixels" if options.megapixels else ""
        print(f"{len(files)} JPEG files{kind}, {size:.2f} MB each, to {options.size} pixels, {threads} threads\n")
        print(table(seconds, len(files), "images", "tlkit"))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
