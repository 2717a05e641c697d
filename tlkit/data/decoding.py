"""One file to pixels: the one decode and the one resize, for training, evaluation and prediction alike.

docs/decoding.md states the contract. Exported programs carry this module and what it imports, so that theirs is the
same: it and they need Pillow, NumPy and simplejpeg, and nothing else of tlkit but errors and the contract.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.data.contract import DECODE_VERSION, InputContract
from tlkit.data.opening import open_picture, open_upright
from tlkit.data.picture import Box, Needed, Size
from tlkit.data.resize import inside, placed, resize

# By version of the rules: a JPEG is decoded smaller to no less than this many times the size it is then resized
# to; docs/decoding.md has how far the pixels are from those of a resize of the whole image.
GAPS = {1: 2.0, 2: 1.5}


def decode(source: Path | bytes, contract: InputContract) -> np.ndarray:
    """uint8 (H, W, 3), RGB 0..255, of an image file or its bytes.

    Raises:
        UnreadableImage: and nothing else, whatever is wrong with the file.
    """
    return _fitted(source, contract)


def native(source: Path | bytes) -> np.ndarray:
    """uint8 (h, w, 3), RGB 0..255 upright, at the image's own size.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """
    return open_picture(source).pixels


def thumbnail(source: Path | bytes, side: int) -> Image.Image:
    """RGB, upright, aspect kept, neither side above `side` pixels; small images stay as they are.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """

    def needed(size: Size) -> Size:
        return _gapped(inside(size, (side, side)), GAPS[DECODE_VERSION])

    picture = open_picture(source, needed)
    if max(picture.size) <= side:
        return Image.fromarray(picture.pixels)
    return Image.fromarray(resize(picture.pixels, inside(picture.size, (side, side)), picture.box))


# -- resize ------------------------------------------------------------------------------------


def _fitted(source: Path | bytes, contract: InputContract) -> np.ndarray:
    """uint8 (H, W, 3) of the contract's size, by the rules of its version."""
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
    """The size of a whole image below which the part that is used would be decoded too small."""

    def needed(size: Size) -> Size:
        inner, (left, top, right, bottom) = placed(size, target, fit)
        width, height = _gapped(inner, gap)
        return int(width * size[0] / (right - left)), int(height * size[1] / (bottom - top))

    return needed


def fitted_by_pillow(source: Path | bytes, contract: InputContract) -> Image.Image:
    """The rules of version 1, for models and stores that were made by them."""
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
    """Which part of an image the network sees, and where in its input that part lies.

    Args:
        size: (width, height) of the upright image.
        contract: how it becomes the input.

    Returns:
        Two boxes (left, top, right, bottom) in pixels: one of the image, one of the input.
    """
    target = (contract.width, contract.height)
    inner, box = placed(size, target, contract.fit)
    left, top = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
    return box, (left, top, left + inner[0], top + inner[1])


def _gapped(size: Size, gap: float) -> Size:
    return int(size[0] * gap), int(size[1] * gap)
