"""All limits of the server, and decoding within them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.serving.problems import RequestProblem

HEAD_BYTES = 32 * 1024  # maximum bytes of the request line and headers
PART_HEADERS = 8  # maximum headers per part of a form
JPEG_SCANS = 100  # maximum; progressive photographs have about ten, each costs a pass over all pixels
EXPLAINED = 4  # maximum images explained per request
EXPLANATIONS = 8  # maximum in progress or waiting, over all requests
LINGER_SECONDS = 3.0  # time for a client refused mid-body to stop sending
KEEP_ALIVE_SECONDS = 15
CONNECTIONS = 8  # connections per allowed concurrent request
HELD = 8  # maximum bodies in memory, in units of the largest one


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits set by `tlkit serve --max-...`, in plain units.

    Args:
        image_bytes: per image file.
        request_bytes: per request body.
        images: per request.
        pixels: per image.
        requests: concurrent prediction requests.
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
        """Maximum bytes of all bodies in memory together."""
        return HELD * self.request_bytes

    @property
    def connections(self) -> int:
        """Maximum open connections, including idle ones."""
        return max(64, CONNECTIONS * self.requests)


def megabytes(count: int) -> str:
    """A size as text: `20 MB`."""
    return f"{count / 1e6:.3g} MB"


# -- Decoding an uploaded file as in training, within the limits of the server ---


def pixels(content: bytes, contract: InputContract, limits: Limits) -> np.ndarray:
    """Decode a file to uint8 (H, W, 3), RGB 0..255.

    Raises:
        RequestProblem: if it is too large, has too many pixels or is not an image; no other exception, for any bytes.
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
    """Refuse a JPEG with very many scans: a small file can demand thousands of passes over its pixels."""
    if content.startswith(b"\xff\xd8") and (scans := content.count(b"\xff\xda")) > JPEG_SCANS:
        raise RequestProblem(
            "too-many-pixels", f"The JPEG has {scans} scans; the limit is {JPEG_SCANS}.", "save it again."
        )


@contextlib.contextmanager
def pillow_refuses(limit: int) -> Iterator[None]:
    """Let Pillow refuse images of more pixels, including embedded ones (ICO): it checks each image it opens."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = limit // 2  # Pillow warns at this value and refuses at twice it
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
