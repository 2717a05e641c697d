"""Read TIFF of every photometric interpretation, sample type and layout, or give the reason why not.

Pillow opens a fixed list of combinations, guesses some others and calls the rest damaged. Here its
libtiff only unpacks bytes (and decodes JPEG and fax); their meaning is read from the tags, after TIFF 6.0
(Adobe 1992), its Technical Note 3 of 2005 (floating-point predictor) and BigTIFF.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from tlkit.base.errors import UnreadableImage
from tlkit.pixels.picture import Picture, Samples, cmyk_to_rgb, lab_to_rgb, over_white, to_rgb

# -- Strips and tiles to samples ---

PART_LIMIT = 178_956_970  # maximum pixels of a strip or tile, the same as for an image

_NONE, _DEFLATE = 1, (8, 32946)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def unpack(content: bytes, page: "TiffPage") -> np.ndarray:
    """Unpack samples (height, width, samples) in the page's type; unusual bit depths as uint8 to uint32.

    Raises:
        UnreadableImage: if it is truncated.
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


def _type(page: "TiffPage") -> np.dtype:
    """The type of a sample; unusual bit depths use the next larger type."""
    size = next(size for size in (8, 16, 32, 64) if size >= page.bits)
    return np.dtype(f"{'<' if page.little else '>'}{page.kind}{size // 8}")


def _chunk(content: bytes, page: "TiffPage", place: tuple[int, int], rows: int, each: int) -> np.ndarray:
    """Read a strip or tile (rows, its width, samples)."""
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
        whole = np.dtype(f"u{page.bits // 8}")  # differences wrap around for every type
        summed = np.cumsum(values.view(values.dtype.str.replace(page.kind, "u")), axis=1, dtype=whole)
        values = summed.view(_type(page).newbyteorder("="))
    return values


def _unpacked(packed: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    if compression == _NONE:
        return packed
    if compression in _DEFLATE:
        return zlib.decompressobj().decompress(packed, rows * row_bytes)
    return _unpacked_by_libtiff(packed, compression, row_bytes, rows)


def _unpacked_by_libtiff(packed: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    """Unpack by Pillow's libtiff, by presenting the bytes as an 8-bit grey image."""
    shape = ((256, row_bytes), (257, rows), (258, 8), (259, compression), (262, 1), (273, 0), (277, 1), (278, rows))
    entries = [*shape, (279, len(packed))]
    start = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + bytes(4)
    with TiffImagePlugin.TiffImageFile(io.BytesIO(head + packed)) as image:
        image.load()
        return image.tobytes()


def _bits(table: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Samples (rows, count) of any bit depth, highest bit first; every row begins at a byte."""
    single = np.unpackbits(table, axis=1)[:, : count * bits].reshape(len(table), count, bits)
    kind = np.uint8 if bits < 8 else np.uint16 if bits < 16 else np.uint32
    made = np.zeros(single.shape[:2], kind)
    for place in range(bits):
        made = (made << kind(1)) | single[..., place]
    return made


def _undone_floats(table: np.ndarray, page: "TiffPage", wide: int, each: int) -> np.ndarray:
    """Undo predictor 3: bytes ordered by significance over the row, then differenced (Technical Note 3)."""
    rows, size = len(table), page.bits // 8
    summed = np.cumsum(table.reshape(rows, -1, each), axis=1, dtype=np.uint8).reshape(rows, size, wide * each)
    joined = np.ascontiguousarray(summed.transpose(0, 2, 1)).view(f">f{size}")
    return joined.reshape(rows, wide, each)


_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 274, 277, 278, 279, 284, 317
_COLOURS, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _FORMAT = 320, 322, 323, 324, 325, 338, 339
_NO_DATA, _DNG_VERSION = 42113, 50706

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_UNKNOWN_COLOURS = {
    4: "a transparency mask",
    10: "ITU Lab colours",
    32803: "a camera's raw mosaic",
    34892: "camera raw",
    32844: "LogL luminances",
    32845: "LogLuv colours",
    51177: "a depth map",
}
_UNPACKED = (1, 5, 8, 32946, 32773, 34925, 50000)  # none, LZW, Deflate, PackBits, LZMA, Zstandard
_DECODED = {2: 1, 3: 1, 4: 1, 6: 8, 7: 8, 50001: 8}  # fax, JPEG, WebP; and the bit depth that Pillow's libtiff supports
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # sample format -> NumPy's letter; 4 is "undefined"
_ASSOCIATED, _UNASSOCIATED = 1, 2


@dataclass(frozen=True)
class TiffPage:
    """The layout of a page's samples, from its tags.

    Args:
        width: pixels.
        height: pixels.
        bits: per sample.
        kind: `u`, `i` or `f`: unsigned, signed, floating-point.
        samples: per pixel.
        photometric: photometric interpretation.
        compression: compression scheme.
        predictor: 1 none, 2 differences, 3 differences of floating-point bytes.
        planar: whether each sample has its own chunks.
        reversed_bits: whether the lowest bit of a byte comes first.
        chunk: (width, height) of a strip or tile.
        tiled: whether chunks are tiles.
        places: (offset, bytes) of every chunk.
        little: byte order of samples.
        alpha: index of the alpha sample, and whether colours are premultiplied; None without one.
        colours: the colour map, all reds, then greens, then blues.
        no_data: the value for missing data (GDAL); None without one.
        orientation: 1..8.
    """

    width: int
    height: int
    bits: int
    kind: str
    samples: int
    photometric: int
    compression: int
    predictor: int
    planar: bool
    reversed_bits: bool
    chunk: tuple[int, int]
    tiled: bool
    places: tuple[tuple[int, int], ...]
    little: bool
    alpha: tuple[int, bool] | None
    colours: tuple[int, ...]
    no_data: float | None
    orientation: int


def read_tiff(
    content: bytes, levels: tuple[float, float] | None, refuse_huge: Callable[[tuple[int, int]], None]
) -> Picture | None:
    """Read the first page that is not a reduced copy, upright, alpha over white.

    Args:
        content: bytes of the file.
        levels: black and white for samples of more than 8 bits; None takes what the file declares.
        refuse_huge: raises if (width, height) is too large.

    Raises:
        UnreadableImage: if it holds no image, is of an unsupported kind, damaged or truncated.
    """
    index, tags, little = _first_whole(content)
    page = _page(tags, little)
    refuse_huge((page.width, page.height))
    _refuse_unknown(page)
    if page.compression in _DECODED or page.photometric == YCBCR:
        return _by_libtiff(content, index)
    values = unpack(content, page)
    return Picture.whole(_rgb(page, values, levels)).upright(page.orientation)


def deep_tiff(content: bytes) -> Samples | None:
    """Raw grey or colour samples of a file of more than 8 bits per sample; None if it has 8, or a colour map.

    Raises:
        UnreadableImage: as in `read_tiff`.
    """
    page = _page(*_first_whole(content)[1:])
    _refuse_unknown(page)
    if page.bits <= 8 or page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK):
        return None
    return _colours(page, unpack(content, page))


def _colours(page: TiffPage, values: np.ndarray) -> Samples:
    return Samples(values[..., : _COLOURED[page.photometric]], page.kind, page.bits, page.no_data)


# -- tags --------------------------------------------------------------------------------------


def _first_whole(content: bytes) -> tuple[int, Any, bool]:
    """Number and tags of the page, and whether the file is little-endian."""
    head = content[:16] if content[2:4] in (b"+\x00", b"\x00+") else content[:8]
    stream, tags = io.BytesIO(content), TiffImagePlugin.ImageFileDirectory_v2(head)
    following, seen, index = tags.next, set(), 0
    while following and following not in seen:
        seen.add(following)
        stream.seek(following)
        tags.load(stream)
        if _DNG_VERSION in tags:
            raise UnreadableImage("is camera raw, of which only a preview could be read")
        if not int(tags.get(_SUBFILE, 0)) & 1:
            return index, tags, head[:2] == b"II"
        following, index = tags.next, index + 1
    raise UnreadableImage("is camera raw, of which only a preview could be read" if seen else "holds no page")


def _page(tags: Any, little: bool) -> TiffPage:
    width, height, samples = (
        int(tags.get(tag, missing)) for tag, missing in ((_WIDTH, 0), (_HEIGHT, 0), (_SAMPLES, 1))
    )
    bits, formats = set(_numbers(tags, _BITS, 1)), set(_numbers(tags, _FORMAT, 1))
    if len(bits) > 1 or len(formats) > 1:
        raise UnreadableImage(f"has samples of several sizes or types ({sorted(bits)} bits), which are not supported")
    tiled = _TILES in tags
    chunk = (
        (int(tags[_TILE_WIDTH]), int(tags[_TILE_HEIGHT]))
        if tiled
        else (width, min(int(tags.get(_ROWS, height)), height))
    )
    offsets = _numbers(tags, _TILES if tiled else _STRIPS, 0)
    sizes = _numbers(tags, _TILE_BYTES if tiled else _STRIP_BYTES, 0)
    if len(sizes) != len(offsets):
        sizes = (2**40,) * len(offsets)  # not given: to the end
    form = formats.pop()
    if form not in _KINDS:
        raise UnreadableImage("holds complex numbers, not a picture" if form in (5, 6) else f"has sample format {form}")
    return TiffPage(
        width=width,
        height=height,
        bits=bits.pop(),
        kind=_KINDS[form],
        samples=samples,
        photometric=int(tags.get(_PHOTOMETRIC, BLACK_IS_ZERO)),
        compression=int(tags.get(_COMPRESSION, 1)),
        predictor=int(tags.get(_PREDICTOR, 1)),
        planar=int(tags.get(_PLANAR, 1)) == 2 and samples > 1,
        reversed_bits=int(tags.get(_FILL_ORDER, 1)) == 2,
        chunk=chunk,
        tiled=tiled,
        places=tuple(zip(offsets, sizes, strict=True)),
        little=little,
        alpha=_alpha(tags, samples),
        colours=_numbers(tags, _COLOURS, 0) if _COLOURS in tags else (),
        no_data=_no_data(tags),
        orientation=int(tags.get(_ORIENTATION, 1)),
    )


def _numbers(tags: Any, tag: int, missing: int) -> tuple[int, ...]:
    value = tags.get(tag, missing)
    return tuple(map(int, value)) if isinstance(value, tuple | list) else (int(value),)


# number of colour samples
_COLOURED = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}


def _alpha(tags: Any, samples: int) -> tuple[int, bool] | None:
    """The first extra sample that is alpha; a fourth, undeclared sample of RGB counts as alpha too."""
    photometric = int(tags.get(_PHOTOMETRIC, BLACK_IS_ZERO))
    colours = _COLOURED.get(photometric, 1)
    if samples <= colours:
        return None
    if _EXTRA not in tags:
        return (3, False) if photometric == RGB and samples == 4 else None
    for place, meaning in enumerate(_numbers(tags, _EXTRA, 0)):
        if meaning in (_ASSOCIATED, _UNASSOCIATED):
            return colours + place, meaning == _ASSOCIATED
    return None


def _no_data(tags: Any) -> float | None:
    text = tags.get(_NO_DATA)
    try:
        return float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None


def _refuse_unknown(page: TiffPage) -> None:
    """Raise with the actual reason for every unsupported kind."""
    if page.photometric not in _COLOURED:
        what = _UNKNOWN_COLOURS.get(page.photometric, f"colours of an unknown kind ({page.photometric})")
        raise UnreadableImage(
            f"holds {what}, which are not supported" if what.endswith("s") else f"holds {what}, which is not supported"
        )
    known = {"u": range(1, 33), "i": (8, 16, 32), "f": (16, 32, 64)}[page.kind]
    name = {"u": "unsigned integers", "i": "signed integers", "f": "floating-point numbers"}[page.kind]
    if page.bits not in known and not (page.bits == 64 and page.kind != "f"):
        raise UnreadableImage(f"holds {name} of {page.bits} bits, which are not supported")
    colours = _COLOURED[page.photometric]
    extra = page.samples - colours
    if extra < 0 or (extra > 1 and colours == 1) or (extra == 1 and colours == 1 and page.alpha is None):
        raise UnreadableImage(f"holds {page.samples} bands without stating which are red, green and blue")
    taken = _DECODED.get(page.compression)
    if taken is None and page.compression not in _UNPACKED:
        raise UnreadableImage(f"uses compression method {page.compression}, which is not supported")
    if (taken is not None and page.bits != taken) or (page.photometric == YCBCR and page.bits != 8):
        packed = "JPEG" if page.compression in (6, 7) else "colours"
        raise UnreadableImage(f"holds {packed} of {page.bits} bits per sample, which is not supported")
    if page.photometric in (CMYK, CIELAB, ICCLAB) and (page.bits not in (8, 16) or page.kind == "f"):
        raise UnreadableImage(f"holds CMYK or Lab of {page.bits} bits per sample, which is not supported")
    if page.photometric == PALETTE and (page.bits > 16 or page.kind != "u" or len(page.colours) != 3 << page.bits):
        raise UnreadableImage("has a colour map that does not fit its samples")


# -- colours -----------------------------------------------------------------------------------


def _rgb(page: TiffPage, values: np.ndarray, levels: tuple[float, float] | None) -> np.ndarray:
    """Convert samples (h, w, n) to RGB uint8 (h, w, 3)."""
    if page.photometric == PALETTE:
        return _coloured(page, values[..., 0])
    alpha = None
    if page.alpha is not None:
        alpha = Samples(values[..., page.alpha[0] : page.alpha[0] + 1], page.kind, page.bits).as_bytes(None)
    if page.photometric in (CIELAB, ICCLAB):
        return _lab(page, values[..., :3])
    made = _colours(page, values).as_bytes(levels if page.bits > 8 else None)
    if page.photometric == WHITE_IS_ZERO:
        made = 255 - made
    if page.photometric == CMYK:
        made = cmyk_to_rgb(made)
    made = np.repeat(made, 3, axis=2) if made.shape[2] == 1 else made
    return made if alpha is None else over_white(made, alpha, multiplied=bool(page.alpha and page.alpha[1]))


def _coloured(page: TiffPage, indices: np.ndarray) -> np.ndarray:
    """Apply the colour map; one without values above 255 is of 8 bits, as old programs write it."""
    table = np.asarray(page.colours, np.int64).reshape(3, -1).T
    table = table if table.max(initial=0) < 256 else (table * 2 + 257) // 514
    return table.astype(np.uint8)[indices]


def _lab(page: TiffPage, values: np.ndarray) -> np.ndarray:
    """Convert 8-bit Lab, a and b signed."""
    raw = values.astype(np.int64)
    if page.bits == 16:
        light = (raw[..., :1] % 65536 * 2 + 257) // 514
        raw = np.concatenate([light, (raw[..., 1:] % 65536) >> 8], axis=2)
    raw = raw % 256
    if page.photometric == ICCLAB:
        raw[..., 1:] = (raw[..., 1:] + 128) % 256
    return lab_to_rgb(raw.astype(np.uint8))


def _by_libtiff(content: bytes, index: int) -> Picture:
    """Decode JPEG, fax and YCbCr with Pillow's libtiff; Pillow also applies the orientation."""
    with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
        image.seek(index)
        image.load()
        return Picture.whole(np.asarray(to_rgb(image)))
