"""Occlusion (Zeiler & Fergus 2014): cover a patch, see how far the score falls, move on.

It knows nothing of gradients, grids or heads, so where it agrees with a gradient map, two
independent witnesses do. It costs `PATCHES` x `PATCHES` forward passes an image, and one for the whole.
"""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tlkit.explanation.lattice import Axis, Lattice, tiles

PATCHES = 8  # centres of patches along each side; a patch is two steps wide, so each pixel is covered four times
BATCH = 13  # images to a forward pass: five of one shape make 8 x 8 patches and the image itself
BLUR = 5  # an image is covered with itself, made of this many blobs a side: no new edges or colours


def occlusion_lattice(size: tuple[int, int]) -> Lattice:
    """Where the cells of an occlusion map lie in an image of `size` (height, width)."""
    return tiles(size, (PATCHES, PATCHES))


def occlusion(score: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """How much more the score falls when the image is covered around a centre than around the others.

    Args:
        score: images uint8 (B, H, W, 3) -> (B,).
        image: uint8 (H, W, 3), RGB.

    Returns:
        float32 (PATCHES, PATCHES), in units of the score: the fall at each centre, less the median over centres, which
        is what covering any place costs.
    """
    images = [image, *_covered(image)]
    whole, *covered = np.concatenate([score(np.stack(images[i : i + BATCH])) for i in range(0, len(images), BATCH)])
    falls = whole - np.array(covered)
    return (falls - np.median(falls)).astype(np.float32).reshape(PATCHES, PATCHES)


def _covered(image: np.ndarray) -> Iterator[np.ndarray]:
    """The image under each patch, in reading order."""
    height, width, _ = image.shape
    blobs = Image.fromarray(image).resize((BLUR, BLUR), Image.Resampling.BOX)
    blurred = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC))
    for rows in _patches(height):
        for columns in _patches(width):
            covered = image.copy()
            covered[rows, columns] = blurred[rows, columns]
            yield covered


def _patches(side: int) -> list[slice]:
    """Patches along a side, cut off at its ends."""
    centres, step = Axis(side, PATCHES).centres, side / PATCHES
    edges = np.stack([centres - step, centres + step]).round().astype(int).clip(0, side)
    return [slice(first, last) for first, last in edges.T.tolist()]
