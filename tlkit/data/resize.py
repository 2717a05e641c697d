"""Antialiased bilinear resize of bytes, and where an image comes to lie in the input of a network.

The rule is two passes of a triangle filter as wide as the reduction asks (rows first, then columns), in
fixed-point numbers of 16 bits, so that every machine gives the same bytes. cykooz-resizer (the crate
fast_image_resize) computes it with the processor's vector instructions; where it has no build, NumPy computes
the same, more slowly: whole images to the byte, parts of them with one level in single pixels.
"""

from functools import lru_cache

import numpy as np

from tlkit.data.picture import Box, Size

try:
    import cykooz_resizer
except ImportError:  # no build for this machine
    cykooz_resizer = None

_MOST_BITS = 21  # of a weight's fraction, if it is small
_LIMIT = 2**15 - 1  # weights are signed numbers of 16 bits


def resize(pixels: np.ndarray, size: Size, box: Box) -> np.ndarray:
    """Part of an image at another size.

    Args:
        pixels: uint8 (h, w, 3).
        size: (width, height) to make.
        box: the part, in pixels of the image; edges may lie between pixels, and are rounded to 1/64 of one.

    Returns:
        uint8 (height, width, 3).
    """
    height, width = pixels.shape[:2]
    box = _snapped(box, width, height)
    if box == (0.0, 0.0, float(width), float(height)) and size == (width, height):
        return pixels
    if cykooz_resizer is None:
        return resize_plainly(pixels, size, box)
    source = cykooz_resizer.ImageData(width, height, cykooz_resizer.PixelType.U8x3, pixels.tobytes())
    made = cykooz_resizer.ImageData(*size, cykooz_resizer.PixelType.U8x3)
    bilinear = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear)
    part = cykooz_resizer.CropBox(box[0], box[1], box[2] - box[0], box[3] - box[1])
    options = cykooz_resizer.ResizeOptions(resize_alg=bilinear, crop_box=part, use_alpha=False)
    cykooz_resizer.Resizer().resize(source, made, options)
    return np.frombuffer(made.get_buffer(), np.uint8).reshape(size[1], size[0], 3)


def resize_plainly(pixels: np.ndarray, size: Size, box: Box) -> np.ndarray:
    """The same in NumPy; arguments and result as of `resize`."""
    box = _snapped(box, pixels.shape[1], pixels.shape[0])
    rows = _pass(pixels, _weights(pixels.shape[0], box[1], box[3], size[1]))
    columns = _pass(rows.transpose(1, 0, 2), _weights(pixels.shape[1], box[0], box[2], size[0]))
    return np.ascontiguousarray(columns.transpose(1, 0, 2))


def _snapped(box: Box, width: int, height: int) -> Box:
    """Edges that double precision holds exactly, so that sums come out the same in any order; within the image."""
    left, top, right, bottom = (round(edge * 64) / 64 for edge in box)
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))


Weights = tuple[tuple[tuple[int, np.ndarray], ...], int]


@lru_cache(maxsize=64)
def _weights(length: int, start: float, end: float, made: int) -> Weights:
    """For every pixel made: the first one read and the weights from there on; and the bits of their fraction."""
    scale = (end - start) / made
    reach = max(scale, 1.0)
    exact = []
    for index in range(made):
        centre = start + (index + 0.5) * scale
        first, last = max(int(np.floor(centre - reach)), 0), min(int(np.ceil(centre + reach)), length)
        near = np.maximum(1 - np.abs((np.arange(first, last) - (centre - 0.5)) * (1 / reach)), 0.0)
        used = np.flatnonzero(near)
        near = near[used[0] : used[-1] + 1]
        exact.append((first + int(used[0]), near / sum(near.tolist())))
    most = max(float(weights.max()) for _, weights in exact)
    bits = next((n for n in range(_MOST_BITS) if np.floor(most * 2 ** (n + 1) + 0.5) >= _LIMIT), _MOST_BITS)
    return tuple((first, np.floor(weights * 2**bits + 0.5).astype(np.int32)) for first, weights in exact), bits


def _pass(pixels: np.ndarray, weights: Weights) -> np.ndarray:
    """The first axis resized."""
    made, bits = np.empty((len(weights[0]), *pixels.shape[1:]), np.uint8), weights[1]
    for row, (first, numbers) in zip(made, weights[0], strict=True):
        total = np.full(row.shape, 1 << (bits - 1), np.int32)
        for number, read in zip(numbers, pixels[first : first + len(numbers)], strict=True):
            total += number * read.astype(np.int32)
        row[...] = np.clip(total >> bits, 0, 255)
    return made


# -- where an image lies -----------------------------------------------------------------------


def placed(size: tuple[float, float], target: Size, fit: str) -> tuple[Size, Box]:
    """The size an image is resized to, and the part of it that is: all, or the middle for `crop`."""
    width, height = size
    whole = (0.0, 0.0, float(width), float(height))
    if fit == "squash":
        return target, whole
    if fit == "pad":
        return inside(size, target, enlarge=True), whole
    scale = min(width / target[0], height / target[1])
    left, top = (width - target[0] * scale) / 2, (height - target[1] * scale) / 2
    return target, (max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height))


def inside(size: tuple[float, float], target: Size, *, enlarge: bool = False) -> Size:
    """The largest size of the same aspect inside `target`, at least one pixel a side."""
    scale = min(target[0] / size[0], target[1] / size[1])
    scale = scale if enlarge else min(scale, 1.0)
    return max(1, min(target[0], round(size[0] * scale))), max(1, min(target[1], round(size[1] * scale)))
