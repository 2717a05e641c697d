"""How much a request may ask for. Every bound of the server is here."""

from dataclasses import dataclass

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
    """`20 MB`: how limits are told."""
    return f"{count / 1e6:.3g} MB"
