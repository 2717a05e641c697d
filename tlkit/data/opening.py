"""An image file to an upright RGB image in memory, or the reason in plain words why not."""

import io
import re
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

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
from tlkit.data.colour import to_rgb
from tlkit.data.sniff import HEADER_BYTES, describe, sniff

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

# (size) -> the size below which decoding smaller would cost quality
Needed = Callable[[tuple[int, int]], tuple[int, int]]


def open_upright(source: Path | bytes, needed: Needed | None = None) -> Image.Image:
    """RGB image, first frame, upright, alpha over white.

    Args:
        source: a file, or the bytes of one.
        needed: given the upright size, the smallest size worth decoding to; a JPEG may then come
            at a half, a quarter or an eighth of its size, never below it. None decodes all.

    Raises:
        UnreadableImage: and nothing else.
    """
    _silence_pillow()
    try:
        with _stream(source) as stream, Image.open(stream, formats=FORMATS) as image:
            _refuse_huge(image)
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


def _draft(image: JpegImagePlugin.JpegImageFile, needed: Needed) -> None:
    """Let the JPEG decoder reduce the image, at a fraction of the cost of decoding it whole."""
    if _orientation(image) >= 5:
        width, height = needed((image.height, image.width))
        image.draft(None, (height, width))
    else:
        image.draft(None, needed(image.size))


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation 1..8; 1 where there is none, or none that can be read.

    Only after `load` is it what remains to be done: TIFF turns its pixels itself.
    """
    with suppress(SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _refuse_huge(image: Image.Image) -> None:
    width, height = image.size
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
