"""The positions of a grid on an image; a heat map over its photograph, beside the photograph, with a caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tlkit.data.dataset import InputContract
from tlkit.data.decode import placement


@dataclass(frozen=True)
class Axis:
    """Cells along one side of an image.

    Args:
        side: of the image, in pixels.
        count: number of equal cells along it.
    """

    side: int
    count: int

    @property
    def centres(self) -> np.ndarray:
        """float64 (count,), in pixels; 0 is the edge of the image, 0.5 the centre of its first pixel."""
        return (np.arange(self.count) + 0.5) * self.side / self.count

    def weights(self, positions: np.ndarray) -> np.ndarray:
        """The weight of each cell at each position: quadratic B-splines, smooth and never below 0.

        Linear interpolation draws stars and boxes that are not in the map. Beyond the image its
        outermost cells are extended.

        Args:
            positions: float (n,), in pixels.

        Returns:
            float32 (n, count); rows sum to 1.
        """
        cells = np.clip(positions * self.count / self.side - 0.5, 0, self.count - 1)
        away = np.abs(cells[:, None] - np.arange(-1, self.count + 1))
        spline = np.where(away < 0.5, 0.75 - away**2, 0.5 * np.maximum(0, 1.5 - away) ** 2)
        spline[:, 1] += spline[:, 0]
        spline[:, -2] += spline[:, -1]
        return spline[:, 1:-1].astype(np.float32)


@dataclass(frozen=True)
class Lattice:
    """Cells of a map (h, w) in an image."""

    rows: Axis
    columns: Axis

    def sample(self, maps: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Maps (..., h, w) at the pixel positions `y` (n,) and `x` (m,): float32 (..., n, m)."""
        return self.rows.weights(y) @ maps @ self.columns.weights(x).T


def tiles(size: tuple[int, int], shape: tuple[int, int]) -> Lattice:
    """An image of `size` (height, width) cut into `shape` (h, w) equal tiles."""
    return Lattice(*map(Axis, size, shape))


def pixel_centres(count: int) -> np.ndarray:
    """Positions of `count` pixels in a row: 0.5, 1.5, ..."""
    return np.arange(count) + 0.5


def hot(values: np.ndarray) -> np.ndarray:
    """Maps (..., h, w) clipped at 0 and scaled to a maximum of 1; a map with nothing above 0 is 0."""
    positive = np.maximum(values, 0)
    strongest = positive.max(axis=(-2, -1), keepdims=True)
    return positive / np.where(strongest > 0, strongest, 1)


COLOURS = "inferno"  # of matplotlib: perceptually uniform, also for colour-blind readers and in grey
STRONGEST = 0.75  # opacity of the hottest place, where the photograph must stay visible
GREY = 0.65  # desaturation of the photograph under the heat, whose colours could be taken for heat
LEAST, MOST = 280, 560  # pixels of a panel's long side
GAP, MARGIN = 8, 10
CAPTION, WORDS, LINE = 15, 12, 22  # font sizes, and the height of a line of the caption
INK, PAPER = (32, 32, 32), (255, 255, 255)


def heat_on(size: tuple[int, int], heat: np.ndarray, lattice: Lattice, contract: InputContract) -> np.ndarray:
    """A map on the network's input, transferred to the upright photograph, of which the input is all or a part.

    Args:
        size: (width, height) of the photograph, at any scale.
        heat: float (h, w), 0..1.
        lattice: where its cells lie in the network's input.
        contract: how the photograph became that input.

    Returns:
        float32 (height, width), 0..1, the hottest place 1; 0 outside the input (beyond a `crop`).
    """
    (left, top, right, bottom), (x0, y0, x1, y1) = placement(size, contract)
    x, y = pixel_centres(size[0]), pixel_centres(size[1])
    inside_x = x0 + (x - left) / (right - left) * (x1 - x0)
    inside_y = y0 + (y - top) / (bottom - top) * (y1 - y0)
    return hot(np.where(_seen(size, contract), lattice.sample(heat, inside_y, inside_x), 0).astype(np.float32))


def shaded(photograph: Image.Image, contract: InputContract) -> Image.Image:
    """The photograph, darkened where there is no evidence."""
    pixels, seen = np.asarray(photograph), _seen(photograph.size, contract)[..., None]
    return Image.fromarray(np.where(seen, pixels, pixels // 3))


def _seen(size: tuple[int, int], contract: InputContract) -> np.ndarray:
    """Bool (height, width): the pixels that are part of the input."""
    (left, top, right, bottom), _ = placement(size, contract)
    x, y = pixel_centres(size[0]), pixel_centres(size[1])
    return ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None]


def overlay(photograph: Image.Image, heat: np.ndarray) -> Image.Image:
    """The photograph in muted colours, overlaid with the heat, which is more opaque where it is hotter.

    Args:
        photograph: RGB.
        heat: float (height, width) of the photograph, 0..1.
    """
    pixels = np.asarray(photograph, np.float32)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    muted = pixels + GREY * (grey[..., None] - pixels)
    opacity = STRONGEST * heat[..., None]
    mixed = (1 - opacity) * muted + opacity * _palette()[(heat * 255).round().astype(int)]
    return Image.fromarray(mixed.round().astype(np.uint8))


def panel(image: Image.Image) -> Image.Image:
    """The image with its long side within `LEAST` and `MOST` pixels."""
    scale = min(max(max(image.size), LEAST), MOST) / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    return image.resize(size, Image.Resampling.BICUBIC) if scale != 1 else image


def sheet(rows: Sequence[Sequence[tuple[Image.Image, str]]], captions: Sequence[str]) -> Image.Image:
    """Rows of images, each with words under it, and captions over all of them.

    Args:
        rows: of images with their words.
        captions: each shown in full, on as many lines as necessary.
    """
    across = 2 * MARGIN + max(sum(image.width + GAP for image, _ in row) - GAP for row in rows)
    lines = [line for words in captions for line in _wrapped(words, _font(CAPTION), across - 2 * MARGIN)]
    named = [[_named(image, words) for image, words in row] for row in rows]
    heights = [max(image.height for image in row) + GAP for row in named]
    page = Image.new("RGB", (across, 2 * MARGIN + LINE * len(lines) + sum(heights)), PAPER)
    pen, y = ImageDraw.Draw(page), MARGIN
    for line in lines:
        pen.text((MARGIN, y), line, fill=INK, font=_font(CAPTION))
        y += LINE
    for row, height in zip(named, heights, strict=True):
        x = MARGIN
        for image in row:
            page.paste(image, (x, y))
            x += image.width + GAP
        y += height
    return page


def _named(image: Image.Image, words: str) -> Image.Image:
    """An image with words under it, on as many lines as fit its width."""
    lines = _wrapped(words, _font(WORDS), image.width)
    page = Image.new("RGB", (image.width, image.height + 4 + (WORDS + 4) * len(lines)), PAPER)
    page.paste(image, (0, 0))
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((0, image.height + 3 + (WORDS + 4) * number), line, fill=INK, font=_font(WORDS))
    return page


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text on lines no wider than `width` pixels, broken between words or, where a word is wider, within it."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)  # file names may hold anything
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while font.getlength(lines[-1]) > width and len(lines[-1]) > 1:
            fits = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or font.getlength(lines[-1][:n]) <= width)
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines


@cache
def _palette() -> np.ndarray:
    """float32 (256, 3), 0..255."""
    import matplotlib

    return (matplotlib.colormaps[COLOURS](np.arange(256))[:, :3] * 255).astype(np.float32)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Arabic and more."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
