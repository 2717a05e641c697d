"""A decoded image: its pixels, and the part of them that is the image."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]  # width, height
Box = tuple[float, float, float, float]  # left, top, right, bottom

# (size) -> the size below which decoding smaller would cost quality
Needed = Callable[[Size], Size]


@dataclass(frozen=True)
class Picture:
    """An image in memory.

    Args:
        pixels: uint8 (h, w, 3), RGB 0..255.
        box: the part that is the image, in pixels: a JPEG of 1793 pixels decoded at an eighth fills 224.125 of 225.
    """

    pixels: np.ndarray
    box: Box

    @classmethod
    def whole(cls, pixels: np.ndarray) -> "Picture":
        """All of the pixels are the image."""
        return cls(pixels, (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])))

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the image in pixels."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def upright(self, orientation: int) -> "Picture":
        """Turned as EXIF orientation 1..8 asks; any other number leaves it as it is."""
        if orientation not in _TURNS:
            return self
        mirrored, flipped, transposed = _TURNS[orientation]
        pixels, (left, top, right, bottom) = self.pixels, self.box
        height, width = pixels.shape[:2]
        if mirrored:
            pixels, left, right = pixels[:, ::-1], width - right, width - left
        if flipped:
            pixels, top, bottom = pixels[::-1], height - bottom, height - top
        if transposed:
            pixels, left, top, right, bottom = pixels.transpose(1, 0, 2), top, left, bottom, right
        return Picture(np.ascontiguousarray(pixels), (left, top, right, bottom))


# orientation -> whether columns are mirrored, rows are flipped, and then both exchanged
_TURNS = {
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}
