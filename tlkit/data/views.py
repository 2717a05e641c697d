"""Views: augmented versions of an image, made from its decoded pixels.

A view depends only on (image, number, seed): number 0 is the image itself, every other
number a random crop with random flip, from `medium` up with changed colours, and for `strong` with RandAugment and
random erasing. So a view can be stored and found again, and "fresh every epoch" simply means a new number every epoch.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tlkit.base.machine import usable_cores

CENTRE = 0


class Strength(NamedTuple):
    """The strength of augmentation.

    Args:
        smallest: minimum fraction of the area that a crop keeps (Szegedy et al. 2015).
        aspect: a crop's aspect ratio changes by at most this factor.
        colour: brightness, contrast and saturation each change by at most this fraction.
        erase: probability of erasing a random rectangle (Zhong et al. 2020).
        operations: number of RandAugment operations (Cubuk et al. 2020).
        magnitude: magnitude of each of them, 0..1.
    """

    smallest: float
    aspect: float
    colour: float
    erase: float
    operations: int = 0
    magnitude: float = 0.0

    def describe(self) -> dict[str, Any]:
        """The identifying description; later parameters appear only if used, so that stored views remain valid."""
        values = self._asdict()
        return values if self.operations else {name: values[name] for name in self._fields[:4]}


STRENGTHS = {
    "light": Strength(smallest=0.5, aspect=4 / 3, colour=0.0, erase=0.0),
    "medium": Strength(smallest=0.35, aspect=4 / 3, colour=0.2, erase=0.0),
    # The paper's N = 2 and M = 9 of 30, which it found best for ResNet-50 on ImageNet.
    "strong": Strength(smallest=0.25, aspect=4 / 3, colour=0.2, erase=0.25, operations=2, magnitude=0.3),
}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A family of views.

    Args:
        strength: `none`, `light`, `medium` or `strong`.
        flip: whether views may be mirrored left to right.
        seed: seed of the family.
    """

    strength: str = "light"
    flip: bool = True
    seed: int = 0

    def describe(self, number: int) -> dict[str, Any]:
        """The description of view `number`; equal descriptions give equal pixels."""
        if number == CENTRE or self.strength == "none":
            return {"view": CENTRE}
        return {"view": number, **asdict(self), **STRENGTHS[self.strength].describe()}

    def view(
        self, images: np.ndarray, sha256: np.ndarray, number: int, pool: ThreadPoolExecutor | None = None
    ) -> np.ndarray:
        """View `number` of each image.

        Args:
            images: uint8 (b, H, W, 3).
            sha256: uint8 (b, 32) of their files.
            number: which view; 0 returns the images.
            pool: thread pool.

        Returns:
            uint8 (b, H, W, 3).
        """
        if number == CENTRE or self.strength == "none":
            return images
        keys = sha256[:, :8].copy().view("<u8").ravel()
        jobs = ((image, int(key), number) for image, key in zip(images, keys, strict=True))
        made = pool.map(self._one, jobs) if pool else map(self._one, jobs)
        return np.stack(list(made))

    def _one(self, job: tuple[np.ndarray, int, int]) -> np.ndarray:
        image, key, number = job
        random = np.random.default_rng((self.seed, key, number))
        strength = STRENGTHS[self.strength]
        cropped = _crop(image, strength, random)
        if self.flip and random.random() < 0.5:
            cropped = cropped[:, ::-1]
        if strength.colour:
            cropped = _recolour(cropped, strength.colour, random)
        if strength.operations:
            cropped = randaugment(cropped, strength.operations, strength.magnitude, random)
        if random.random() < strength.erase:
            cropped = _erase(cropped, random)
        return cropped


def threads() -> ThreadPoolExecutor:
    """A pool for `Augmentation.view`; Pillow resizes without the interpreter lock."""
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="augment")


def _crop(image: np.ndarray, strength: Strength, random: np.random.Generator) -> np.ndarray:
    """A random crop, resized to the image's size."""
    height, width = image.shape[:2]
    area = random.uniform(strength.smallest, 1.0)
    aspect = np.exp(random.uniform(-np.log(strength.aspect), np.log(strength.aspect)))
    crop_width = min(1.0, np.sqrt(area * aspect)) * width
    crop_height = min(1.0, np.sqrt(area / aspect)) * height
    left, top = random.uniform(0, width - crop_width), random.uniform(0, height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))


def _recolour(image: np.ndarray, most: float, random: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and saturation, each by a random factor in 1 ± most."""
    brightness, contrast, saturation = random.uniform(1 - most, 1 + most, 3)
    pixels = image.astype(np.float32) * brightness
    mean = pixels.mean()
    pixels = (pixels - mean) * contrast + mean
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    pixels = grey[..., None] + (pixels - grey[..., None]) * saturation
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _erase(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Fill a random rectangle of 2 to 20 % of the area with the image's mean colour."""
    height, width = image.shape[:2]
    area, aspect = random.uniform(0.02, 0.2), np.exp(random.uniform(-1.0, 1.0))
    rows = max(1, min(height, int(height * np.sqrt(area / aspect))))
    columns = max(1, min(width, int(width * np.sqrt(area * aspect))))
    top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
    erased = image.copy()
    erased[top : top + rows, left : left + columns] = image.mean(axis=(0, 1)).astype(np.uint8)
    return erased


# -- RandAugment (Cubuk et al. 2020): random operations from one table, all of the same magnitude ---
#
# Keras has a layer of that name. Its random numbers are state of the layer, so that a view could not be stored and
# found again, and it works on batches inside the training step, where the pixels of a stored view are no longer
# available.

# The paper's table, in its order, at full magnitude: degrees, fractions of the side, factors, bits, the threshold.
DEGREES, SHEAR, SHIFT, FACTOR, BITS = 30.0, 0.3, 0.3, 0.9, 4.0

Colour = tuple[int, ...]
# (image, magnitude -1..1, fill colour) -> image
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
    """Apply random operations in sequence.

    Args:
        image: uint8 (H, W, 3).
        operations: number of operations; the paper's N.
        magnitude: fraction 0..1 of full magnitude; the paper's M, over 30. Its sign is drawn for each operation.
        random: random generator.

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


# -- Test-time augmentation: the image, its mirror image, light crops. Fixed, so that predictions are deterministic ---

SIDE = 7 / 8  # of the image's side in a crop, as 224 of 256 pixels
_SPARE = 1 - SIDE
# Left and top edge of the crops as fractions of the image: the centre, then the corners.
CORNERS = ((_SPARE / 2, _SPARE / 2), (0.0, 0.0), (_SPARE, _SPARE), (_SPARE, 0.0), (0.0, _SPARE))


@dataclass(frozen=True, kw_only=True)
class TtaViews(Augmentation):
    """The family of views of test-time augmentation.

    View 0 is the image, the others are crops of 7/8 of its sides in the centre and the corners (Krizhevsky et al. 2012),
    each followed by its mirror image if flips are allowed (`flip`): image, mirror image, centre, ...
    """

    @property
    def count(self) -> int:
        """The number of views."""
        return (1 + len(CORNERS)) * (1 + self.flip)

    def describe(self, number: int) -> dict[str, Any]:
        """The description of view `number`; equal descriptions give equal pixels."""
        if number == CENTRE:
            return {"view": CENTRE}
        corner, mirrored = self._place(number)
        return {"view": "tta", "corner": corner, "side": SIDE if corner else 1.0, "mirrored": mirrored}

    def view(
        self, images: np.ndarray, sha256: np.ndarray | None, number: int, pool: ThreadPoolExecutor | None = None
    ) -> np.ndarray:
        """View `number` of each image, uint8 (b, H, W, 3); independent of `sha256`."""
        corner, mirrored = self._place(number)
        if corner is not None:
            made = (pool.map if pool else map)(lambda image: _light_crop(image, *corner), images)
            images = np.stack(list(made))
        return np.ascontiguousarray(images[:, :, ::-1]) if mirrored else images

    def _place(self, number: int) -> tuple[tuple[float, float] | None, bool]:
        """The crop of view `number`, None for the whole image, and whether it is mirrored."""
        crop, mirrored = divmod(number, 2) if self.flip else (number, 0)
        return (CORNERS[crop - 1] if crop else None), bool(mirrored)


def _light_crop(image: np.ndarray, left: float, top: float) -> np.ndarray:
    """A crop, resized to the image's size."""
    height, width = image.shape[:2]
    box = (left * width, top * height, (left + SIDE) * width, (top + SIDE) * height)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))
