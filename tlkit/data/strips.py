"""The strips and tiles of a TIFF page to an array of samples: unpacked, differences undone, put in their places."""

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import TiffImagePlugin

from tlkit.base.errors import UnreadableImage

if TYPE_CHECKING:
    from tlkit.data.tiff import Page

PART_LIMIT = 178_956_970  # pixels of a strip or tile, as of a whole image

_NONE, _DEFLATE = 1, (8, 32946)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def unpack(content: bytes, page: "Page") -> np.ndarray:
    """Samples (height, width, samples) in the page's type; of fewer than 8 bits, or an odd number, as uint8 to uint32.

    Raises:
        UnreadableImage: cut short.
    """
    planes = page.samples if page.planar else 1
    each = page.samples // planes
    wide, high = page.chunk
    if not (page.width and page.height and wide and high):
        raise UnreadableImage(f"declares {page.width}x{page.height} pixels in parts of {wide}x{high}")
    if wide * high > PART_LIMIT or page.width * page.height * page.samples * page.bits // 8 > 8 * PART_LIMIT:
        raise UnreadableImage(f"declares {page.samples} samples a pixel in parts of {wide}x{high}: too much memory")
    across, down = -(-page.width // wide), -(-page.height // high)
    if len(page.places) < planes * across * down:
        raise UnreadableImage(f"is cut short ({len(page.places)} parts of {planes * across * down})")
    made = np.empty((page.height, page.width, page.samples), _type(page).newbyteorder("="))
    for plane in range(planes):
        for part in range(across * down):
            top, left = part // across * high, part % across * wide
            rows = high if page.tiled else min(high, page.height - top)
            chunk = _chunk(content, page, page.places[plane * across * down + part], rows, each)
            part_made = made[top : top + rows, left : left + wide, plane * each : (plane + 1) * each]
            part_made[...] = chunk[: part_made.shape[0], : part_made.shape[1]]
    return made


def _type(page: "Page") -> np.dtype:
    """Of a sample; odd numbers of bits are kept in the next type that holds them."""
    size = next(size for size in (8, 16, 32, 64) if size >= page.bits)
    return np.dtype(f"{'<' if page.little else '>'}{page.kind}{size // 8}")


def _chunk(content: bytes, page: "Page", place: tuple[int, int], rows: int, each: int) -> np.ndarray:
    """A strip or tile (rows, its width, samples)."""
    wide = page.chunk[0]
    row_bytes = -(-wide * each * page.bits // 8)
    packed = content[place[0] : place[0] + place[1]]
    if page.reversed_bits:
        packed = packed.translate(_REVERSED)
    raw = _unpacked(packed, page.compression, row_bytes, rows)
    if len(raw) < rows * row_bytes:
        raise UnreadableImage(f"is cut short ({len(raw)} bytes of {rows * row_bytes} in a part)")
    table = np.frombuffer(raw, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    if page.bits not in (8, 16, 32, 64):
        return _bits(table, page.bits, wide * each).reshape(rows, wide, each)
    if page.predictor == 3 and page.kind == "f":
        return _undone_floats(table, page, wide, each)
    values = table.view(_type(page)).reshape(rows, wide, each)
    if page.predictor == 2:
        whole = np.dtype(f"u{page.bits // 8}")  # differences wrap, whatever the type
        summed = np.cumsum(values.view(values.dtype.str.replace(page.kind, "u")), axis=1, dtype=whole)
        values = summed.view(_type(page).newbyteorder("="))
    return values


def _unpacked(packed: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    if compression == _NONE:
        return packed
    if compression in _DEFLATE:
        return zlib.decompressobj().decompress(packed, rows * row_bytes)
    return _by_libtiff(packed, compression, row_bytes, rows)


def _by_libtiff(packed: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    """Unpacked by Pillow's libtiff, which is told that the bytes are a grey image of 8 bits."""
    shape = ((256, row_bytes), (257, rows), (258, 8), (259, compression), (262, 1), (273, 0), (277, 1), (278, rows))
    entries = [*shape, (279, len(packed))]
    start = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + bytes(4)
    with TiffImagePlugin.TiffImageFile(io.BytesIO(head + packed)) as image:
        image.load()
        return image.tobytes()


def _bits(table: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Samples (rows, count) of an odd number of bits, highest first; every row begins at a byte."""
    single = np.unpackbits(table, axis=1)[:, : count * bits].reshape(len(table), count, bits)
    kind = np.uint8 if bits < 8 else np.uint16 if bits < 16 else np.uint32
    made = np.zeros(single.shape[:2], kind)
    for place in range(bits):
        made = (made << kind(1)) | single[..., place]
    return made


def _undone_floats(table: np.ndarray, page: "Page", wide: int, each: int) -> np.ndarray:
    """Predictor 3: bytes sorted by significance over the row, then differences of neighbours (Technical Note 3)."""
    rows, size = len(table), page.bits // 8
    summed = np.cumsum(table.reshape(rows, -1, each), axis=1, dtype=np.uint8).reshape(rows, size, wide * each)
    joined = np.ascontiguousarray(summed.transpose(0, 2, 1)).view(f">f{size}")
    return joined.reshape(rows, wide, each)
