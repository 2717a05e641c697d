"""What Pillow opens and reads otherwise than the file declares: deep PNG and PNM, see-through greys, BMP, JPEG 2000."""

import io
import re
from collections.abc import Callable

import numpy as np
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.data.colour import Samples, over_white, to_rgb

Levels = tuple[float, float] | None


def as_declared(image: Image.Image, content: bytes, levels: Levels) -> Image.Image:
    """An opened image as RGB with the numbers that its file declares; where Pillow has them otherwise, mended.

    Args:
        image: opened, not loaded.
        content: of its file.
        levels: what is black and white where samples have more than 8 bits.

    Raises:
        UnreadableImage: of a kind that cannot be read rightly.
    """
    mend = _MENDED.get(image.format or "")
    mended = mend(image, content, levels) if mend else None
    if mended is not None:
        return mended
    image.load()
    return to_rgb(image)


def _png(image: Image.Image, content: bytes, levels: Levels) -> Image.Image | None:
    """16 bits of colour are read whole, not their high byte; one see-through grey is told in the file's own bits."""
    bits, kind = content[24], content[25]
    if bits < 8 and kind == 0 and isinstance(image.info.get("transparency"), int):
        image.load()
        see_through = image.info.pop("transparency") * 255 // (2**bits - 1)
        grey = np.asarray(image.convert("L"))
        return Image.fromarray(np.where(grey == see_through, np.uint8(255), grey)).convert("RGB")
    if bits != 16:
        return None
    see_through, samples = image.info.get("transparency"), _png_values(image, content)
    colours = 3 if kind & 2 else 1
    made = Samples(samples[..., :colours], "u", 16).as_bytes(levels)
    if samples.shape[2] > colours:
        made = over_white(made, Samples(samples[..., colours:], "u", 16).as_bytes(None))
    elif see_through is not None:
        made = np.where((samples == see_through).all(axis=2, keepdims=True), np.uint8(255), made)
    return Image.fromarray(made if colours == 3 else np.repeat(made, 3, axis=2))


def _png_values(image: Image.Image, content: bytes) -> np.ndarray:
    """uint16 (h, w, n). Pillow keeps the high bytes of colours; asked for little-endian ones, it keeps the low bytes."""
    if image.mode in ("I", "I;16", "I;16B"):
        return np.asarray(image).astype(np.uint16)[..., None]
    return _tiles(content, ";16B").astype(np.uint16) << 8 | _tiles(content, ";16L")


def _tiles(content: bytes, order: str) -> np.ndarray:
    """Bytes of every sample; grey with alpha of 16 bits is read as four bytes a pixel."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as again:
        raw = str(again.tile[0][3])
        wanted = "RGBA" if raw == "LA;16B" else raw.replace(";16B", order)
        again.tile = [tile._replace(args=wanted) for tile in again.tile]
        again.load()
        pixels = np.asarray(again)
    if raw == "LA;16B":
        return pixels[..., (0, 2) if order == ";16B" else (1, 3)]
    return pixels


def _bmp(image: Image.Image, content: bytes, levels: Levels) -> Image.Image | None:
    """32 bits of which the last is nowhere set: no alpha, whatever the head says, as everybody else reads it."""
    if image.mode != "RGBA":
        return None
    image.load()
    return to_rgb(image) if image.getchannel("A").getbbox() else image.convert("RGB")


def _jpeg_2000(image: Image.Image, content: bytes, levels: Levels) -> Image.Image | None:
    """Grey of more than 8 bits by its own white; in colour Pillow lets the brightest overflow to black."""
    samples = _jpeg_2000_samples(image, content)
    return None if samples is None else _seen(samples, levels)


def _jpeg_2000_samples(image: Image.Image, content: bytes) -> Samples | None:
    at = content.find(b"\xff\x4f\xff\x51")
    components = int.from_bytes(content[at + 40 : at + 42], "big") if at >= 0 else 0
    bits = (content[at + 42] & 0x7F) + 1 if components else 8
    if bits <= 8:
        return None
    if components > 1 or bits > 16:
        raise UnreadableImage(f"is JPEG 2000 of {bits} bits in {components} components, which is not read rightly")
    with Image.open(io.BytesIO(content[at:]), formats=("JPEG2000",)) as stream:  # the box around it may say other bits
        return Samples(np.asarray(stream).astype(np.uint16)[..., None] >> np.uint16(16 - bits), "u", bits)


def _pnm(image: Image.Image, content: bytes, levels: Levels) -> Image.Image | None:
    """Two bytes a sample, scaled once and by the file's own maximum; floats by stated levels."""
    samples = _pnm_samples(image, content)
    return None if samples is None else _seen(samples, levels)


_PNM = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")


def _pnm_samples(image: Image.Image, content: bytes) -> Samples | None:
    if image.mode == "F":
        image.load()
        return Samples(np.asarray(image)[..., None], "f", 32)
    head = _PNM.match(content)
    if head is None or not 255 < int(head[4]) < 65536:
        return None
    bands = 3 if head[1] == b"6" else 1
    width, height, white = int(head[2]), int(head[3]), int(head[4])
    if len(content) < head.end() + 2 * width * height * bands:
        raise UnreadableImage("is cut short")
    values = np.frombuffer(content, ">u2", width * height * bands, head.end()).reshape(height, width, bands)
    return Samples(np.minimum(values, white).astype(np.uint16), "u", 16, maximum=white)


def _seen(samples: Samples, levels: Levels) -> Image.Image:
    made = samples.as_bytes(levels)
    return Image.fromarray(np.repeat(made, 3 // made.shape[2], axis=2))


def deep_samples(image: Image.Image, content: bytes) -> Samples | None:
    """The colours of an opened image of more than 8 bits a sample, as its file holds them; None where it has 8."""
    if image.format == "PNG" and content[24] == 16:
        return Samples(_png_values(image, content)[..., : 3 if content[25] & 2 else 1], "u", 16)
    reader = {"JPEG2000": _jpeg_2000_samples, "PPM": _pnm_samples}.get(image.format or "")
    return reader(image, content) if reader else None


_MENDED: dict[str, Callable[[Image.Image, bytes, Levels], Image.Image | None]] = {
    "PNG": _png,
    "BMP": _bmp,
    "JPEG2000": _jpeg_2000,
    "PPM": _pnm,
}
