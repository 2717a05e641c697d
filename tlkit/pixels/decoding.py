"""Decode and resize one file, identically for training, evaluation and prediction.

docs/decoding.md states the contract. Exported programs include this module and its imports, so that they decode
identically: these need Pillow, NumPy and simplejpeg, and of tlkit only errors and the contract.
"""

import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.pixels.contract import DECODE_VERSION, InputContract
from tlkit.pixels.opening import open_picture, open_upright
from tlkit.pixels.picture import Box, Needed, Size

try:
    import cykooz_resizer
except ImportError:  # no build for this machine
    cykooz_resizer = None

_MOST_BITS = 21  # maximum bits of a weight's fraction, if the weight is small
_LIMIT = 2**15 - 1  # weights are signed 16-bit integers


def resize(pixels: np.ndarray, size: Size, box: Box) -> np.ndarray:
    """Resize part of an image.

    Args:
        pixels: uint8 (h, w, 3).
        size: (width, height) of the result.
        box: the part, in pixels of the image; edges may be fractional and are rounded to 1/64 of a pixel.

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
    _resizer().resize(source, made, options)
    return np.frombuffer(made.get_buffer(), np.uint8).reshape(size[1], size[0], 3)


_OF_THREAD = threading.local()


def _resizer() -> "cykooz_resizer.Resizer":
    """One resizer per thread, because it keeps the buffer between its two passes."""
    if not hasattr(_OF_THREAD, "resizer"):
        _OF_THREAD.resizer = cykooz_resizer.Resizer()
    return _OF_THREAD.resizer


def resize_plainly(pixels: np.ndarray, size: Size, box: Box) -> np.ndarray:
    """`resize` in NumPy, with the same arguments and result."""
    box = _snapped(box, pixels.shape[1], pixels.shape[0])
    rows = _pass(pixels, _weights(pixels.shape[0], box[1], box[3], size[1]))
    columns = _pass(rows.transpose(1, 0, 2), _weights(pixels.shape[1], box[0], box[2], size[0]))
    return np.ascontiguousarray(columns.transpose(1, 0, 2))


def _snapped(box: Box, width: int, height: int) -> Box:
    """The box clipped to the image, its edges exact in double precision, so that sums do not depend on their order."""
    left, top, right, bottom = (round(edge * 64) / 64 for edge in box)
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))


Weights = tuple[tuple[tuple[int, np.ndarray], ...], int]


@lru_cache(maxsize=64)
def _weights(length: int, start: float, end: float, made: int) -> Weights:
    """For every output pixel the first input pixel and the weights from there; and the bits of their fraction."""
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
    """Resize the first axis."""
    made, bits = np.empty((len(weights[0]), *pixels.shape[1:]), np.uint8), weights[1]
    for row, (first, numbers) in zip(made, weights[0], strict=True):
        total = np.full(row.shape, 1 << (bits - 1), np.int32)
        for number, read in zip(numbers, pixels[first : first + len(numbers)], strict=True):
            total += number * read.astype(np.int32)
        row[...] = np.clip(total >> bits, 0, 255)
    return made


# -- placement -----------------------------------------------------------------------


def placed(size: tuple[float, float], target: Size, fit: str) -> tuple[Size, Box]:
    """The size to resize to, and the part of the image that is resized: all, or the centre for `crop`."""
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
    """The largest size of the same aspect ratio inside `target`, at least one pixel per side."""
    scale = min(target[0] / size[0], target[1] / size[1])
    scale = scale if enlarge else min(scale, 1.0)
    return max(1, min(target[0], round(size[0] * scale))), max(1, min(target[1], round(size[1] * scale)))


# By version of the rules: a JPEG is decoded at no less than this multiple of the size it is then resized to;
# docs/decoding.md says how much the pixels differ from those resized from the whole image.
GAPS = {1: 2.0, 2: 1.5}


def decode(source: Path | bytes, contract: InputContract) -> np.ndarray:
    """Decode an image file or its bytes to uint8 (H, W, 3), RGB 0..255.

    Raises:
        UnreadableImage: for any problem with the file; nothing else is raised.
    """
    return _fitted(source, contract)


def native(source: Path | bytes) -> np.ndarray:
    """Decode to uint8 (h, w, 3), RGB 0..255, upright, at the image's own size.

    Raises:
        UnreadableImage: for any problem with the file.
    """
    return open_picture(source).pixels


def thumbnail(source: Path | bytes, side: int) -> Image.Image:
    """A thumbnail: RGB, upright, aspect ratio kept, neither side above `side` pixels; small images are not enlarged.

    Raises:
        UnreadableImage: for any problem with the file.
    """

    def needed(size: Size) -> Size:
        return _gapped(inside(size, (side, side)), GAPS[DECODE_VERSION])

    picture = open_picture(source, needed)
    if max(picture.size) <= side:
        return Image.fromarray(picture.pixels)
    return Image.fromarray(resize(picture.pixels, inside(picture.size, (side, side)), picture.box))


# -- resize ------------------------------------------------------------------------------------


def _fitted(source: Path | bytes, contract: InputContract) -> np.ndarray:
    """Decode to uint8 (H, W, 3) of the contract's size, by the rules of its version."""
    if contract.version == 1:
        return np.asarray(fitted_by_pillow(source, contract))
    target = (contract.width, contract.height)
    picture = open_picture(source, _needed(target, contract.fit, GAPS[contract.version]), contract.levels)
    inner, box = placed(picture.size, target, contract.fit)
    left, top = picture.box[:2]
    pixels = resize(picture.pixels, inner, (box[0] + left, box[1] + top, box[2] + left, box[3] + top))
    if inner == target:
        return pixels
    padded = np.zeros((contract.height, contract.width, 3), np.uint8)
    left, top = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
    padded[top : top + inner[1], left : left + inner[0]] = pixels
    return padded


def _needed(target: Size, fit: str, gap: float) -> Needed:
    """The function for the smallest size of the whole image at which the used part is decoded large enough."""

    def needed(size: Size) -> Size:
        inner, (left, top, right, bottom) = placed(size, target, fit)
        width, height = _gapped(inner, gap)
        return int(width * size[0] / (right - left)), int(height * size[1] / (bottom - top))

    return needed


def fitted_by_pillow(source: Path | bytes, contract: InputContract) -> Image.Image:
    """Decode by the rules of version 1, for models and stores made with them."""
    target = (contract.width, contract.height)
    image = open_upright(source, _needed(target, contract.fit, GAPS[contract.version]))
    inner, box = placed(image.size, target, contract.fit)
    image = image.resize(inner, Image.Resampling.BILINEAR, box=box, reducing_gap=GAPS[1])
    if inner == target:
        return image
    padded = Image.new("RGB", target)
    padded.paste(image, ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2))
    return padded


def placement(size: Size, contract: InputContract) -> tuple[Box, Box]:
    """The part of an image that the network sees, and its position in the input.

    Args:
        size: (width, height) of the upright image.
        contract: the input contract.

    Returns:
        Two boxes (left, top, right, bottom) in pixels: one in the image, one in the input.
    """
    target = (contract.width, contract.height)
    inner, box = placed(size, target, contract.fit)
    left, top = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
    return box, (left, top, left + inner[0], top + inner[1])


def _gapped(size: Size, gap: float) -> Size:
    return int(size[0] * gap), int(size[1] * gap)
