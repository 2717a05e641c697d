"""The pool: drawn images and crops of photographs in one file on disk, from which pretraining takes its views.

Work is cut into chunks, each with its own seed, so that the pool does not depend on the number of processes.
"""

import multiprocessing
from pathlib import Path

import numpy as np

from training_nano.draw import SIDE, coloured_noise, draw, shader
from training_nano.photographs import crop_photograph, read_photographs

CHUNK = 500
PHOTOGRAPH_SHARE = 0.4
# Shapes are filled with these; half of them crops of photographs, for their colours and grain are the world's.
TEXTURES_PER_CHUNK = 96


def write_pool(path: Path, count: int, seed: int, processes: int = 2) -> np.ndarray:
    """Make the file unless it is there already; the pool `(count, SIDE, SIDE, 3)` uint8, 0..255, as a memory map."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        np.lib.format.open_memmap(partial, "w+", "uint8", (count, SIDE, SIDE, 3)).flush()
        jobs = [(partial, seed, start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        with multiprocessing.get_context("spawn").Pool(processes) as workers:
            for done, _ in enumerate(workers.imap_unordered(_write_chunk, jobs), start=1):
                print(f"pool: {done}/{len(jobs)} chunks", end="\r", flush=True)
        print()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def _write_chunk(job: tuple[Path, int, int, int]) -> None:
    """Fill one stretch of the file."""
    path, seed, start, stop = job
    rng = np.random.default_rng((seed, start))
    photographs = read_photographs()
    textures = [_texture(rng, photographs) for _ in range(TEXTURES_PER_CHUNK)]
    images = np.empty((stop - start, SIDE, SIDE, 3), "uint8")
    for image in images:
        photographed = rng.random() < PHOTOGRAPH_SHARE
        pixels = crop_photograph(rng, photographs, SIDE) if photographed else draw(rng, textures)
        image[:] = np.clip(pixels * 255 + 0.5, 0, 255)
    np.load(path, mmap_mode="r+")[start:stop] = images


def _texture(rng: np.random.Generator, photographs) -> np.ndarray:
    """A filling for shapes."""
    if rng.random() < 0.5:
        return crop_photograph(rng, photographs, SIDE)
    return coloured_noise(rng) if rng.random() < 0.5 else shader(rng)
