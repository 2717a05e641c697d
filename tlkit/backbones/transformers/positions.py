"""Positions of patches: tables for another number of patches, and the angles of rotary positions."""

import keras
import numpy as np

Cells = tuple[int, int]  # rows and columns of patches


def interpolated(table: np.ndarray, own: Cells, cells: Cells, antialias: bool = False) -> np.ndarray:
    """A table of positions for another grid: bicubic, as DINOv2 and the image transformers of KerasHub do it.

    Args:
        table: float32 (rows * columns, C), row by row.
        own: its rows and columns.
        cells: the rows and columns wanted.
        antialias: whether to smooth when downsampling.

    Returns:
        float32 (rows * columns, C); the table itself where it fits.
    """
    if own == cells:
        return table
    made = keras.ops.image.resize(
        table.reshape(1, *own, -1), cells, interpolation="bicubic", antialias=antialias, data_format="channels_last"
    )
    return np.asarray(keras.ops.convert_to_numpy(made)).reshape(cells[0] * cells[1], -1)


def rotations(cells: Cells, prefix: int, depth: int, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of the angle by which each half of a head's channels is rotated (DINOv3, Siméoni et al. 2025).

    The first half of the angles depends on the row of a patch, the other half on its column, both from -1 to 1 for any number
    of patches; tokens before the patches are not rotated.

    Args:
        cells: rows and columns of patches.
        prefix: tokens before them.
        depth: channels of a head, a multiple of 4.
        period: the longest of the periods, in units of the frequency 1.

    Returns:
        Two float32 (prefix + rows * columns, depth / 2).
    """
    frequencies = 1 / period ** np.arange(0, 1, 4 / depth, dtype=np.float32)
    axes = [2 * (np.arange(count, dtype=np.float32) + 0.5) / count - 1 for count in cells]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    angles = (2 * np.pi * places[:, :, None] * frequencies).reshape(len(places), -1)
    angles = np.concatenate([np.zeros((prefix, depth // 2)), angles])
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
