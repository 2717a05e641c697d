"""Crops of scikit-learn's two sample photographs (CC BY): `china.jpg` and `flower.jpg`, 427x640 pixels each.

Asano and Saeed (2023, "The Augmented Image Prior: Distilling 1000 Classes by Extrapolating from a Single Image") show
how far crops of a single photograph carry when a teacher names what it sees in them.
"""

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

SMALLEST, LARGEST = 40, 420
PLAIN = 0.1


def read_photographs() -> list[Image.Image]:
    """The two photographs, RGB."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def crop_photograph(rng: np.random.Generator, photographs: list[Image.Image], side: int) -> np.ndarray:
    """A square crop of random place, size, angle and aspect, sometimes recoloured: `(side, side, 3)` float32, 0..1.

    A crop of bare sky or shade is tried again, three times at most.
    """
    for _ in range(3):
        pixels = _crop_once(rng, photographs, side)
        if pixels.std() > PLAIN:
            break
    return pixels


def _crop_once(rng: np.random.Generator, photographs: list[Image.Image], side: int) -> np.ndarray:
    photograph = photographs[rng.integers(len(photographs))]
    # Small crops are many and different, large ones few and much alike: sizes are drawn evenly in their logarithm.
    width = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    height = np.clip(width * np.exp(rng.normal(0, 0.2)), SMALLEST, LARGEST)
    centre = rng.uniform((0.1, 0.1), (0.9, 0.9)) * photograph.size
    angle = rng.normal(0, 0.35) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    shear = rng.normal(0, 0.1)
    # Corners beyond the photograph show its mirror image rather than black.
    padded = _mirrored(photograph)
    offset = np.array(photograph.size) / 2
    matrix = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
    matrix = matrix * (width / side, height / side)
    start = centre + offset - matrix @ (side / 2, side / 2)
    coefficients = (*matrix[0], start[0], *matrix[1], start[1])
    crop = padded.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        crop = ImageOps.mirror(crop)
    pixels = np.asarray(crop, "float32") / 255
    if rng.random() < 0.3:
        pixels = pixels[..., rng.permutation(3)]
    return pixels


_PADDED: dict[int, Image.Image] = {}


def _mirrored(photograph: Image.Image) -> Image.Image:
    """The photograph with half of its reflection on every side; kept, for it is asked for often."""
    if id(photograph) not in _PADDED:
        pixels = np.asarray(photograph)
        height, width = pixels.shape[:2]
        margins = ((height // 2, height // 2), (width // 2, width // 2), (0, 0))
        _PADDED[id(photograph)] = Image.fromarray(np.pad(pixels, margins, mode="reflect"))
    return _PADDED[id(photograph)]
