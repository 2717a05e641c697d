"""An image file to an upright RGB image in memory, or the reason in plain words why not."""

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
from tlkit.data.colour import Samples, to_rgb
from tlkit.data.jpeg import Head, read_head, read_jpeg
from tlkit.data.mend import as_declared, deep_samples
from tlkit.data.picture import Needed, Picture
from tlkit.data.sniff import HEADER_BYTES, describe, sniff
from tlkit.data.tiff import deep_tiff, read_tiff

try:
    import pillow_heif
except ImportError:
    HEIF = False
else:
    pillow_heif.register_heif_opener()
    HEIF = True

# Importing a plugin registers its format. Only these are opened: others run other programs
# (EPS runs Ghostscript), hold no pixels of their own, or are not met in image folders.
_PLUGINS = (
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    DdsImagePlugin.DdsImageFile,
    GifImagePlugin.GifImageFile,
    IcnsImagePlugin.IcnsImageFile,
    IcoImagePlugin.IcoImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    JpegImagePlugin.JpegImageFile,  # and MPO, several of them in one file
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

# Twice Pillow's limit for a warning, where Pillow itself refuses; 512 MiB as RGB.
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
    """RGB pixels, first frame, upright, alpha over white.

    Args:
        source: a file, or the bytes of one.
        needed: given the upright size, the smallest size worth decoding to; a JPEG may then come
            at a half, a quarter or an eighth of its size, never below it. None decodes all.
        levels: what is black and white in files of more than 8 bits a sample; None takes the file's word.

    Raises:
        UnreadableImage: and nothing else.
    """
    _silence_pillow()
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        reader = _READERS.get(sniff(content[:HEADER_BYTES]) or "")
        picture = reader(content, needed, levels) if reader else None
        return picture or _by_pillow(content, needed, levels)
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the bytes make them stumble over
        raise UnreadableImage(_reason(source, error)) from error


def _jpeg(content: bytes, needed: Needed | None, levels: Levels) -> Picture | None:
    """By libjpeg-turbo, where it is of an ordinary kind; bytes have no levels."""
    head: Head | None = read_head(content)
    if head is None or not head.ordinary:
        return None
    _refuse_huge((head.width, head.height))
    return read_jpeg(content, head, needed)


def _tiff(content: bytes, needed: Needed | None, levels: Levels) -> Picture | None:
    return read_tiff(content, levels, _refuse_huge)


# Formats that Pillow reads with errors or slowly; None from a reader means that the file is Pillow's after all.
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
    """The numbers of a file of more than 8 bits a sample, before anything is made of them; None where it has 8.

    Raises:
        UnreadableImage: and nothing else.
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
    """A file's bytes; of formats that are never deep, and of PNG that says so, the head alone."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        kind = sniff(head)
        shallow = kind not in (*_DEEP, "TIFF") or (kind == "PNG" and head[24:25] != b"\x10")
        return head if shallow else head + file.read()


def open_upright(source: Path | bytes, needed: Needed | None = None) -> Image.Image:
    """`open_picture` by the rules of version 1: Pillow for everything, and a smaller JPEG taken for the whole image.

    Raises:
        UnreadableImage: and nothing else.
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
    except Exception as error:  # Pillow's decoders raise whatever the bytes make them stumble over
        raise UnreadableImage(_reason(source, error)) from error


def _stream(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _draft(image: JpegImagePlugin.JpegImageFile, needed: Needed) -> tuple[float, float, float, float] | None:
    """Let the JPEG decoder reduce the image, at a fraction of the cost of decoding it whole.

    Returns:
        The part of the smaller pixels that is the image, as stored; None for all of them.
    """
    if _orientation(image) >= 5:
        width, height = needed((image.height, image.width))
        drafted = image.draft(None, (height, width))
    else:
        drafted = image.draft(None, needed(image.size))
    return drafted and drafted[1]


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation 1..8; 1 where there is none, or none that can be read.

    Only after `load` is it what remains to be done: TIFF turns its pixels itself.
    """
    with suppress(SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _refuse_huge(size: tuple[int, int]) -> None:
    """Before any pixel is decoded; the server's limit, which Pillow keeps, counts for every reader."""
    width, height = size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width}x{height} pixels")
    if width * height > PIXEL_LIMIT:
        raise UnreadableImage(f"declares {width}x{height} pixels, more than the limit of {PIXEL_LIMIT:,}")
    if not width * height:
        raise UnreadableImage(f"declares {width}x{height} pixels")


def _refuse_raw(image: Image.Image) -> None:
    """Camera raw files are TIFF whose first image is a small preview; it is not the photograph."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if _DNG_VERSION in tags or (tags.get(_SUBFILE_TYPE, 0) == 1 and image.n_frames == 1):
            raise UnreadableImage("is camera raw, of which only a preview could be read")


def _silence_pillow() -> None:
    """Warnings of Pillow are silenced: what matters is reported here, and `-W error` must not turn them into failures.

    `warnings.catch_warnings` is not safe in threads before Python 3.14; a filter for Pillow's own
    modules, put in front once, is.
    """
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=_PILLOW)


_PILLOW = r"(PIL|pillow_heif)(\.|$)"
_QUIET = ("ignore", None, Warning, re.compile(_PILLOW), 0)


# -- reasons -----------------------------------------------------------------------------------


def _reason(source: Path | bytes, error: Exception) -> str:
    """What is wrong with the file, in plain words that continue "the file ..."."""
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
    """Why nothing could open it: no image, HEIC without the extra, or a broken head."""
    with _stream(source) as stream:
        header = stream.read(HEADER_BYTES)
    found = sniff(header)
    if found == "HEIF" and not HEIF:
        return "is HEIC; `pip install 'tlkit[heic]'` makes it readable"
    return (
        describe(header) if found is None else f"begins like {found}, but its head is damaged or of a kind unknown here"
    )
