"""Ordinary JPEGs by libjpeg-turbo (simplejpeg): at fractions of their size, without the interpreter lock, strictly.

Nearly all are ordinary: Huffman-coded, baseline or progressive, 8 bits, grey or three colours. The rest
(CMYK, arithmetic coding) is left to Pillow. Samples equal Pillow's: accurate integer transform, smooth chroma.
"""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.pixels.picture import Needed, Picture

# The eighths of its size at which a JPEG is decoded. Others have no fast transform: a photograph at 6/8
# takes longer than at full size.
EIGHTHS = (1, 2, 4, 8)

_END, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_SCAN_MARK = bytes((0xFF, _SCAN))
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_ORIENTATION = 0x0112

# libjpeg's warnings about files with intact pixels: anomalies in the header. Extra bytes before a restart,
# another scan or the end are damage.
_HARMLESS = re.compile(
    r"Invalid SOS parameters for sequential JPEG|unknown JFIF revision|Unknown Adobe color transform"
    r"|bad ICC marker|extraneous bytes before marker 0x(c[0-2]|db|e\w|fe)"
)


@dataclass(frozen=True)
class JpegHead:
    """The header before the first scan.

    Args:
        width: pixels, as stored.
        height: pixels, as stored.
        ordinary: whether libjpeg-turbo is used.
        progressive: whether it is progressive.
        described: whether a metadata block may give its orientation.
    """

    width: int
    height: int
    ordinary: bool
    progressive: bool
    described: bool


def read_head(content: bytes) -> JpegHead | None:
    """The header of a JPEG file; None if it cannot be read."""
    frame, described = None, False
    for marker, at in _markers(content):
        if marker in _FRAMES and at + 10 <= len(content):
            frame = marker, *struct.unpack_from(">BHHB", content, at + 4)
        described |= marker == _APP1
    if frame is None:
        return None
    marker, bits, height, width, components = frame
    ordinary = marker in _HUFFMAN and bits == 8 and components in (1, 3) and height > 0
    return JpegHead(width, height, ordinary, marker == _PROGRESSIVE, described)


def _markers(content: bytes) -> Iterator[tuple[int, int]]:
    """(marker, offset) of every segment before the first scan."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == _SCAN:
            return
        if marker == 0xFF:  # padding
            at += 1
            continue
        yield marker, at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def read_jpeg(content: bytes, head: JpegHead, needed: Needed | None) -> Picture | None:
    """Decode an ordinary JPEG, upright; None if libjpeg-turbo does not support its kind.

    Args:
        content: bytes of the file.
        head: its header.
        needed: given the upright size, the smallest size worth decoding to; None decodes at full size.

    Raises:
        UnreadableImage: if it is damaged, or truncated before the last pixel.
    """
    orientation = _orientation(content) if head.described else 1
    eighths = 8 if needed is None else _eighths(head, orientation, needed)
    pixels = _strictly(content, head, eighths)
    if pixels is None:
        return None
    box = (0.0, 0.0, head.width * eighths / 8, head.height * eighths / 8)
    return Picture(pixels, box).upright(orientation)


def _orientation(content: bytes) -> int:
    """EXIF or XMP orientation 1..8; 1 if none can be read."""
    with (
        suppress(SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error),
        Image.open(io.BytesIO(content), formats=("JPEG",)) as image,
    ):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _eighths(head: JpegHead, orientation: int, needed: Needed) -> int:
    """The smallest eighth of the size that is still large enough."""
    upright = (head.width, head.height) if orientation < 5 else (head.height, head.width)
    least = needed(upright)
    return next((n for n in EIGHTHS if all(have * n >= 8 * need for have, need in zip(upright, least, strict=True))), 8)


def _strictly(content: bytes, head: JpegHead, eighths: int) -> np.ndarray | None:
    """Decode to uint8 (h, w, 3), refusing any damage."""
    try:
        return _decoded(content, head, eighths, strict=True)
    except ValueError as error:
        words = str(error)
    if "Premature end of JPEG file" in words:
        return _without_end(content, head, eighths)
    if _HARMLESS.search(words):
        return _decoded(content, head, eighths, strict=False)
    if words.startswith("Corrupt JPEG data"):
        raise UnreadableImage(f"is damaged ({words})")
    return None


def _decoded(content: bytes, head: JpegHead, eighths: int, *, strict: bool) -> np.ndarray:
    return simplejpeg.decode_jpeg(
        content,
        colorspace="RGB",
        fastdct=False,
        fastupsample=False,
        min_height=-(-head.height * eighths // 8),
        min_width=-(-head.width * eighths // 8),
        min_factor=1,
        strict=strict,
    )


def _without_end(content: bytes, head: JpegHead, eighths: int) -> np.ndarray:
    """Decode a file without its end marker if all pixels are present."""
    ended = content.removesuffix(b"\xff") + bytes((0xFF, _END))
    try:
        if head.progressive and not _all_passes(content):
            raise ValueError("passes are missing")
        return _decoded(ended, head, eighths, strict=True)
    except ValueError as error:
        raise UnreadableImage(f"is cut short ({error})") from error


def _all_passes(content: bytes) -> bool:
    """Whether a progressive JPEG has every coefficient of every component to its last bit (ITU-T T.81, G.1)."""
    frame = next(at for marker, at in _markers(content) if marker in _FRAMES)
    names = content[frame + 10 : frame + 10 + 3 * content[frame + 9] : 3]
    lacking = {name: set(range(64)) for name in names}
    at = content.find(_SCAN_MARK)
    while at >= 0 and at + 5 < len(content):
        count = content[at + 4]
        last = content[at + 5 + 2 * count : at + 8 + 2 * count]  # first and last coefficient, bits done and remaining
        if len(last) == 3 and not last[2] & 0x0F:
            for name in content[at + 5 : at + 5 + 2 * count : 2]:
                lacking.get(name, set()).difference_update(range(last[0], last[1] + 1))
        at = content.find(_SCAN_MARK, at + 2)
    return not any(lacking.values())
