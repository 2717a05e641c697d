"""RandAugment (Cubuk et al. 2020): operations drawn at random from one table, all of one magnitude.

Keras has a layer of that name. Its random numbers are a state of the layer, so that a view could be neither stored nor
found again, and it works on batches inside the training step, where the pixels of a stored view no longer are.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

# The paper's table, in its order, at full magnitude: degrees, shares of the side, factors, bits, the threshold.
DEGREES, SHEAR, SHIFT, FACTOR, BITS = 30.0, 0.3, 0.3, 0.9, 4.0

Colour = tuple[int, ...]
# (image, magnitude -1..1, colour of what comes in from outside) -> image
Operation = Callable[[Image.Image, float, Colour], Image.Image]


def _affine(coefficients: Callable[[float, tuple[int, int]], tuple[float, ...]]) -> Operation:
    def moved(image: Image.Image, magnitude: float, fill: Colour) -> Image.Image:
        data = coefficients(magnitude, image.size)
        return image.transform(
            image.size, Image.Transform.AFFINE, data, resample=Image.Resampling.BILINEAR, fillcolor=fill
        )

    return moved


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, magnitude, fill: kind(image).enhance(1 + FACTOR * magnitude)


def _rotated(image: Image.Image, magnitude: float, fill: Colour) -> Image.Image:
    return image.rotate(DEGREES * magnitude, resample=Image.Resampling.BILINEAR, fillcolor=fill)


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, magnitude, fill: image,
    "autocontrast": lambda image, magnitude, fill: ImageOps.autocontrast(image),
    "equalize": lambda image, magnitude, fill: ImageOps.equalize(image),
    "rotate": _rotated,
    "solarize": lambda image, magnitude, fill: ImageOps.solarize(image, round(256 * (1 - abs(magnitude)))),
    "colour": _enhanced(ImageEnhance.Color),
    "posterize": lambda image, magnitude, fill: ImageOps.posterize(image, round(8 - BITS * abs(magnitude))),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear-x": _affine(lambda m, size: (1, SHEAR * m, -SHEAR * m * size[1] / 2, 0, 1, 0)),
    "shear-y": _affine(lambda m, size: (1, 0, 0, SHEAR * m, 1, -SHEAR * m * size[0] / 2)),
    "translate-x": _affine(lambda m, size: (1, 0, SHIFT * m * size[0], 0, 1, 0)),
    "translate-y": _affine(lambda m, size: (1, 0, 0, 0, 1, SHIFT * m * size[1])),
}


def randaugment(image: np.ndarray, operations: int, magnitude: float, random: np.random.Generator) -> np.ndarray:
    """Some operations, one after the other.

    Args:
        image: uint8 (H, W, 3).
        operations: how many; the paper's N.
        magnitude: 0..1 of the full one; the paper's M, over 30. Its sign is drawn for each operation.
        random: what draws.

    Returns:
        uint8 (H, W, 3).
    """
    fill = tuple(int(value) for value in image.mean(axis=(0, 1)))
    picture = Image.fromarray(image)
    names = list(OPERATIONS)
    for number in random.integers(len(names), size=operations):
        sign = 1 if random.random() < 0.5 else -1
        picture = OPERATIONS[names[number]](picture, sign * magnitude, fill)
    return np.asarray(picture)
