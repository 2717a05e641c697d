"""Clips in one file: presentation times, pixels, and cached files of their frames.

PyAV (the extra `video`) reads films, Pillow animations. A film is opened from its bytes and only in the format that its
first bytes indicate: nothing in it can make FFmpeg open another file or a URL.

    CACHE/frames/ID/frames.json     presentation time of each frame of the film
                   /000012.png      the frame at that index, as decoded

A frame is then an ordinary image file, identified by its content, so that its features are found again whatever the
name of the film. Files are written atomically; frames decoded before a kill are kept.
"""

import importlib.util
import io
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.files import read_json, replacing, sha256_file, write_json
from tlkit.base.machine import cache_dir, install
from tlkit.pixels.opening import PIXEL_LIMIT
from tlkit.pixels.picture import Picture
from tlkit.pixels.sniff import describe

FILMS = frozenset(("mp4", "m4v", "mov", "avi", "mkv", "webm"))  # suffixes
ANIMATIONS = frozenset(("gif", "webp", "png", "apng"))  # suffixes; the content decides whether a file is animated
HEAD = 64  # bytes that identify the format
LATE = 3  # frames by which a film may be shorter than its header says, because of rounding


Film = Path | bytes  # a container: its file, or its bytes


class Frame(NamedTuple):
    """One frame: index, presentation time in seconds, number of pixels, and a function for its RGB or RGBA image."""

    place: int
    time: float
    area: int
    image: Callable[[], Image.Image]


def refuse_lacking() -> None:
    """Raise if films cannot be read.

    Raises:
        TlkitError: if PyAV is not installed.
    """
    if importlib.util.find_spec("av") is None:
        raise TlkitError(
            "clips in mp4, mov, avi, mkv or webm files need PyAV, which is not installed.", install("video")
        )


def moves(film: Film) -> bool:
    """Whether a file is an animation of several frames; False if Pillow cannot open it."""
    try:
        with _stream(film) as stream, Image.open(stream, formats=("GIF", "WEBP", "PNG")) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _stream(film: Film) -> BinaryIO:
    return io.BytesIO(film) if isinstance(film, bytes) else film.open("rb")


def frames(film: Film) -> Iterator[Frame]:
    """Every frame of a container in presentation order; images are created only on request.

    Raises:
        UnreadableImage: if it is not a container, of an unknown format, damaged, truncated or without pictures.
    """
    with _stream(film) as stream:
        head = stream.read(HEAD)
    kind = kind_of(head)
    if kind is None:
        reason = describe(head)
        raise UnreadableImage(reason.replace("not an image", "not a film").replace("no image format", "no film"))
    yield from _of_animation(film) if kind == ANIMATION else _of_film(film, kind)


ANIMATION = "animation"


def kind_of(head: bytes) -> str | None:
    """The FFmpeg format of a file by its first bytes, or `ANIMATION` for image formats that may hold several frames."""
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    animated = head.startswith((b"GIF8", b"\x89PNG")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    return ANIMATION if animated else None


# -- Animations ---


def _of_animation(film: Film) -> Iterator[Frame]:
    """Frames decoded by Pillow, which composes partial frames."""
    time = 0.0
    try:
        with _stream(film) as stream, Image.open(stream, formats=("GIF", "WEBP", "PNG")) as image:
            _refuse_huge(image.size)
            for place, shown in enumerate(ImageSequence.Iterator(image)):
                shown.load()
                area = image.width * image.height
                yield Frame(place, time, area, lambda shown=shown: shown.convert("RGBA"))  # type: ignore[misc]
                time += max(float(shown.info.get("duration", 0)), 0.0) / 1000
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's decoders may raise anything on damaged files
        raise UnreadableImage(f"is damaged: {error}") from error


# -- Films ---


@contextmanager
def _opened(film: Film, kind: str) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream."""
    import av

    av.logging.set_level(av.logging.PANIC)  # errors are raised
    try:
        with _stream(film) as stream, av.open(stream, format=kind, metadata_errors="replace") as container:
            films = [one for one in container.streams.video if not int(one.disposition) & COVER]
            if not films:
                raise UnreadableImage("holds sound and no pictures" if len(container.streams) else "holds no pictures")
            films[0].codec_context.thread_count = 1  # several films are read in parallel
            yield container, films[0]
    except (av.error.FFmpegError, IndexError) as error:
        raise UnreadableImage(f"is damaged or no film: {getattr(error, 'strerror', None) or error}") from error


COVER = 0x400  # AV_DISPOSITION_ATTACHED_PIC: the cover of an audio file


def _of_film(film: Film, kind: str) -> Iterator[Frame]:
    """Frames decoded by PyAV; every frame is decoded, because only then is their number known."""
    with _opened(film, kind) as (container, stream):
        packets, end, place = 0, 0.0, 0
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            packets += packet.pts is not None or packet.dts is not None
            if packet.is_corrupt:
                raise UnreadableImage(f"is damaged after {end:.2f} s")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise UnreadableImage(f"is damaged after {end:.2f} s")
                time = place / float(stream.average_rate or 25) if frame.time is None else float(frame.time)
                area = frame.width * frame.height
                yield Frame(place, time, area, lambda frame=frame: _picture(frame, stream))  # type: ignore[misc]
                place += 1
        _refuse_short(container, stream, packets, end)
        if not place:
            raise UnreadableImage("holds no frame")


def _refuse_short(container: Any, stream: Any, packets: int, end: float) -> None:
    """Raise if there is less than the film's header declares."""
    if stream.frames > packets:
        raise UnreadableImage(f"is cut short: {packets} of {stream.frames} frames are there")
    if container.duration and container.format.name.startswith("matroska"):
        declared, each = container.duration / 1e6, 1 / float(stream.average_rate or 25)
        begun = max(0.0, (container.start_time or 0) / 1e6)
        if end - begun < declared - max(LATE * each, 0.02 * declared):
            raise UnreadableImage(f"is cut short: {end:.2f} of {declared:.2f} s are there")


# EXIF orientation by the first and second column of the display matrix
_TURNS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def _picture(frame: Any, stream: Any) -> Image.Image:
    """The image of a frame as displayed: square pixels, upright, RGB, with transparency if the film has it."""
    _refuse_huge((frame.width, frame.height))
    aspect = stream.sample_aspect_ratio or 1
    width = max(1, round(frame.width * float(aspect)))
    form = "rgba" if any(component.is_alpha for component in frame.format.components) else "rgb24"
    pixels = frame.to_ndarray(format=form)
    size = (width, frame.height)
    if frame.interlaced_frame:  # two fields from two moments: keep the rows of one and interpolate between them
        pixels = pixels[::2]
    if pixels.shape[1::-1] != size:
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    return Image.fromarray(Picture.whole(pixels).upright(_orientation(frame)).pixels)


def _orientation(frame: Any) -> int:
    """EXIF orientation 1..8 of the display matrix, which shows (x, y) at (a x + c y, b x + d y)."""
    found = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if found is None:
        return 1
    a, b, _, c, d = (int(np.sign(value)) * (abs(value) > 1 << 10) for value in np.frombuffer(found, "<i4")[:5])
    if (a, b, c, d) not in _TURNS:
        raise UnreadableImage(f"is rotated by {-frame.rotation} degrees, which is not a multiple of 90")
    return _TURNS[a, b, c, d]


def _refuse_huge(size: Sequence[int]) -> None:
    width, height = size
    if not 0 < width * height <= PIXEL_LIMIT:
        raise UnreadableImage(f"declares {width}x{height} pixels, more than the limit of {PIXEL_LIMIT:,}")


# -- Frames as files --------------------------------------------------------------------------------

FORMAT = 1
INDEX = "frames.json"


def frames_dir() -> Path:
    """The cache folder of decoded frames."""
    return cache_dir()[0] / "frames"


def frame_files(film: Path, choose: Callable[[int, Sequence[float]], np.ndarray]) -> list[Path]:
    """The files of the sampled frames of a film, in order; decoded if not cached.

    Args:
        film: the file.
        choose: (number of frames, their times in seconds) -> int (n,), indices of the frames to take.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        folder = frames_dir() / sha256_file(film)[:32]
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror or error}") from error
    times = _times(folder)
    if times is None:
        times = [frame.time for frame in frames(film)]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / INDEX, {"format": FORMAT, "times": times})
    taken = choose(len(times), times).tolist()
    files = {place: folder / f"{place:06d}.png" for place in taken}
    lacking = {place for place, file in files.items() if not file.is_file()}
    if lacking:
        for frame in frames(film):
            if frame.place in lacking:
                with replacing(files[frame.place]) as temporary:
                    frame.image().save(temporary, "PNG", compress_level=1)
    return list(files.values())


def _times(folder: Path) -> list[float] | None:
    """The presentation times in seconds, if the container was read before."""
    try:
        about = read_json(folder / INDEX)
        return about["times"] if about["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- Cached frames, for `tlkit cache` ---


@dataclass(frozen=True)
class KeptFilm:
    """The frames of one container: folder, bytes, and time of the last write (seconds since the epoch)."""

    folder: Path
    bytes: int
    written: float


def list_films() -> list[KeptFilm]:
    """List the cached frames by container."""
    root = frames_dir()
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        sizes = [file.stat() for file in folder.iterdir()]
        found.append(
            KeptFilm(folder, sum(one.st_size for one in sizes), max((one.st_mtime for one in sizes), default=0.0))
        )
    return found


def clear(older_than: float | None) -> int:
    """Remove cached frames, only those decoded more than `older_than` days ago if given; return the bytes freed."""
    limit = time.time() - 86400 * (older_than or 0.0)
    gone: Sequence[KeptFilm] = [one for one in list_films() if older_than is None or one.written < limit]
    for one in gone:
        shutil.rmtree(one.folder)
    return sum(one.bytes for one in gone)
