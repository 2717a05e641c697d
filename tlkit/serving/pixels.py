"""An uploaded file to pixels, by the one decode that training has, within the limits of the server."""

import contextlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tlkit.core.errors import UnreadableImage
from tlkit.core.input_contract import InputContract
from tlkit.data.images import decode
from tlkit.serving.limits import JPEG_SCANS, Limits, megabytes
from tlkit.serving.problems import Problem


def pixels(content: bytes, contract: InputContract, limits: Limits) -> np.ndarray:
    """uint8 (H, W, 3), RGB 0..255.

    Raises:
        Problem: too large, too many pixels, or no image; nothing else, whatever the bytes are.
    """
    if len(content) > limits.image_bytes:
        raise Problem(
            "image-too-large", f"It has {megabytes(len(content))}; the limit is {megabytes(limits.image_bytes)}."
        )
    _refuse_scans(content)
    try:
        return decode(content, contract)
    except UnreadableImage as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise Problem("too-many-pixels", f"The limit is {limits.pixels / 1e6:.3g} million.") from None
        raise Problem("not-an-image", f"The file {error.message}.") from None


def _refuse_scans(content: bytes) -> None:
    """A small JPEG may order thousands of passes over all of its pixels; the limit of pixels does not see that."""
    if content.startswith(b"\xff\xd8") and (scans := content.count(b"\xff\xda")) > JPEG_SCANS:
        raise Problem("too-many-pixels", f"The JPEG has {scans} scans; the limit is {JPEG_SCANS}.", "save it again.")


@contextlib.contextmanager
def pillow_refuses(limit: int) -> Iterator[None]:
    """Let Pillow itself refuse images of more pixels, also those inside of others (ICO): it looks at each it opens."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = limit // 2  # it warns there, and refuses at twice that
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
