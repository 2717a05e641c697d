"""Open an image file as an upright RGB image, or raise with the reason in plain words."""

import io
import re
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    DdsImagePlugin,
    GifImagePlugin,
    IcnsImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    SgiImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tlkit.base.errors import UnreadableImage
from tlkit.pixels.jpeg import JpegHead, read_head, read_jpeg
from tlkit.pixels.picture import Needed, Picture, Samples, over_white, to_rgb
from tlkit.pixels.sniff import HEADER_BYTES, describe, sniff
from tlkit.pixels.tiff import deep_tiff, read_tiff

try:
    import pillow_heif
except ImportError:
    HEIF = False
else:
    pillow_heif.register_heif_opener()
    HEIF = True

# Importing a plugin registers its format. Only these are opened: others run external programs
# (EPS runs Ghostscript), hold no pixels of their own, or do not occur in image folders.
_PLUGINS = (
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    DdsImagePlugin.DdsImageFile,
    GifImagePlugin.GifImageFile,
    IcnsImagePlugin.IcnsImageFile,
    IcoImagePlugin.IcoImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    JpegImagePlugin.JpegImageFile,  # and MPO, several JPEGs in one file
    PngImagePlugin.PngImageFile,
    PpmImagePlugin.PpmImageFile,
    PsdImagePlugin.PsdImageFile,
    QoiImagePlugin.QoiImageFile,
    SgiImagePlugin.SgiImageFile,
    TgaImagePlugin.TgaImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)
FORMATS = tuple(plugin.format for plugin in _PLUGINS if plugin.format) + (("HEIF",) if HEIF else ())

# Twice Pillow's warning limit, at which Pillow itself refuses; 512 MiB as RGB.
PIXEL_LIMIT = 178_956_970

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SUBFILE_TYPE, _DNG_VERSION = 254, 50706

Levels = tuple[float, float] | None


def open_picture(source: Path | bytes, needed: Needed | None = None, levels: Levels = None) -> Picture:
    """Open an image as RGB pixels: first frame, upright, alpha over white.

    Args:
        source: a file, or its bytes.
        needed: given the upright size, the smallest size worth decoding to; a JPEG may then be decoded
            at a half, a quarter or an eighth of its size, never below it. None decodes at full size.
        levels: black and white in files of more than 8 bits per sample; None takes what the file declares.

    Raises:
        UnreadableImage: nothing else is raised.
    """
    _silence_pillow()
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        reader = _READERS.get(sniff(content[:HEADER_BYTES]) or "")
        picture = reader(content, needed, levels) if reader else None
        return picture or _by_pillow(content, needed, levels)
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's decoders may raise anything on damaged files
        raise UnreadableImage(_reason(source, error)) from error


def _jpeg(content: bytes, needed: Needed | None, levels: Levels) -> Picture | None:
    """Read by libjpeg-turbo if it is an ordinary JPEG; 8-bit samples need no levels."""
    head: JpegHead | None = read_head(content)
    if head is None or not head.ordinary:
        return None
    _refuse_huge((head.width, head.height))
    return read_jpeg(content, head, needed)


def _tiff(content: bytes, needed: Needed | None, levels: Levels) -> Picture | None:
    return read_tiff(content, levels, _refuse_huge)


# Formats that Pillow reads wrongly or slowly; None from a reader leaves the file to Pillow.
_READERS: dict[str, Callable[[bytes, Needed | None, Levels], Picture | None]] = {"JPEG": _jpeg, "TIFF": _tiff}


def _by_pillow(content: bytes, needed: Needed | None, levels: Levels) -> Picture:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _refuse_huge(image.size)
        box = None
        if needed is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            box = _draft(image, needed)
        rgb = as_declared(image, content, levels)
        orientation = _orientation(image)
    picture = Picture.whole(np.asarray(rgb))
    return (picture if box is None else Picture(picture.pixels, box)).upright(orientation)


def deep_samples_of(source: Path | bytes) -> Samples | None:
    """The raw samples of a file of more than 8 bits per sample; None if it has 8.

    Raises:
        UnreadableImage: nothing else is raised.
    """
    _silence_pillow()
    try:
        content = source if isinstance(source, bytes) else _deep_enough(source)
        kind = sniff(content[:HEADER_BYTES])
        if kind == "TIFF":
            return deep_tiff(content)
        if kind not in _DEEP or (kind == "PNG" and content[24:25] != b"\x10"):
            return None
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            _refuse_huge(image.size)
            return deep_samples(image, content)
    except UnreadableImage:
        raise
    except Exception as error:  # as above
        raise UnreadableImage(_reason(source, error)) from error


_DEEP = ("PNG", "JPEG2000", "PPM")  # and TIFF


def _deep_enough(path: Path) -> bytes:
    """A file's bytes; only the header for formats and PNG files of at most 8 bits per sample."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        kind = sniff(head)
        shallow = kind not in (*_DEEP, "TIFF") or (kind == "PNG" and head[24:25] != b"\x10")
        return head if shallow else head + file.read()


def open_upright(source: Path | bytes, needed: Needed | None = None) -> Image.Image:
    """`open_picture` by the rules of version 1: Pillow for everything, and a reduced JPEG counts as the whole image.

    Raises:
        UnreadableImage: nothing else is raised.
    """
    _silence_pillow()
    try:
        with _stream(source) as stream, Image.open(stream, formats=FORMATS) as image:
            _refuse_huge(image.size)
            _refuse_raw(image)
            if needed is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
                _draft(image, needed)
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            rgb = to_rgb(image)
        return rgb if turn is None else rgb.transpose(turn)
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's decoders may raise anything on damaged files
        raise UnreadableImage(_reason(source, error)) from error


def _stream(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _draft(image: JpegImagePlugin.JpegImageFile, needed: Needed) -> tuple[float, float, float, float] | None:
    """Let the JPEG decoder reduce the image, at a fraction of the cost of decoding it whole.

    Returns:
        The part of the reduced pixels that is the image, as stored; None for all of them.
    """
    if _orientation(image) >= 5:
        width, height = needed((image.height, image.width))
        drafted = image.draft(None, (height, width))
    else:
        drafted = image.draft(None, needed(image.size))
    return drafted and drafted[1]


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation 1..8; 1 if there is none, or none that can be read.

    Call it after `load`, because Pillow rotates TIFF on loading.
    """
    with suppress(SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _refuse_huge(size: tuple[int, int]) -> None:
    """Refuse too many pixels before decoding; the server's limit, set in Pillow, applies to every reader."""
    width, height = size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width}x{height} pixels")
    if width * height > PIXEL_LIMIT:
        raise UnreadableImage(f"declares {width}x{height} pixels, more than the limit of {PIXEL_LIMIT:,}")
    if not width * height:
        raise UnreadableImage(f"declares {width}x{height} pixels")


def _refuse_raw(image: Image.Image) -> None:
    """Refuse camera raw files: TIFF whose first image is only a small preview."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if _DNG_VERSION in tags or (tags.get(_SUBFILE_TYPE, 0) == 1 and image.n_frames == 1):
            raise UnreadableImage("is camera raw, of which only a preview could be read")


def _silence_pillow() -> None:
    """Silence Pillow's warnings: relevant ones are reported here, and `-W error` must not turn them into failures.

    `warnings.catch_warnings` is not thread-safe before Python 3.14; a filter for Pillow's own
    modules, inserted once, is.
    """
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=_PILLOW)


_PILLOW = r"(PIL|pillow_heif)(\.|$)"
_QUIET = ("ignore", None, Warning, re.compile(_PILLOW), 0)


# -- reasons -----------------------------------------------------------------------------------


def _reason(source: Path | bytes, error: Exception) -> str:
    """The reason in plain words that continue "the file ..."."""
    if isinstance(error, Image.DecompressionBombError):
        return f"declares more pixels than the limit of {2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, Image.UnidentifiedImageError):
        return _unidentified(source)
    text = " ".join(str(error).split())
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"is cut short{f' ({text})' if text else ''}"
    return f"is damaged ({text or type(error).__name__})"


def _unidentified(source: Path | bytes) -> str:
    """The reason that no reader could open it: not an image, HEIC without the extra, or a damaged header."""
    with _stream(source) as stream:
        header = stream.read(HEADER_BYTES)
    found = sniff(header)
    if found == "HEIF" and not HEIF:
        return "is HEIC; `pip install pillow-heif` makes it readable"
    return (
        describe(header) if found is None else f"begins like {found}, but its header is damaged or of an unknown kind"
    )


# -- Formats that Pillow does not read as declared: deep PNG and PNM, transparent grey, BMP, JPEG 2000 ---


def as_declared(image: Image.Image, content: bytes, levels: Levels) -> Image.Image:
    """An opened image as RGB with the values that its file declares, correcting Pillow where needed.

    Args:
        image: opened, not loaded.
        content: bytes of its file.
        levels: black and white for samples of more than 8 bits.

    Raises:
        UnreadableImage: for a kind that cannot be read correctly.
    """
    mend = _MENDED.get(image.format or "")
    mended = mend(image, content, levels) if mend else None
    if mended is not None:
        return mended
    image.load()
    return to_rgb(image)


def _png(image: Image.Image, content: bytes, levels: Levels) -> Image.Image | None:
    """Read all 16 bits of colour, not only the high byte; a transparent grey is given in the file's own bit depth."""
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
    """Samples, uint16 (h, w, n). Pillow keeps the high bytes of colours, or the low bytes if read as little-endian."""
    if image.mode in ("I", "I;16", "I;16B"):
        return np.asarray(image).astype(np.uint16)[..., None]
    return _tiles(content, ";16B").astype(np.uint16) << 8 | _tiles(content, ";16L")


def _tiles(content: bytes, order: str) -> np.ndarray:
    """The bytes of every sample; 16-bit grey with alpha is read as four bytes per pixel."""
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
    """32 bits per pixel whose last byte is zero throughout: no alpha, whatever the header says, as other readers do."""
    if image.mode != "RGBA":
        return None
    image.load()
    return to_rgb(image) if image.getchannel("A").getbbox() else image.convert("RGB")


def _jpeg_2000(image: Image.Image, content: bytes, levels: Levels) -> Image.Image | None:
    """Grey of more than 8 bits scaled by its own white; for colours Pillow lets the brightest overflow to black."""
    samples = _jpeg_2000_samples(image, content)
    return None if samples is None else _seen(samples, levels)


def _jpeg_2000_samples(image: Image.Image, content: bytes) -> Samples | None:
    at = content.find(b"\xff\x4f\xff\x51")
    components = int.from_bytes(content[at + 40 : at + 42], "big") if at >= 0 else 0
    bits = (content[at + 42] & 0x7F) + 1 if components else 8
    if bits <= 8:
        return None
    if components > 1 or bits > 16:
        raise UnreadableImage(f"is JPEG 2000 of {bits} bits in {components} components, which cannot be read correctly")
    with Image.open(io.BytesIO(content[at:]), formats=("JPEG2000",)) as stream:  # its box may declare other bits
        return Samples(np.asarray(stream).astype(np.uint16)[..., None] >> np.uint16(16 - bits), "u", bits)


def _pnm(image: Image.Image, content: bytes, levels: Levels) -> Image.Image | None:
    """Two bytes per sample, scaled once by the file's own maximum; floats by given levels."""
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
    """The raw colour samples of an opened image of more than 8 bits per sample; None if it has 8."""
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
