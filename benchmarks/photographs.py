"""Photographs of a stated size, made from smaller ones: what benchmarks take where large images are asked for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.data.decode import native

GRAIN = 6.0  # deviation of the noise added to enlarged images, in grey levels


def enlarged(files: Sequence[Path], megapixels: float, count: int, into: Path) -> None:
    """JPEG files of a size in pixels, 4 to 3, with the grain of a sensor, so that they take as many bytes as photographs do."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    size = (width, round(width * 3 / 4))

    def make(numbered: tuple[int, Path]) -> None:
        number, file = numbered
        large = Image.fromarray(native(file)).resize(size, Image.Resampling.BICUBIC)
        grain = np.random.default_rng(number).normal(0, GRAIN, (size[1], size[0], 1)).astype(np.float32)
        pixels = (np.asarray(large, np.float32) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(into / f"{number:04d}.jpg", quality=90)

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(make, enumerate(islice(cycle(files), count))):
            pass
