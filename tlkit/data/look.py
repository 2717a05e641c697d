"""Read every file once: what it holds, its hash, facts of its header, and of a small copy of its pixels."""

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

# All pixel facts are of one small copy: 128 pixels are what small networks see, and comparable between images.
SIDE = 128
SAME_COLOUR = 2  # grey levels, in each channel: what JPEG makes of one colour
CHUNK = 64  # files a thread takes at a time: their arrays are worked on together
MANY = 256  # likewise of those that are only hashed: enough to forget the cost of handing over
_COPY = InputContract(height=SIDE, width=SIDE)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_ORIENTATION, _MAKE, _MODEL, _TAKEN, _EXIF, _ORIGINAL = 0x0112, 0x010F, 0x0110, 0x0132, 0x8769, 0x9003


@dataclass(frozen=True)
class Looks:
    """Facts about N image files, in columns.

    Args:
        problem: why the file could not be decoded, "" where it could.
        format: as Pillow names it (JPEG, PNG, ...); "" where the file could not be decoded, as all that follows.
        mode: of the pixels as stored (RGB, L, P, CMYK, ...).
        camera: maker and model from EXIF, "" where there is none.
        taken: date and time from EXIF as written (2024:05:01 10:20:30), "" where there is none.
        width: int32 (N,), pixels, upright.
        height: int32 (N,), pixels, upright.
        orientation: int8 (N,), EXIF orientation 1..8; 1 is upright.
        frames: int32 (N,), more than 1 in animations and multi-page files.
        quality: float32 (N,), JPEG quality 1..100 estimated from the quantisation table; NaN in other formats.
        colour: float32 (N, 3), mean R, G, B of the picture, 0..255.
        contrast: float32 (N,), standard deviation of grey, 0..128.
        sharpness: float32 (N,), standard deviation of the Laplacian of grey at 128 pixels a side.
        border: float32 (N, 3), mean R, G, B of the outermost tenth.
        plain: bool (N,), one colour throughout.
        frame: float32 (N,), standard deviation of grey in the outermost two pixels: 0 where there is a plain frame.
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
        """float32 (N,), mean grey 0..255."""
        return self.colour @ _GREY

    @property
    def aspect(self) -> np.ndarray:
        """float64 (N,), width over height."""
        return self.width / np.maximum(self.height, 1)

    def select(self, indices: np.ndarray) -> "Looks":
        """Some of the files."""
        return Looks(**{spec.name: getattr(self, spec.name)[indices] for spec in fields(self)})


class GrowingLooks:
    """Facts that come of some files at a time, to become `Looks`; numbers are put in their places, so that nothing is held twice.

    Args:
        most: files at most.
    """

    def __init__(self, most: int) -> None:
        self._most, self._rows = most, 0
        self._numbers: dict[str, np.ndarray] = {}
        self._texts: dict[str, list[np.ndarray]] = {}
        self.add(Looker(0).columns())

    def add(self, columns: dict[str, np.ndarray]) -> None:
        """Those of the next files."""
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
        """All of them."""
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
    """The facts of every file: as the scan saw them, else looked at now."""
    if dataset.looks is not None:
        return dataset.looks
    return look(dataset.files, story=story)


class _Chunk:
    """Some files; its length is what counts as progress."""

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
    """Facts of files whose bytes somebody else reads, one after the other.

    Args:
        most: files at most.
    """

    def __init__(self, most: int) -> None:
        self._pixels = np.zeros((most, SIDE, SIDE, 3), np.uint8)
        self._headers: list[dict[str, Any]] = []

    def add(self, content: bytes | str) -> None:
        """The bytes of the next file, or why there are none."""
        row = self._pixels[len(self._headers)]
        self._headers.append({"problem": content} if isinstance(content, str) else _header(content, row))

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `Looks`."""
        return _columns(self._headers) | _pixel_facts(self._pixels[: len(self._headers)])


class Checker:
    """Decodes files whose bytes somebody else reads, and keeps nothing.

    Args:
        most: files at most.
    """

    def __init__(self, most: int) -> None:
        del most

    def add(self, content: bytes) -> None:
        """The bytes of the next file.

        Raises:
            UnreadableImage: why it cannot be decoded.
        """
        decode(content, CHEAP)

    def columns(self) -> None:
        """As `Looker`, of nothing."""


# -- header ------------------------------------------------------------------------------------

# name -> (type of the column, its value where nothing could be read)
_HEADER: dict[str, tuple[Any, Any]] = {
    "problem": (object, ""),  # as wide as the longest, text would take hundreds of bytes a file
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
    """What the header says, or why the file cannot be decoded; the small copy goes into `pixels`."""
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
    """Tags of the image and of its EXIF block; none where they are damaged."""
    if not image.info.get("exif") and image.format not in ("TIFF", "PNG", "MPO"):
        return {}  # nine files in ten; reading an absent block costs as much as the header
    try:
        exif = image.getexif()
        return {**exif, **exif.get_ifd(_EXIF)}
    except Exception:  # noqa: BLE001 - Pillow stumbles over damaged tags in any way it likes
        return {}


# The luminance table of quality 50 (ITU-T T.81, Annex K.1); others are multiples of it in most encoders.
_LUMINANCE_SUM = 3689


def jpeg_quality(tables: dict[int, Sequence[int]]) -> float:
    """Quality 1..100 on the scale of the Independent JPEG Group, from the luminance table; NaN without one."""
    if not tables:
        return float("nan")
    scale = 100 * sum(tables[min(tables)]) / _LUMINANCE_SUM
    return float(np.clip(round((200 - scale) / 2 if scale <= 100 else 5000 / scale), 1, 100))


# -- pixels ------------------------------------------------------------------------------------


def _pixel_facts(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Facts of uint8 (n, SIDE, SIDE, 3). Pillow makes grey and small copies: NumPy would take ten times as long."""
    n, edge = len(pixels), HASH_SIDE // 10
    images = [Image.fromarray(picture) for picture in pixels]
    grey = np.stack([np.asarray(image.convert("L")) for image in images]) if n else np.empty((0, SIDE, SIDE), np.uint8)
    coarse = (
        np.stack([np.asarray(image.reduce(SIDE // HASH_SIDE)) for image in images])
        if n
        else pixels[:, :HASH_SIDE, :HASH_SIDE]
    )
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
        "plain": np.ptp(pixels.reshape(n, SIDE * SIDE, 3), axis=1).max(axis=1) <= SAME_COLOUR,
        "frame": _deviation(rim),
        "small": np.rint(coarse.astype(np.float32) @ _GREY).astype(np.uint8),
    }


def _deviation(values: np.ndarray) -> np.ndarray:
    """float32 (n,), standard deviation of each row of integers."""
    numbers = values.astype(np.float32)
    mean = numbers.mean(axis=1)
    square = np.einsum("ij,ij->i", numbers, numbers) / numbers.shape[1]
    return np.sqrt(np.maximum(square - mean**2, 0))


# -- Perceptual hashes: 64 bits that hardly change when an image is saved again, resized or brightened ---

HASH_SIDE, LOW = 32, 8
BITS = LOW * LOW
_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def perceptual_hash(small: np.ndarray) -> np.ndarray:
    """uint8 (N, 8): which of the 64 lowest frequencies of a small copy lie above their median.

    The pHash of Zauner (2010): 32 x 32 grey, discrete cosine transform, its top left 8 x 8.

    Args:
        small: (N, 32, 32), grey.
    """
    waves = np.cos(np.pi / HASH_SIDE * np.outer(np.arange(LOW), np.arange(HASH_SIDE) + 0.5)).astype(np.float32)
    spectrum = (waves @ small.astype(np.float32) @ waves.T).reshape(len(small), BITS)
    spectrum[:, 0] = 0.0  # the mean brightness, which says nothing
    return np.packbits(spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True), axis=1)


def distance(hashes: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Bits 0..64 in which hashes[left] and hashes[right] differ; int64 (n,).

    Args:
        hashes: uint8 (N, 8).
        left: int (n,), rows.
        right: int (n,), rows.
    """
    return _BITS_SET[hashes[left] ^ hashes[right]].sum(axis=1, dtype=np.int64)


# -- What listed files hold: sniffed, hashed, and looked at where that is wanted, from the same bytes ---

PIECE = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Contents:
    """What N listed files turned out to hold.

    Args:
        images: int64 (n,), which of the listed files are images, ascending.
        sha256: uint8 (n, 32), of those.
        sizes: int64 (n,), bytes, of those.
        problems: files that should be images by their name, or were named by the user, and are not.
        ignored: how many others are no images.
        looks: of the images, None where they were not looked at.
    """

    images: np.ndarray
    sha256: np.ndarray
    sizes: np.ndarray
    problems: tuple[Problem, ...]
    ignored: int
    looks: Looks | None = None


@dataclass
class _Found:
    """The findings of some files."""

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
        """Those of further files after them."""
        self.images.extend(other.images)
        self.digests += other.digests
        self.sizes.extend(other.sizes)
        self.problems += other.problems
        self.ignored += other.ignored


def read_contents(
    root: Path, paths: Sequence[str], story: Story, *, all_meant: bool = False, by: type[Looker | Checker] | None = None
) -> Contents:
    """Identify and hash files in threads; memory beyond the result does not grow with their number.

    Args:
        root: the folder that `paths` are relative to.
        paths: the files.
        story: hears the progress.
        all_meant: every file was named as an image by the user, so that none may be left out unsaid.
        by: who decodes images as well, each from the same bytes as its hash: to look at them, or so that those that
            cannot be decoded are problems.
    """
    size = CHUNK if by is Looker else MANY
    threads = usable_cores() if by else min(32, 2 * usable_cores())  # waiting for the disk costs no core
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
    """sha256 and size of an image file, which is looked at or decoded where that is wanted; or what else it holds."""
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
