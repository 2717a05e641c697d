"""Views of an image to be judged: itself, its mirror image, light crops. Fixed, so that an answer does not depend on chance."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tlkit.data.augment import CENTRE, Augmentation

SIDE = 7 / 8  # of the image that a crop shows, as 224 pixels of 256
_SPARE = 1 - SIDE
# Left and top corner of the crops as parts of the image: the centre, then the corners.
CORNERS = ((_SPARE / 2, _SPARE / 2), (0.0, 0.0), (_SPARE, _SPARE), (_SPARE, 0.0), (0.0, _SPARE))


@dataclass(frozen=True, kw_only=True)
class TtaViews(Augmentation):
    """The family of views of test-time augmentation.

    View 0 is the image, the others are crops of 7/8 of its sides in the centre and the corners (Krizhevsky et al. 2012),
    each followed by its mirror image where mirrored images are alike (`flip`): image, mirror image, centre, ...
    """

    @property
    def count(self) -> int:
        """How many views there are."""
        return (1 + len(CORNERS)) * (1 + self.flip)

    def describe(self, number: int) -> dict[str, Any]:
        """What identifies view `number`; equal descriptions give equal pixels."""
        if number == CENTRE:
            return {"view": CENTRE}
        corner, mirrored = self._place(number)
        return {"view": "tta", "corner": corner, "side": SIDE if corner else 1.0, "mirrored": mirrored}

    def view(
        self, images: np.ndarray, sha256: np.ndarray | None, number: int, pool: ThreadPoolExecutor | None = None
    ) -> np.ndarray:
        """View `number` of each image; uint8 (b, H, W, 3) as they are. Their content plays no part."""
        corner, mirrored = self._place(number)
        if corner is not None:
            made = (pool.map if pool else map)(lambda image: _crop(image, *corner), images)
            images = np.stack(list(made))
        return np.ascontiguousarray(images[:, :, ::-1]) if mirrored else images

    def _place(self, number: int) -> tuple[tuple[float, float] | None, bool]:
        """Where view `number` is cropped, None for the whole image, and whether it is mirrored."""
        crop, mirrored = divmod(number, 2) if self.flip else (number, 0)
        return (CORNERS[crop - 1] if crop else None), bool(mirrored)


def _crop(image: np.ndarray, left: float, top: float) -> np.ndarray:
    """Part of the image, resized to the whole."""
    height, width = image.shape[:2]
    box = (left * width, top * height, (left + SIDE) * width, (top + SIDE) * height)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))
