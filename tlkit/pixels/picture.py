"""A decoded image: its pixels, the part of them that is the image, upright, and in RGB 0..255 whatever its colour mode."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from tlkit.base.errors import UnreadableImage

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


# -- every colour mode to RGB 0..255; one function a mode, the table at the end --------------------

_BITS_PER_SAMPLE = 258


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image as RGB, alpha over white; colour profiles are not applied.

    Raises:
        UnreadableImage: a mode that is not in the table.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    convert = _MODES.get(image.mode)
    if convert is None:
        raise UnreadableImage(f"has the colour mode {image.mode}, which is unknown here")
    return convert(image)


def _plain(image: Image.Image) -> Image.Image:
    """Modes that Pillow converts as one would: 1, L, P, RGB, RGBX, CMYK, YCbCr, HSV; see-through parts over white."""
    return _over_white(image) if image.has_transparency_data else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _premultiplied_grey(image: Image.Image) -> Image.Image:
    return _over_white(image.convert("LA"))


def _lab(image: Image.Image) -> Image.Image:
    """CIE L*a*b* through LittleCMS to sRGB."""
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise UnreadableImage("has Lab colours that cannot be converted")
    return converted


def _sixteen_bits(image: Image.Image) -> Image.Image:
    """Grey 0..65535 to 0..255, rounded; TIFF that says 12 bits a sample has 0..4095."""
    white = _declared_white(image)
    table = np.minimum((np.arange(65536) * 510 + white) // (2 * white), 255).astype(np.uint8)
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        table[see_through] = 255
    return Image.fromarray(table[np.asarray(image)]).convert("RGB")


def _declared_white(image: Image.Image) -> int:
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return 4095 if bits == (12,) else 65535


def _numbers(image: Image.Image) -> Image.Image:
    """32-bit integers and floats, whose white no file declares: the smallest usual range that holds all values.

    0..1 (floats only), 0..255, 0..65535, else from the least value to the greatest. Not-a-numbers
    and infinities count as the least.
    """
    values = np.asarray(image)
    low, high = _range(values)
    white = _usual_white(image, low, high)
    start, span = (0.0, white) if white else (low, high - low or 1.0)
    grey = np.empty(values.shape, dtype=np.uint8)
    for band in _bands(values):
        found = values[band].astype(np.float64)
        found[~np.isfinite(found)] = low
        grey[band] = np.floor((found - start) * 255.0 / span + 0.5)
    return Image.fromarray(grey).convert("RGB")


def _bands(values: np.ndarray) -> Iterator[slice]:
    """Rows of about a million pixels at a time: a large image must not be held eight bytes a pixel, many times."""
    rows = max(1, 1_000_000 // values.shape[1])
    return (slice(start, start + rows) for start in range(0, len(values), rows))


def _range(values: np.ndarray) -> tuple[float, float]:
    """Least and greatest finite value."""
    ranges = []
    for band in _bands(values):
        finite = values[band][np.isfinite(values[band])]
        if finite.size:
            ranges.append((float(finite.min()), float(finite.max())))
    if not ranges:
        raise UnreadableImage("holds no finite number")
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _usual_white(image: Image.Image, low: float, high: float) -> float | None:
    """The white of the smallest usual range that holds low..high, or None."""
    if low < 0:
        return None
    if image.mode == "I" and image.format == "PPM":
        return 65535.0  # Pillow has scaled it to 16 bits, whatever the file's maximum
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((white for white in whites if high <= white), None)


_MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **dict.fromkeys(("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBA", "RGBa"), _plain),
    "La": _premultiplied_grey,
    "LAB": _lab,
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), _sixteen_bits),
    "I": _numbers,
    "F": _numbers,
}


# -- samples as the file holds them -------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """Numbers of a file and what it says of them.

    Args:
        values: (h, w, n), of any real type.
        kind: `u`, `i` or `f`: unsigned, signed, floating-point.
        bits: of a sample; unsigned ones of up to 16 bits are white at their greatest number.
        no_data: a value that stands for nothing.
        maximum: what the file says is white, where it says so itself.
    """

    values: np.ndarray
    kind: str
    bits: int
    no_data: float | None = None
    maximum: int | None = None

    @property
    def declared(self) -> int | None:
        """The number that is white; None where the file does not say."""
        return self.maximum or (2**self.bits - 1 if self.kind == "u" and self.bits <= 16 else None)

    def as_bytes(self, levels: tuple[float, float] | None) -> np.ndarray:
        """uint8 (h, w, n): black is 0 and white 255; `levels` say which values those are, else the file does.

        Where it does not (floats, signed and 32-bit integers), it is the smallest usual range that holds all values,
        as of `_numbers`. What stands for nothing is black, and so is what is no number.
        """
        if levels is None and self.declared:
            return self.values if self.declared == 255 else _table(self.declared)[self.values]
        low, high = levels or self.range()
        white = next((white for white in self._whites() if low >= 0 and high <= white), None)
        start, end = (low, high) if levels or white is None else (0.0, white)
        made = np.empty(self.values.shape, np.uint8)
        for band in _bands(self.values):
            found = self.values[band].astype(np.float64)
            found[~self._counts(found)] = start
            span = end - start or 1.0
            made[band] = np.floor((np.clip(found, start, end) - start) * 255.0 / span + 0.5)
        return made

    def _whites(self) -> tuple[float, ...]:
        return (1.0, 255.0, 65535.0) if self.kind == "f" else (255.0, 65535.0)

    def _counts(self, found: np.ndarray) -> np.ndarray:
        """Which are numbers that stand for something."""
        counts = np.isfinite(found)
        if self.no_data is not None and np.isfinite(self.no_data):
            stands = np.float32(self.no_data) if self.bits == 32 and self.kind == "f" else self.no_data
            counts &= found != float(stands)
        return counts

    def range(self) -> tuple[float, float]:
        """Least and greatest.

        Raises:
            UnreadableImage: no number among them.
        """
        ranges = []
        for band in _bands(self.values):
            found = self.values[band].astype(np.float64)
            found = found[self._counts(found)]
            if found.size:
                ranges.append((float(found.min()), float(found.max())))
        if not ranges:
            raise UnreadableImage("holds no finite number")
        return min(low for low, _ in ranges), max(high for _, high in ranges)


def _table(white: int) -> np.ndarray:
    """uint8 for every number up to white: its part of 255, rounded."""
    return ((np.arange(white + 1) * 510 + white) // (2 * white)).astype(np.uint8)


def over_white(colours: np.ndarray, alpha: np.ndarray, *, multiplied: bool = False) -> np.ndarray:
    """uint8 (h, w, 3) seen through uint8 (h, w, 1) on white; `multiplied` colours are so by alpha already."""
    share = alpha.astype(np.uint32)
    if multiplied:
        return np.minimum(colours + (255 - share), 255).astype(np.uint8)
    mixed = colours * share + 255 * (255 - share) + 128
    return ((mixed + (mixed >> 8)) >> 8).astype(np.uint8)


def cmyk_to_rgb(ink: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 4) to (h, w, 3), each colour less its ink and less black, as Pillow has it."""
    return np.asarray(Image.fromarray(ink, "CMYK").convert("RGB"))


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) of L* and signed a*, b*, as TIFF holds them."""
    return np.asarray(_lab(Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), lab.tobytes())))
