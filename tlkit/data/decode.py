"""Files to pixels: the one decode and the one resize, for training, evaluation and prediction alike.

docs/decoding.md states the contract; `opening.py` and `colour.py` hold its first two thirds.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.machine import usable_cores
from tlkit.base.story import Silence, Story
from tlkit.data.dataset import SPLITS, UNASSIGNED, Dataset, InputContract, Problem
from tlkit.data.opening import open_upright

# An image is averaged in whole pixels, or decoded smaller where JPEG can, to no less than this many
# times the size it is then resized to. At 2 the pixels of photos lie half a grey level from those of
# a resize of the whole image, on average; at 3 nothing is gained on photos below two megapixels.
REDUCING_GAP = 2.0

Source = Path | bytes | Callable[[], bytes]  # a file, the bytes of one, or what reads them in the decoding thread
Size = tuple[int, int]
Box = tuple[float, float, float, float]


def decode(source: Path | bytes, contract: InputContract) -> np.ndarray:
    """uint8 (H, W, 3), RGB 0..255, of an image file or its bytes.

    Raises:
        UnreadableImage: and nothing else, whatever is wrong with the file.
    """
    return np.asarray(_fitted(source, contract))


def native(source: Path | bytes) -> np.ndarray:
    """uint8 (h, w, 3), RGB 0..255 upright, at the image's own size.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """
    return np.asarray(open_upright(source))


def thumbnail(source: Path | bytes, side: int) -> Image.Image:
    """RGB, upright, aspect kept, neither side above `side` pixels; small images stay as they are.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """

    def needed(size: Size) -> Size:
        return _gapped(_inside(size, (side, side)))

    image = open_upright(source, needed)
    if max(image.size) <= side:
        return image
    return image.resize(_inside(image.size, (side, side)), Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)


@dataclass(frozen=True)
class Batch:
    """Some images of a longer list, decoded.

    Args:
        indices: int64 (b,), positions in the list, ascending.
        images: uint8 (b, H, W, 3), RGB 0..255.
        problems: (position, reason) of the files that could not be decoded; they are in neither of the two.
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

    Two batches at most are begun ahead. Stopping early stops the threads.

    Args:
        files: image files, their bytes, or functions that read these and may raise `UnreadableImage`.
        contract: what pixels to make of them.
        batch_size: files to a batch; the last one may be smaller, none is empty.
        threads: Defaults to one for each usable core. Pillow works outside the interpreter lock.
    """
    threads = threads or usable_cores()
    slots = _slots(files, contract, batch_size)
    filled = in_order(partial(_fill, contract), slots, threads=threads, ahead=2 * batch_size + threads)
    with closing(filled):
        waiting: list[_Slot] = []
        for slot in filled:
            waiting.append(slot)
            if len(waiting) == batch_size:
                yield _batch(waiting)
                waiting = []
        if waiting:
            yield _batch(waiting)


@dataclass
class _Slot:
    """A place for one image in the array of its batch."""

    source: Source
    index: int
    images: np.ndarray
    row: int
    problem: str = ""


def _slots(files: Iterable[Source], contract: InputContract, batch_size: int) -> Iterator[_Slot]:
    """A place for every file; a new array at every batch."""
    for index, source in enumerate(files):
        row = index % batch_size
        if row == 0:
            images = np.empty((batch_size, contract.height, contract.width, 3), dtype=np.uint8)
        yield _Slot(source, index, images, row)


def _fill(contract: InputContract, slot: _Slot) -> _Slot:
    try:
        source = slot.source if isinstance(slot.source, Path | bytes) else slot.source()
        slot.images[slot.row] = _fitted(source, contract)
    except UnreadableImage as error:
        slot.problem = error.message
    return slot


def _batch(slots: list[_Slot]) -> Batch:
    good = [slot for slot in slots if not slot.problem]
    images = slots[0].images[: len(slots)]
    return Batch(
        indices=np.array([slot.index for slot in good], dtype=np.int64),
        images=images if len(good) == len(slots) else images[[slot.row for slot in good]],
        problems=[(slot.index, slot.problem) for slot in slots if slot.problem],
    )


# -- resize ------------------------------------------------------------------------------------


def _fitted(source: Path | bytes, contract: InputContract) -> Image.Image:
    """RGB image of the contract's size."""
    target = (contract.width, contract.height)

    def needed(size: Size) -> Size:
        inner, (left, top, right, bottom) = _placed(size, target, contract.fit)
        width, height = _gapped(inner)
        return int(width * size[0] / (right - left)), int(height * size[1] / (bottom - top))

    image = open_upright(source, needed)
    inner, box = _placed(image.size, target, contract.fit)
    image = image.resize(inner, Image.Resampling.BILINEAR, box=box, reducing_gap=REDUCING_GAP)
    if inner == target:
        return image
    padded = Image.new("RGB", target)
    padded.paste(image, ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2))
    return padded


def _placed(size: Size, target: Size, fit: str) -> tuple[Size, Box]:
    """The size an image is resized to, and the part of it that is: all, or the middle for `crop`."""
    width, height = size
    whole = (0.0, 0.0, float(width), float(height))
    if fit == "squash":
        return target, whole
    if fit == "pad":
        return _inside(size, target, enlarge=True), whole
    scale = min(width / target[0], height / target[1])
    left, top = (width - target[0] * scale) / 2, (height - target[1] * scale) / 2
    return target, (max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height))


def placement(size: Size, contract: InputContract) -> tuple[Box, Box]:
    """Which part of an image the network sees, and where in its input that part lies.

    Args:
        size: (width, height) of the upright image.
        contract: how it becomes the input.

    Returns:
        Two boxes (left, top, right, bottom) in pixels: one of the image, one of the input.
    """
    target = (contract.width, contract.height)
    inner, box = _placed(size, target, contract.fit)
    left, top = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
    return box, (left, top, left + inner[0], top + inner[1])


def _inside(size: Size, target: Size, *, enlarge: bool = False) -> Size:
    """The largest size of the same aspect inside `target`, at least one pixel a side."""
    scale = min(target[0] / size[0], target[1] / size[1])
    scale = scale if enlarge else min(scale, 1.0)
    return max(1, min(target[0], round(size[0] * scale))), max(1, min(target[1], round(size[1] * scale)))


def _gapped(size: Size) -> Size:
    return int(size[0] * REDUCING_GAP), int(size[1] * REDUCING_GAP)


# -- Threads that keep their results in order and never run far ahead --------------------------

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Generator[R, None, None]:
    """`function` of every item, in order, with at most `ahead` items begun and not yet handed out.

    Closing the iterator early drops what has not begun and waits for what has.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tlkit-data")
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) >= ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# -- Files that cannot be decoded: find them all, set them aside -------------------------------

_SILENCE = Silence()
# All bytes of a file are read and decoded at any size; a small one saves the rest.
_CHEAP = InputContract(height=8, width=8)


def check(dataset: Dataset, *, story: Story = _SILENCE, threads: int | None = None) -> list[Problem]:
    """Decode every image in full and return those that cannot be, in manifest order."""
    threads = threads or usable_cores()
    reasons = in_order(partial(_reason, dataset), range(len(dataset)), threads=threads, ahead=32 * threads)
    tracked = story.track(reasons, "decoding", len(dataset))
    return [Problem(dataset.paths[i], reason.words) for i, reason in enumerate(tracked) if reason.words]


class _Reason:
    """Why an image is unreadable, "" where it is not; no string, whose length would count as progress."""

    __slots__ = ("words",)

    def __init__(self, words: str) -> None:
        self.words = words


def _reason(dataset: Dataset, index: int) -> _Reason:
    try:
        decode(dataset.file(index), _CHEAP)
    except UnreadableImage as error:
        return _Reason(error.message)
    return _Reason("")


def set_aside(dataset: Dataset, problems: Sequence[Problem], on_bad: str) -> Dataset:
    """The manifest without the unreadable files, each listed with its reason in `set_aside`.

    Args:
        dataset: as scanned; what the scan has set aside counts too.
        problems: found since.
        on_bad: `skip`, or `fail` to refuse any.

    Raises:
        TlkitError: `fail` and there are some; or a class has no image left to train on.
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
    """Every class that could train must still be able to: by images of train where a split is given, else by any."""
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
    """The first files with their reasons, and how many more there are."""
    first = "; ".join(f"{problem.path!r} {problem.reason}" for problem in problems[:most])
    return first + (f"; and {len(problems) - most} more" if len(problems) > most else "")
