"""How much a request may ask for. Every bound of the server is here."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.serving.problems import RequestProblem

HEAD_BYTES = 32 * 1024  # of a request's line and headers
PART_HEADERS = 8  # of one part of a form
JPEG_SCANS = 100  # progressive photographs have about ten; each costs a pass over all pixels
EXPLAINED = 4  # images of one request that are explained
EXPLANATIONS = 8  # under way or waiting, over all requests
LINGER_SECONDS = 3.0  # for a sender to stop who was refused half-way
KEEP_ALIVE_SECONDS = 15
CONNECTIONS = 8  # for each request that may be under way
HELD = 8  # bodies in memory, in units of the largest one


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What `tlkit serve --max-...` says, in plain units.

    Args:
        image_bytes: of one image's file.
        request_bytes: of one request's body.
        images: of one request.
        pixels: of one image.
        requests: predictions under way.
        seconds: from the first byte of a request to its answer.
    """

    image_bytes: int
    request_bytes: int
    images: int
    pixels: int
    requests: int
    seconds: float

    @property
    def held_bytes(self) -> int:
        """Of all bodies in memory together."""
        return HELD * self.request_bytes

    @property
    def connections(self) -> int:
        """Open at the same time, idle ones too."""
        return max(64, CONNECTIONS * self.requests)


def megabytes(count: int) -> str:
    """`20 MB`: how limits are written."""
    return f"{count / 1e6:.3g} MB"


# -- An uploaded file to pixels, by the one decode that training has, within the limits of the server ---


def pixels(content: bytes, contract: InputContract, limits: Limits) -> np.ndarray:
    """uint8 (H, W, 3), RGB 0..255.

    Raises:
        RequestProblem: too large, too many pixels, or no image; nothing else, whatever the bytes are.
    """
    if len(content) > limits.image_bytes:
        raise RequestProblem(
            "image-too-large", f"It has {megabytes(len(content))}; the limit is {megabytes(limits.image_bytes)}."
        )
    _refuse_scans(content)
    try:
        return decode(content, contract)
    except UnreadableImage as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise RequestProblem("too-many-pixels", f"The limit is {limits.pixels / 1e6:.3g} million.") from None
        raise RequestProblem("not-an-image", f"The file {error.message}.") from None


def _refuse_scans(content: bytes) -> None:
    """A small JPEG may order thousands of passes over all of its pixels; the limit of pixels does not see that."""
    if content.startswith(b"\xff\xd8") and (scans := content.count(b"\xff\xda")) > JPEG_SCANS:
        raise RequestProblem(
            "too-many-pixels", f"The JPEG has {scans} scans; the limit is {JPEG_SCANS}.", "save it again."
        )


@contextlib.contextmanager
def pillow_refuses(limit: int) -> Iterator[None]:
    """Let Pillow itself refuse images of more pixels, also those inside of others (ICO): it looks at each it opens."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = limit // 2  # it warns there, and refuses at twice that
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
