"""A decoded image: its pixels, the part of them that is the image, orientation, and conversion to RGB."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from tlkit.base.errors import UnreadableImage

Size = tuple[int, int]  # width, height
Box = tuple[float, float, float, float]  # left, top, right, bottom

# (size) -> the smallest size to decode to without loss of quality
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
        """A picture of which all pixels are the image."""
        return cls(pixels, (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])))

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the image in pixels."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def upright(self, orientation: int) -> "Picture":
        """Apply EXIF orientation 1..8; any other number leaves it unchanged."""
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


# orientation -> whether columns are mirrored, rows are flipped, and then both are exchanged
_TURNS = {
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}


# -- every colour mode to RGB 0..255: one function per mode, the table at the end --------------------

_BITS_PER_SAMPLE = 258


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image as RGB, alpha over white; colour profiles are not applied.

    Raises:
        UnreadableImage: for a mode that is not in the table.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    convert = _MODES.get(image.mode)
    if convert is None:
        raise UnreadableImage(f"has the unknown colour mode {image.mode}")
    return convert(image)


def _plain(image: Image.Image) -> Image.Image:
    """Modes that Pillow converts correctly: 1, L, P, RGB, RGBX, CMYK, YCbCr, HSV; transparency over white."""
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
    """Grey 0..65535 to 0..255, rounded; TIFF that declares 12 bits per sample has 0..4095."""
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
    """32-bit integers and floats, which declare no white: scaled from the smallest usual range that holds all values.

    The ranges are 0..1 (floats only), 0..255, 0..65535, else from the smallest to the largest value. NaN
    and infinities count as the smallest.
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
    """Bands of about a million pixels, so that a large image is not held several times at eight bytes per pixel."""
    rows = max(1, 1_000_000 // values.shape[1])
    return (slice(start, start + rows) for start in range(0, len(values), rows))


def _range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest finite value."""
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
        return 65535.0  # Pillow has scaled it to 16 bits, regardless of the file's maximum
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
    """The raw samples of a file and their declared meaning.

    Args:
        values: (h, w, n), of any real type.
        kind: `u`, `i` or `f`: unsigned, signed, floating-point.
        bits: per sample; unsigned samples of up to 16 bits are white at their maximum.
        no_data: a value that means missing data.
        maximum: the white value, if the file states it.
    """

    values: np.ndarray
    kind: str
    bits: int
    no_data: float | None = None
    maximum: int | None = None

    @property
    def declared(self) -> int | None:
        """The white value; None if the file does not declare it."""
        return self.maximum or (2**self.bits - 1 if self.kind == "u" and self.bits <= 16 else None)

    def as_bytes(self, levels: tuple[float, float] | None) -> np.ndarray:
        """Scale to uint8 (h, w, n) with black 0 and white 255, by `levels` or else as the file declares.

        Without a declaration (floats, signed and 32-bit integers), the smallest usual range that holds all values is
        used, as in `_numbers`. Missing data and NaN are black.
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
        """Which values are numbers and not missing data."""
        counts = np.isfinite(found)
        if self.no_data is not None and np.isfinite(self.no_data):
            stands = np.float32(self.no_data) if self.bits == 32 and self.kind == "f" else self.no_data
            counts &= found != float(stands)
        return counts

    def range(self) -> tuple[float, float]:
        """Smallest and largest value.

        Raises:
            UnreadableImage: if there is no number among them.
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
    """uint8 for every number up to white: scaled to 255, rounded."""
    return ((np.arange(white + 1) * 510 + white) // (2 * white)).astype(np.uint8)


def over_white(colours: np.ndarray, alpha: np.ndarray, *, multiplied: bool = False) -> np.ndarray:
    """Compose colours uint8 (h, w, 3) with alpha uint8 (h, w, 1) over white; `multiplied`: alpha is premultiplied."""
    share = alpha.astype(np.uint32)
    if multiplied:
        return np.minimum(colours + (255 - share), 255).astype(np.uint8)
    mixed = colours * share + 255 * (255 - share) + 128
    return ((mixed + (mixed >> 8)) >> 8).astype(np.uint8)


def cmyk_to_rgb(ink: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 4) to (h, w, 3), each colour reduced by its ink and by black, as in Pillow."""
    return np.asarray(Image.fromarray(ink, "CMYK").convert("RGB"))


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """Convert uint8 (h, w, 3) of L* and signed a*, b*, as stored in TIFF, to RGB."""
    return np.asarray(_lab(Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), lab.tobytes())))
