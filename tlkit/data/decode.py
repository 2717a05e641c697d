"""Decode files to batches of pixels, ahead of the consumer; `decoding.py` decodes each file."""

import hashlib
import io
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.machine import usable_cores
from tlkit.base.story import SILENCE, Story
from tlkit.data.dataset import SPLITS, UNASSIGNED, Dataset, InputContract, Problem
from tlkit.options.groups import ImageOptions, parse_levels
from tlkit.pixels.contract import Levels
from tlkit.pixels.decoding import decode as decode
from tlkit.pixels.decoding import native as native
from tlkit.pixels.decoding import placement as placement
from tlkit.pixels.decoding import thumbnail as thumbnail
from tlkit.pixels.opening import deep_samples_of


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode an RGB image as JPEG; quality 1..95, see Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


Source = Path | bytes | Callable[[], bytes]  # a file, its bytes, or a function that reads them in the decoding thread


@dataclass(frozen=True)
class Batch:
    """Some images of a longer list, decoded.

    Args:
        indices: int64 (b,), positions in the list, ascending.
        images: uint8 (b, H, W, 3), RGB 0..255.
        problems: (position, reason) of the files that could not be decoded; they are not in `indices` and `images`.
    """

    indices: np.ndarray
    images: np.ndarray
    problems: list[tuple[int, str]]

    def __len__(self) -> int:
        """Files consumed, good and bad."""
        return len(self.indices) + len(self.problems)


def batches(
    files: Iterable[Source], contract: InputContract, batch_size: int, *, threads: int | None = None
) -> Iterator[Batch]:
    """Decode files in order, ahead of the consumer in threads, in batches of `batch_size` files.

    At most two batches are begun ahead. Closing the iterator stops the threads.

    Args:
        files: image files, their bytes, or functions that read them and may raise `UnreadableImage`.
        contract: how to decode them.
        batch_size: files per batch; the last one may be smaller, none is empty.
        threads: number of threads; default: one per usable core. Decoders and resize work outside the interpreter lock.
    """
    threads = threads or usable_cores()
    pace = _Pace(contract, most=min(8, batch_size))
    pieces = pace.cut(_slots(files, contract, batch_size))
    filled = in_order(pace.fill, pieces, threads=threads, ahead=2 * batch_size + threads + 1 - pace.most, weight=len)
    with closing(filled):
        waiting: list[_Slot] = []
        for slot in chain.from_iterable(filled):
            waiting.append(slot)
            if len(waiting) == batch_size:
                yield _batch(waiting)
                waiting = []
        if waiting:
            yield _batch(waiting)


@dataclass
class _Slot:
    """The slot of one image in the array of its batch."""

    source: Source
    index: int
    images: np.ndarray
    row: int
    problem: str = ""


def _slots(files: Iterable[Source], contract: InputContract, batch_size: int) -> Iterator[_Slot]:
    """A slot for every file, with a new array for every batch."""
    for index, source in enumerate(files):
        row = index % batch_size
        if row == 0:
            images = np.empty((batch_size, contract.height, contract.width, 3), dtype=np.uint8)
        yield _Slot(source, index, images, row)


class _Pace:
    """How many images a thread takes at a time: one photograph, or several small files.

    Handing over a task costs about as much as decoding an image of 128 pixels, and both threads hold the interpreter
    lock for it.
    """

    WORTH = 0.002  # seconds of work that outweigh handing over

    def __init__(self, contract: InputContract, most: int) -> None:
        self.contract, self.most, self.size = contract, most, 1

    def cut(self, slots: Iterator[_Slot]) -> Iterator[list[_Slot]]:
        """Split the slots into pieces of the current size."""
        while piece := list(islice(slots, self.size)):
            yield piece

    def fill(self, piece: list[_Slot]) -> list[_Slot]:
        began = time.perf_counter()
        for slot in piece:
            _fill(self.contract, slot)
        each = (time.perf_counter() - began) / len(piece)
        self.size = max(1, min(self.most, int(self.WORTH / each)))
        return piece


def _fill(contract: InputContract, slot: _Slot) -> None:
    try:
        source = slot.source if isinstance(slot.source, Path | bytes) else slot.source()
        slot.images[slot.row] = decode(source, contract)
    except UnreadableImage as error:
        slot.problem = error.message


def _batch(slots: list[_Slot]) -> Batch:
    good = [slot for slot in slots if not slot.problem]
    images = slots[0].images[: len(slots)]
    return Batch(
        indices=np.array([slot.index for slot in good], dtype=np.int64),
        images=images if len(good) == len(slots) else images[[slot.row for slot in good]],
        problems=[(slot.index, slot.problem) for slot in slots if slot.problem],
    )


# -- Threads that keep their results in order and never run far ahead --------------------------

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int,
    ahead: int,
    weight: Callable[[T], int] = lambda _: 1,
) -> Generator[R, None, None]:
    """`function` of every item, in order, computed in threads at most `ahead` (in weight) before the consumer.

    Closing the iterator early drops pending items and waits for running ones.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tlkit-data")
    begun: deque[tuple[Future[R], int]] = deque()
    under_way = 0
    try:
        for item in items:
            begun.append((pool.submit(function, item), weight(item)))
            under_way += begun[-1][1]
            while under_way >= ahead:
                future, released = begun.popleft()
                under_way -= released
                yield future.result()
        while begun:
            yield begun.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# -- Unreadable files: finding them and setting them aside -------------------------------

# All bytes of a file are decoded at any output size; a small one saves the rest of the work.
CHEAP = InputContract(height=8, width=8)


def check(dataset: Dataset, *, story: Story = SILENCE, threads: int | None = None) -> list[Problem]:
    """Decode every image in full and return those that fail, in the order of the rows."""
    threads = threads or usable_cores()
    reasons = in_order(partial(_reason, dataset), range(len(dataset)), threads=threads, ahead=32 * threads)
    tracked = story.track(reasons, "decoding", len(dataset))
    return [Problem(dataset.paths[i], reason.words) for i, reason in enumerate(tracked) if reason.words]


class _Reason:
    """The reason an image is unreadable, "" if it is not; not a `str`, whose length would count as progress."""

    __slots__ = ("words",)

    def __init__(self, words: str) -> None:
        self.words = words


def _reason(dataset: Dataset, index: int) -> _Reason:
    try:
        decode(dataset.file(index), CHEAP)
    except UnreadableImage as error:
        return _Reason(error.message)
    return _Reason("")


def set_aside(dataset: Dataset, problems: Sequence[Problem], on_bad: str) -> Dataset:
    """The manifest without the unreadable files, each listed with its reason in `set_aside`.

    Args:
        dataset: as scanned; files set aside by the scan count too.
        problems: problems found since.
        on_bad: `skip`, or `fail` to refuse any.

    Raises:
        TlkitError: if `fail` and there are any, or if a class has no image left to train on.
    """
    found = [*dataset.set_aside, *problems]
    if on_bad == "fail" and found:
        raise TlkitError(
            f"{len(found)} {'file' if len(found) == 1 else 'files'} cannot be used: {named(found)}.",
            "repair or remove them, or use --on-bad skip to set them aside.",
        )
    if not problems:
        return dataset
    kept = dataset.without(problems)
    _refuse_emptied(dataset, kept, problems)
    if not len(kept):
        raise TlkitError(f"none of the {len(dataset)} images can be decoded: {named(found)}.", "check the folder.")
    return kept


def _refuse_emptied(dataset: Dataset, kept: Dataset, problems: Sequence[Problem]) -> None:
    """Raise for a class that has lost all its training images (all its images if no split is given)."""
    train = SPLITS.index("train")
    splits = (train, UNASSIGNED) if (dataset.given == train).any() else (*range(len(SPLITS)), UNASSIGNED)
    before = dataset.select(np.flatnonzero(np.isin(dataset.given, splits)))
    after = kept.select(np.flatnonzero(np.isin(kept.given, splits)))
    for label in np.flatnonzero((before.class_counts() > 0) & (after.class_counts() == 0)).tolist():
        bad = {before.paths[i] for i in np.flatnonzero(before.of_class(label)).tolist()}
        of = "training images" if len(splits) == 2 else "images"
        raise TlkitError(
            f"none of the {len(bad)} {of} of class {dataset.classes[label]!r} can be decoded: "
            f"{named([problem for problem in problems if problem.path in bad])}.",
            "replace them, or remove the class.",
        )


def named(problems: Sequence[Problem], most: int = 3) -> str:
    """The first files with their reasons, and the number of others."""
    first = "; ".join(f"{problem.path!r} {problem.reason}" for problem in problems[:most])
    return first + (f"; and {len(problems) - most} more" if len(problems) > most else "")


# -- Levels: detecting dark scans, determining `--levels`, making the input contract ---
#
# In a 16-bit file 65535 is white. Cameras and DICOM exports that use only 12 of the bits produce files that decode
# almost black.

EIGHT_BITS = ("JPEG", "MPO", "WEBP", "GIF", "BMP", "ICO")  # formats with at most 8 bits per sample: not opened
TOGETHER = 16  # files per thread task: most are only opened
LOOKED_AT = 256  # files, evenly over the set: enough to tell how its scans are encoded
DARK = 4  # a set is dark if its brightest value is at most white / DARK


def contract_for(config: ImageOptions, size: tuple[int, int], dataset: Dataset, story: Story) -> InputContract:
    """The input contract of a network of input size (H, W) for these images; errors and messages as in `levels_for`."""
    levels = levels_for(config, dataset, story)
    return InputContract(height=size[0], width=size[1], fit=config.fit, levels=levels)


def levels_for(config: ImageOptions, dataset: Dataset, story: Story) -> Levels | None:
    """The requested levels; reports what `auto` found and, without the option, dark images.

    Raises:
        TlkitError: for `auto`, if no image has more than 8 bits per sample, or all have one value.
    """
    if config.levels is not None:
        return parse_levels(config.levels) or least_to_greatest(_may_be_deep(dataset), story)
    if warning := dark_scans(dataset):
        story.say(warning)
    return None


def dark_scans(dataset: Dataset) -> str:
    """`dark` of the images, cached: a run and its audit both ask, a grid search for every fold."""
    names = "\0".join((str(dataset.root), *dataset.paths)).encode("utf-8", "surrogateescape")
    content = hashlib.sha256(dataset.sha256.tobytes() + names).digest()
    if content not in _known_dark:
        if len(_known_dark) >= REMEMBERED:
            _known_dark.clear()
        _known_dark[content] = dark(_may_be_deep(dataset))
    return _known_dark[content]


REMEMBERED = 64  # data sets
_known_dark: dict[bytes, str] = {}  # sha256 of the files' content and location -> message


def _may_be_deep(dataset: Dataset) -> list[Path]:
    """The files that may have more than 8 bits per sample; all if they were not inspected."""
    shallow = np.zeros(len(dataset), bool) if dataset.looks is None else np.isin(dataset.looks.format, EIGHT_BITS)
    return [dataset.file(i) for i in np.flatnonzero(~shallow).tolist()]


def dark(files: Sequence[Path]) -> str:
    """A warning with the remedy if all files of more than 8 bits per sample are far darker than possible; else ""."""
    places = np.linspace(0, len(files) - 1, min(LOOKED_AT, len(files))).round().astype(int)
    found = [(high, white) for _, high, white in _each([files[i] for i in places]) if white]
    brightest, white = max((high for high, _ in found), default=0.0), max((white for _, white in found), default=0)
    if not found or brightest * DARK > white:
        return ""
    bits = max(8, int(brightest).bit_length())
    return (
        f"the images are dark: in {len(found)} of more than 8 bits a sample the brightest value is {brightest:g}, and "
        f"{white} is white. If they hold {bits} bits, `--levels 0,{2**bits - 1}` maps those, `--levels auto` the "
        "smallest to the largest value; otherwise they are decoded almost black."
    )


def least_to_greatest(files: Sequence[Path], story: Story) -> Levels:
    """The smallest and largest value in all files of more than 8 bits per sample.

    Raises:
        TlkitError: if there are none, or they hold a single value.
    """
    ranges = _each(files)
    if not ranges:
        raise TlkitError("--levels auto: no image has more than 8 bits a sample.", "leave it out.")
    low, high = min(low for low, _, _ in ranges), max(high for _, high, _ in ranges)
    if low == high:
        raise TlkitError(f"--levels auto: all {len(ranges)} images hold only the value {low:g}.", "check the images.")
    story.say(f"levels {low:g} to {high:g}: the smallest and largest value in {len(ranges)} images of more than 8 bits")
    return low, high


def _each(files: Sequence[Path]) -> list[tuple[float, float, int | None]]:
    """Smallest value, largest value and white level of every file of more than 8 bits per sample."""
    threads, groups = usable_cores(), [files[start : start + TOGETHER] for start in range(0, len(files), TOGETHER)]
    return [found for group in in_order(_extremes_of, groups, threads=threads, ahead=4 * threads) for found in group]


def _extremes_of(files: Sequence[Path]) -> list[tuple[float, float, int | None]]:
    return [found for file in files if (found := _extremes(file))]


def _extremes(file: Path) -> tuple[float, float, int | None] | None:
    try:
        samples = deep_samples_of(file)
        return None if samples is None else (*samples.range(), samples.declared)
    except UnreadableImage:
        return None  # will be set aside, with the reason, when decoded
