"""Frames of containers as files: decoded once, kept in the cache by the content of the container.

    CACHE/frames/ID/frames.json     when each frame of the container is shown
                   /000012.png      the frame at that place, as it was decoded

A frame is then an image file like any other: known by its content, so that its features are found again, whatever the
container is called. Files appear whole; what was decoded before a kill stays.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlkit.base.errors import UnreadableImage
from tlkit.base.files import read_json, replacing, sha256_file, write_json
from tlkit.base.machine import cache_dir
from tlkit.data.containers.reading import frames
from tlkit.data.sampling import Sampling

FORMAT = 1
INDEX = "frames.json"


def frames_dir() -> Path:
    """The folder of the frames of all containers."""
    return cache_dir()[0] / "frames"


def frame_files(film: Path, sampling: Sampling) -> list[Path]:
    """The files of the frames of a container that are taken, in order; decoded where they are not there yet.

    Raises:
        UnreadableImage: what is wrong with it.
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
    taken = sampling.choose(len(times), times).tolist()
    files = {place: folder / f"{place:06d}.png" for place in taken}
    lacking = {place for place, file in files.items() if not file.is_file()}
    if lacking:
        for frame in frames(film):
            if frame.place in lacking:
                with replacing(files[frame.place]) as temporary:
                    frame.image().save(temporary, "PNG", compress_level=1)
    return list(files.values())


def _times(folder: Path) -> list[float] | None:
    """When each frame is shown, in seconds, if the container was read before."""
    try:
        about = read_json(folder / INDEX)
        return about["times"] if about["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- What is kept, for `tlkit cache` ---


@dataclass(frozen=True)
class Film:
    """The frames of one container: where, bytes, and when one was last written (seconds since the epoch)."""

    folder: Path
    bytes: int
    written: float


def list_kept() -> list[Film]:
    """The frames of every container."""
    root = frames_dir()
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        sizes = [file.stat() for file in folder.iterdir()]
        found.append(Film(folder, sum(one.st_size for one in sizes), max((one.st_mtime for one in sizes), default=0.0)))
    return found


def clear(older_than: float | None) -> int:
    """Remove the frames of containers, those alone that were decoded so many days ago where it is given; the bytes freed."""
    limit = time.time() - 86400 * (older_than or 0.0)
    gone: Sequence[Film] = [one for one in list_kept() if older_than is None or one.written < limit]
    for one in gone:
        shutil.rmtree(one.folder)
    return sum(one.bytes for one in gone)
