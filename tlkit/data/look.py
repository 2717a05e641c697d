"""Read every file once: its type, its hash, and facts from its header and a small copy of its pixels."""

import hashlib
import io
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkit.base.errors import UnreadableImage
from tlkit.base.machine import usable_cores
from tlkit.base.story import Silence, Story
from tlkit.data.dataset import Dataset, InputContract, Problem
from tlkit.data.decode import CHEAP, decode, in_order
from tlkit.pixels.opening import FORMATS
from tlkit.pixels.sniff import HEADER_BYTES, IMAGE_SUFFIXES, describe, sniff, suffix

# All pixel facts come from one small copy: 128 pixels is the input of small networks, and comparable between images.
SIDE = 128
SAME_COLOUR = 2  # grey levels per channel: the spread JPEG gives to a single colour
CHUNK = 64  # files per thread task: their arrays are processed together
MANY = 256  # files per thread task if only hashed: enough to outweigh handing over
_COPY = InputContract(height=SIDE, width=SIDE)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_ORIENTATION, _MAKE, _MODEL, _TAKEN, _EXIF, _ORIGINAL = 0x0112, 0x010F, 0x0110, 0x0132, 0x8769, 0x9003


@dataclass(frozen=True)
class Looks:
    """Facts about N image files, in columns.

    Args:
        problem: reason the file could not be decoded, "" if it could.
        format: Pillow's name of the format (JPEG, PNG, ...); "" if the file could not be decoded, like all fields
            below.
        mode: mode of the stored pixels (RGB, L, P, CMYK, ...).
        camera: maker and model from EXIF, "" if there is none.
        taken: date and time from EXIF as written (2024:05:01 10:20:30), "" if there is none.
        width: int32 (N,), pixels, upright.
        height: int32 (N,), pixels, upright.
        orientation: int8 (N,), EXIF orientation 1..8; 1 is upright.
        frames: int32 (N,), more than 1 for animations and multi-page files.
        quality: float32 (N,), JPEG quality 1..100 estimated from the quantisation table; NaN in other formats.
        colour: float32 (N, 3), mean R, G, B of the image, 0..255.
        contrast: float32 (N,), standard deviation of grey, 0..128.
        sharpness: float32 (N,), standard deviation of the Laplacian of grey at 128 pixels a side.
        border: float32 (N, 3), mean R, G, B of the outermost tenth.
        plain: bool (N,), whether the image is a single colour.
        frame: float32 (N,), standard deviation of grey in the outermost two pixels: 0 for a plain frame.
        small: uint8 (N, 32, 32), a grey copy.
    """

    problem: np.ndarray
    format: np.ndarray
    mode: np.ndarray
    camera: np.ndarray
    taken: np.ndarray
    width: np.ndarray
    height: np.ndarray
    orientation: np.ndarray
    frames: np.ndarray
    quality: np.ndarray
    colour: np.ndarray
    contrast: np.ndarray
    sharpness: np.ndarray
    border: np.ndarray
    plain: np.ndarray
    frame: np.ndarray
    small: np.ndarray

    def __len__(self) -> int:
        return len(self.width)

    @property
    def brightness(self) -> np.ndarray:
        """Mean grey 0..255, float32 (N,)."""
        return self.colour @ _GREY

    @property
    def aspect(self) -> np.ndarray:
        """Width over height, float64 (N,)."""
        return self.width / np.maximum(self.height, 1)

    def select(self, indices: np.ndarray) -> "Looks":
        """The facts of some of the files."""
        return Looks(**{spec.name: getattr(self, spec.name)[indices] for spec in fields(self)})


class GrowingLooks:
    """A builder of `Looks` from chunks of files; numbers are written in place, so that nothing is held twice.

    Args:
        most: maximum number of files.
    """

    def __init__(self, most: int) -> None:
        self._most, self._rows = most, 0
        self._numbers: dict[str, np.ndarray] = {}
        self._texts: dict[str, list[np.ndarray]] = {}
        self.add(Looker(0).columns())

    def add(self, columns: dict[str, np.ndarray]) -> None:
        """Append the facts of the next files."""
        rows = slice(self._rows, self._rows + len(columns["width"]))
        for name, column in columns.items():
            if column.dtype.kind in "UO":
                self._texts.setdefault(name, []).append(column)
                continue
            if name not in self._numbers:
                self._numbers[name] = np.empty((self._most, *column.shape[1:]), column.dtype)
            self._numbers[name][rows] = column
        self._rows = rows.stop

    def done(self) -> Looks:
        """The facts of all files so far."""
        texts = {name: np.concatenate(parts) for name, parts in self._texts.items()}
        return Looks(**texts, **{name: column[: self._rows] for name, column in self._numbers.items()})


def look(files: Sequence[Path], *, story: Story | None = None, threads: int | None = None) -> Looks:
    """The facts of every file; one that cannot be decoded has format "" and zeros."""
    threads = threads or usable_cores()
    chunks = (files[start : start + CHUNK] for start in range(0, len(files), CHUNK))
    looked = in_order(_Chunk, chunks, threads=threads, ahead=2 * threads)
    growing = GrowingLooks(len(files))
    for chunk in (story or Silence()).track(looked, "looking at files", len(files)):
        growing.add(chunk.columns)
    return growing.done()


def looks_of(dataset: Dataset, story: Story) -> Looks:
    """The facts of every file, from the scan if it has them."""
    if dataset.looks is not None:
        return dataset.looks
    return look(dataset.files, story=story)


class _Chunk:
    """The facts of some files; its length counts as progress."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files, looker = len(files), Looker(len(files))
        for file in files:
            try:
                looker.add(file.read_bytes())
            except OSError as error:
                looker.add(f"cannot be read: {error.strerror or error}")
        self.columns = looker.columns()

    def __len__(self) -> int:
        return self.files


class Looker:
    """Collects facts of files from their bytes, one after the other.

    Args:
        most: maximum number of files.
    """

    def __init__(self, most: int) -> None:
        self._pixels = np.zeros((most, SIDE, SIDE, 3), np.uint8)
        self._headers: list[dict[str, Any]] = []

    def add(self, content: bytes | str) -> None:
        """Process the bytes of the next file, or the reason there are none."""
        row = self._pixels[len(self._headers)]
        self._headers.append({"problem": content} if isinstance(content, str) else _header(content, row))

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `Looks`."""
        return _columns(self._headers) | _pixel_facts(self._pixels[: len(self._headers)])


class Checker:
    """Checks that files can be decoded from their bytes; has the interface of `Looker`.

    Args:
        most: maximum number of files.
    """

    def __init__(self, most: int) -> None:
        del most

    def add(self, content: bytes) -> None:
        """Decode the bytes of the next file.

        Raises:
            UnreadableImage: if it cannot be decoded, with the reason.
        """
        decode(content, CHEAP)

    def columns(self) -> None:
        """None, as no facts are kept."""


# -- header ------------------------------------------------------------------------------------

# name -> (type of the column, its value if it could not be read)
_HEADER: dict[str, tuple[Any, Any]] = {
    "problem": (object, ""),  # fixed-width text would take hundreds of bytes per file
    "format": (str, ""),
    "mode": (str, ""),
    "camera": (str, ""),
    "taken": (str, ""),
    "width": (np.int32, 0),
    "height": (np.int32, 0),
    "orientation": (np.int8, 1),
    "frames": (np.int32, 0),
    "quality": (np.float32, np.nan),
}


def _columns(headers: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {
        name: np.array([header.get(name, nothing) for header in headers], dtype=kind)
        for name, (kind, nothing) in _HEADER.items()
    }


def _header(content: bytes, pixels: np.ndarray) -> dict[str, Any]:
    """The facts of the header, or the reason the file cannot be decoded; the small copy is written to `pixels`."""
    try:
        pixels[:] = decode(content, _COPY)
    except UnreadableImage as error:
        return {"problem": str(error)}
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        exif = _exif(image)
        orientation = exif.get(_ORIENTATION, 1)
        orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
        width, height = image.size if orientation < 5 else image.size[::-1]
        return {
            "format": image.format or "",
            "mode": image.mode,
            "camera": " ".join(str(exif[tag]).strip("\0 ") for tag in (_MAKE, _MODEL) if tag in exif),
            "taken": str(exif.get(_ORIGINAL, exif.get(_TAKEN, ""))).strip("\0 "),
            "width": width,
            "height": height,
            "orientation": orientation,
            "frames": getattr(image, "n_frames", 1),
            "quality": jpeg_quality(getattr(image, "quantization", None) or {}),
        }


def _exif(image: Image.Image) -> dict[int, Any]:
    """Tags of the image and of its EXIF block; none if they are damaged."""
    if not image.info.get("exif") and image.format not in ("TIFF", "PNG", "MPO"):
        return {}  # nine files in ten; reading an absent block costs as much as the header
    try:
        exif = image.getexif()
        return {**exif, **exif.get_ifd(_EXIF)}
    except Exception:  # noqa: BLE001 - Pillow may raise anything on damaged tags
        return {}


# The luminance table of quality 50 (ITU-T T.81, Annex K.1); others are multiples of it in most encoders.
_LUMINANCE_SUM = 3689


def jpeg_quality(tables: dict[int, Sequence[int]]) -> float:
    """JPEG quality 1..100 on the scale of the Independent JPEG Group, from the luminance table; NaN without one."""
    if not tables:
        return float("nan")
    scale = 100 * sum(tables[min(tables)]) / _LUMINANCE_SUM
    return float(np.clip(round((200 - scale) / 2 if scale <= 100 else 5000 / scale), 1, 100))


# -- pixels ------------------------------------------------------------------------------------


def _pixel_facts(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Pixel facts of uint8 (n, SIDE, SIDE, 3); partly by Pillow, where NumPy would take ten times as long."""
    n, edge = len(pixels), HASH_SIDE // 10
    images = [Image.fromarray(picture) for picture in pixels]
    grey = np.stack([np.asarray(image.convert("L")) for image in images]) if n else np.empty((0, SIDE, SIDE), np.uint8)
    coarse = (
        np.stack([np.asarray(image.reduce(SIDE // HASH_SIDE)) for image in images])
        if n
        else pixels[:, :HASH_SIDE, :HASH_SIDE]
    )
    extremes = np.array([image.getextrema() for image in images], np.uint8).reshape(n, 3, 2)
    signed = grey.astype(np.int16)
    laplacian = np.diff(signed, 2, axis=1)[:, :, 1:-1] + np.diff(signed, 2, axis=2)[:, 1:-1]
    rim = np.concatenate(
        [part.reshape(n, 2 * SIDE) for part in (grey[:, :2], grey[:, -2:], grey[:, :, :2], grey[:, :, -2:])], axis=1
    )
    whole = coarse.sum(axis=(1, 2), dtype=np.float32)
    inner = coarse[:, edge:-edge, edge:-edge].sum(axis=(1, 2), dtype=np.float32)
    return {
        "colour": whole / HASH_SIDE**2,
        "contrast": _deviation(grey.reshape(n, SIDE * SIDE)),
        "sharpness": _deviation(laplacian.reshape(n, (SIDE - 2) ** 2)),
        "border": (whole - inner) / (HASH_SIDE**2 - (HASH_SIDE - 2 * edge) ** 2),
        "plain": (extremes[:, :, 1] - extremes[:, :, 0]).max(axis=1) <= SAME_COLOUR,
        "frame": _deviation(rim),
        "small": np.rint(coarse.astype(np.float32) @ _GREY).astype(np.uint8),
    }


def _deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation of each row of integers, float32 (n,)."""
    numbers = values.astype(np.float32)
    mean = numbers.mean(axis=1)
    square = np.einsum("ij,ij->i", numbers, numbers) / numbers.shape[1]
    return np.sqrt(np.maximum(square - mean**2, 0))


# -- Perceptual hashes: 64 bits that hardly change when an image is re-encoded, resized or brightened ---

HASH_SIDE, LOW = 32, 8
BITS = LOW * LOW
_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def perceptual_hash(small: np.ndarray) -> np.ndarray:
    """Perceptual hash, uint8 (N, 8): which of the 64 lowest frequencies of a small copy lie above their median.

    The pHash of Zauner (2010): 32 x 32 grey, discrete cosine transform, its top left 8 x 8.

    Args:
        small: (N, 32, 32), grey.
    """
    waves = np.cos(np.pi / HASH_SIDE * np.outer(np.arange(LOW), np.arange(HASH_SIDE) + 0.5)).astype(np.float32)
    spectrum = (waves @ small.astype(np.float32) @ waves.T).reshape(len(small), BITS)
    spectrum[:, 0] = 0.0  # the mean brightness, which is uninformative
    return np.packbits(spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True), axis=1)


def distance(hashes: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hamming distance 0..64 between hashes[left] and hashes[right], int64 (n,).

    Args:
        hashes: uint8 (N, 8).
        left: int (n,), rows.
        right: int (n,), rows.
    """
    return _BITS_SET[hashes[left] ^ hashes[right]].sum(axis=1, dtype=np.int64)


# -- Contents of listed files: identified, hashed and optionally decoded, from the same bytes ---

PIECE = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Contents:
    """The contents of N listed files.

    Args:
        images: int64 (n,), which of the listed files are images, ascending.
        sha256: uint8 (n, 32), hashes of those.
        sizes: int64 (n,), bytes of those.
        problems: files that should be images, by their name or because the user named them, but are not.
        ignored: number of other files that are not images.
        looks: facts of the images, None if not requested.
    """

    images: np.ndarray
    sha256: np.ndarray
    sizes: np.ndarray
    problems: tuple[Problem, ...]
    ignored: int
    looks: Looks | None = None


@dataclass
class _Found:
    """The contents of some files."""

    files: int
    images: "array[int]"
    digests: bytearray
    sizes: "array[int]"
    problems: list[Problem]
    ignored: int
    columns: dict[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.files

    def join(self, other: "_Found") -> None:
        """Append the contents of further files."""
        self.images.extend(other.images)
        self.digests += other.digests
        self.sizes.extend(other.sizes)
        self.problems += other.problems
        self.ignored += other.ignored


def read_contents(
    root: Path, paths: Sequence[str], story: Story, *, all_meant: bool = False, by: type[Looker | Checker] | None = None
) -> Contents:
    """Identify and hash files in threads; memory beyond the result is independent of their number.

    Args:
        root: the folder that `paths` are relative to.
        paths: the files.
        story: receives progress.
        all_meant: whether the user named every file as an image, so that none may be left out silently.
        by: class that also decodes the images from the same bytes, to collect facts or to find those that cannot be
            decoded.
    """
    size = CHUNK if by is Looker else MANY
    threads = usable_cores() if by else min(32, 2 * usable_cores())  # waiting for the disk uses no core
    read = partial(_read_chunk, root, paths, all_meant, by, size)
    starts = range(0, len(paths), size)
    found = _Found(len(paths), array("q"), bytearray(), array("q"), [], 0)
    looks = GrowingLooks(len(paths)) if by is Looker else None
    for chunk in story.track(in_order(read, starts, threads=threads, ahead=4 * threads), "reading files", len(paths)):
        found.join(chunk)
        if looks and chunk.columns:
            looks.add(chunk.columns)
    return Contents(
        images=np.array(found.images, dtype=np.int64),
        sha256=np.frombuffer(bytes(found.digests), dtype=np.uint8).reshape(-1, 32),
        sizes=np.array(found.sizes, dtype=np.int64),
        problems=tuple(found.problems),
        ignored=found.ignored,
        looks=looks.done() if looks else None,
    )


def _read_chunk(
    root: Path, paths: Sequence[str], all_meant: bool, by: type[Looker | Checker] | None, size: int, start: int
) -> _Found:
    stop = min(start + size, len(paths))
    chunk = _Found(stop - start, array("q"), bytearray(), array("q"), [], 0)
    looker = by(stop - start) if by else None
    for i in range(start, stop):
        path = paths[i]
        try:
            found = _fingerprint(os.path.join(root, path), path, looker)  # noqa: PTH118 - a million times
        except (OSError, UnreadableImage) as error:
            why = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            chunk.problems.append(Problem(path, why))
            continue
        if isinstance(found, str):
            if all_meant or suffix(path) in IMAGE_SUFFIXES:
                chunk.problems.append(Problem(path, found))
            else:
                chunk.ignored += 1
        else:
            chunk.images.append(i)
            chunk.digests += found[0]
            chunk.sizes.append(found[1])
    chunk.columns = looker.columns() if looker else None
    return chunk


def _fingerprint(file: str, path: str, looker: Looker | Checker | None) -> tuple[bytes, int] | str:
    """sha256 and size of an image file, passed to `looker` if given; or what the file is instead."""
    with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - a million times; Path.open costs as much as the hash
        piece = stream.read(PIECE)
        header = piece[:HEADER_BYTES]
        if sniff(header, path) is None:
            return describe(header)
        if looker:
            content = piece + stream.readall()
            looker.add(content)
            return hashlib.sha256(content).digest(), len(content)
        digest = hashlib.sha256(piece)
        size = len(piece)
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
        return digest.digest(), size
