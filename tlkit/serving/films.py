"""Extract the sampled frames of an uploaded film or animation as image files, within the server's limits."""

import io
from collections.abc import Sequence

from PIL import Image

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.data.clips import Sampling
from tlkit.data.films import ANIMATION, HEAD, Frame, frames, kind_of, moves, refuse_lacking
from tlkit.pixels.sniff import HEADER_BYTES, sniff
from tlkit.serving.body import Upload
from tlkit.serving.pixels import Limits
from tlkit.serving.problems import RequestProblem

LEAST = 4096  # minimum pixels counted per frame, because a film of tiny frames takes time too


def may_be_film(uploads: Sequence[Upload]) -> bool:
    """Whether a request is one file that may be a whole clip.

    Raises:
        RequestProblem: for a film among several files.
    """
    kinds = [_kind(upload.content) for upload in uploads]
    if len(kinds) == 1:
        return kinds[0] is not None
    film = next((place for place, kind in enumerate(kinds) if kind not in (None, ANIMATION)), None)
    if film is not None:
        raise RequestProblem(
            "invalid",
            f"File {film + 1} of {len(kinds)} is a film, which is a whole clip.",
            "send a film alone, or the frames of one clip.",
        )
    return False


def _kind(content: bytes) -> str | None:
    """As `kind_of`; None for HEIC and AVIF photographs, which use film containers."""
    kind = kind_of(content[:HEAD])
    return kind if kind == ANIMATION or sniff(content[:HEADER_BYTES]) is None else None


def frames_of(content: bytes, sampling: Sampling, limits: Limits) -> list[bytes]:
    """The sampled frames of a film, in order, as PNG files like in training; an image gives itself.

    All frames together may have as many pixels as all images of a request; the file may be as large as a request.

    Args:
        content: a file that `may_be_film`.
        sampling: which frames to take.
        limits: the server's limits.

    Raises:
        RequestProblem: if films cannot be read here, or it is damaged or too large.
    """
    animation = _kind(content) == ANIMATION
    if animation and not moves(content):
        return [content]
    try:
        if not animation:
            refuse_lacking()
        times = _times(content, limits)
        taken = sampling.choose(len(times), times).tolist()
        return _pictures(content, taken)
    except UnreadableImage as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise _too_many(limits) from None
        raise RequestProblem("not-an-image", f"The film {error.message}.", "send it in another format.") from None
    except TlkitError as error:
        raise RequestProblem("no-films", f"{error.message[0].upper()}{error.message[1:]}") from None


def _times(content: bytes, limits: Limits) -> list[float]:
    """The presentation time of each frame."""
    times, seen = [], 0
    for frame in frames(content):
        seen += max(frame.area, LEAST)
        if frame.area > limits.pixels or seen > limits.images * limits.pixels:
            raise _too_many(limits)
        times.append(frame.time)
    return times


def _too_many(limits: Limits) -> RequestProblem:
    each, together = limits.pixels / 1e6, limits.images * limits.pixels / 1e6
    return RequestProblem(
        "too-many-pixels",
        f"The limit is {each:.3g} million for a frame, and {together:.3g} million for all frames of a film.",
        "send a shorter or smaller film, or the frames.",
    )


def _pictures(content: bytes, taken: Sequence[int]) -> list[bytes]:
    """The frames at these indices, ascending."""
    found: list[bytes] = []
    for frame in frames(content):
        if frame.place == taken[len(found)]:
            found.append(_png(frame))
        if len(found) == len(taken):
            break
    return found


def _png(frame: Frame) -> bytes:
    file = io.BytesIO()
    frame.image().save(file, "PNG", compress_level=1)
    return file.getvalue()
