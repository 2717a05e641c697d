"""Occlusion (Zeiler & Fergus 2014): cover a patch, see how far the score falls, move on.

It knows nothing of gradients, grids or heads, so where it agrees with a gradient map, two
independent witnesses do. It costs `PATCHES` x `PATCHES` forward passes an image, and one for the whole.

Patches are blurred pieces of the image with soft edges. Hard edges are things to see in themselves, and
heads that look at places one by one react to them more than to what they hide (benchmarks/RESULTS.md).
"""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tlkit.explanation.lattice import Axis, Lattice, pixel_centres, tiles

PATCHES = 8  # centres of patches along each side
WHOLE, EDGE = 0.7, 2.0  # a patch covers all up to 0.7 steps from its centre, then less and less, nothing from 2 on
BATCH = 13  # images to a forward pass: five of one shape make 8 x 8 patches and the image itself
BLUR = 5  # an image is covered with itself, blurred to this many blobs a side: no colours that were not there


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
    change = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC), np.float32) - image
    columns = _patches(width)
    for row in _patches(height):
        for column in columns:
            yield (image + np.outer(row, column)[..., None] * change).round().astype(np.uint8)


def _patches(side: int) -> np.ndarray:
    """float32 (PATCHES, side): how far each patch covers each pixel of a side, 0..1."""
    axis = Axis(side, PATCHES)
    steps = np.abs(pixel_centres(side) - axis.centres[:, None]) * PATCHES / side
    return np.clip((EDGE - steps) / (EDGE - WHOLE), 0, 1).astype(np.float32)
