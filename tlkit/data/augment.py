"""Views: other photographs of the same thing, made from decoded pixels.

A view is a function of (image, number, seed) alone: number 0 is the image itself, every other
number a random crop with random flip, from `medium` up in other colours, and `strong` with RandAugment and a part
erased. So a view can be stored and found again, and "fresh every epoch" is simply a new number every epoch.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tlkit.core.cores import usable_cores
from tlkit.data.randaugment import randaugment

CENTRE = 0


class Strength(NamedTuple):
    """How far a view may go.

    Args:
        smallest: least fraction of the area that a crop keeps (Szegedy et al. 2015).
        aspect: a crop's aspect ratio changes by at most this factor.
        colour: brightness, contrast and saturation each change by at most this fraction.
        erase: probability of erasing a random rectangle (Zhong et al. 2020).
        operations: of RandAugment (Cubuk et al. 2020), how many.
        magnitude: of each of them, 0..1.
    """

    smallest: float
    aspect: float
    colour: float
    erase: float
    operations: int = 0
    magnitude: float = 0.0

    def describe(self) -> dict[str, Any]:
        """What tells it apart; what came later is named only where it is used, so that stored views stay known."""
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
        seed: of the family.
    """

    strength: str = "light"
    flip: bool = True
    seed: int = 0

    def describe(self, number: int) -> dict[str, Any]:
        """What identifies view `number`; equal descriptions give equal pixels."""
        if number == CENTRE or self.strength == "none":
            return {"view": CENTRE}
        return {"view": number, **asdict(self), **STRENGTHS[self.strength].describe()}

    def view(
        self, images: np.ndarray, sha256: np.ndarray, number: int, pool: ThreadPoolExecutor | None = None
    ) -> np.ndarray:
        """View `number` of each image.

        Args:
            images: uint8 (b, H, W, 3).
            sha256: uint8 (b, 32) of the files they come from.
            number: which view; 0 gives the images back.
            pool: threads to work in.

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
    """A pool for `Augmentation.view`; Pillow resizes outside the interpreter lock."""
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="augment")


def _crop(image: np.ndarray, strength: Strength, random: np.random.Generator) -> np.ndarray:
    """A random part of the image, resized to the whole."""
    height, width = image.shape[:2]
    area = random.uniform(strength.smallest, 1.0)
    aspect = np.exp(random.uniform(-np.log(strength.aspect), np.log(strength.aspect)))
    crop_width = min(1.0, np.sqrt(area * aspect)) * width
    crop_height = min(1.0, np.sqrt(area / aspect)) * height
    left, top = random.uniform(0, width - crop_width), random.uniform(0, height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))


def _recolour(image: np.ndarray, most: float, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation, each by a random factor in 1 ± most."""
    brightness, contrast, saturation = random.uniform(1 - most, 1 + most, 3)
    pixels = image.astype(np.float32) * brightness
    mean = pixels.mean()
    pixels = (pixels - mean) * contrast + mean
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    pixels = grey[..., None] + (pixels - grey[..., None]) * saturation
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _erase(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random rectangle of 2 to 20 % of the area, filled with the image's mean colour."""
    height, width = image.shape[:2]
    area, aspect = random.uniform(0.02, 0.2), np.exp(random.uniform(-1.0, 1.0))
    rows = max(1, min(height, int(height * np.sqrt(area / aspect))))
    columns = max(1, min(width, int(width * np.sqrt(area * aspect))))
    top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
    erased = image.copy()
    erased[top : top + rows, left : left + columns] = image.mean(axis=(0, 1)).astype(np.uint8)
    return erased
