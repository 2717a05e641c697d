"""Executors: this process or the workers of a Ray cluster (`on_ray`) compute missing rows or process items; they know no store."""

import contextlib
import hashlib
import importlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.story import SILENCE, Story
from tlkit.data.dataset import Dataset, Problem
from tlkit.data.decode import Batch, batches
from tlkit.data.views import Augmentation, threads
from tlkit.extraction.engine import enduring

if TYPE_CHECKING:
    from tlkit.extraction.engine import Engine
    from tlkit.extraction.executors.on_ray import OnRay
    from tlkit.extraction.source import FeatureSource

LOGITS = "logits"  # the output that contains the decision
LEAST_BATCH, BATCHES = 8, 4  # smallest batch, and batches that few images are divided into

T = TypeVar("T")
R = TypeVar("R")
Key = tuple[str, int]  # output name, view number


class NewRows(NamedTuple):
    """Rows that belong into one space of the store: uint8 (n, 32) of the images, and float32 (n, ...)."""

    key: Key
    sha256: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Done:
    """Some files that have been processed, or some rows of them.

    Args:
        files: how many, good and bad; 0 for rows of files that are not finished yet.
        problems: those that could not be decoded.
        passes: images that went through the network for it.
        made: the results to be stored.
    """

    files: int = 0
    problems: Sequence[Problem] = ()
    passes: int = 0
    made: Sequence[NewRows] = ()

    def __len__(self) -> int:
        return self.files


class Part(NamedTuple):
    """One view of those images of a batch that lack it: indices `here` in the batch, `positions` in the dataset."""

    batch: Batch
    view: int
    here: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True, eq=False)
class Computation:
    """One pass over images that lack something; made of plain values except for the network and the story.

    Args:
        source: what to compute.
        dataset: N images.
        wanted: view -> bool (N,), images that need it computed.
        lacking: (output, view) -> bool (N,), images whose row the store lacks.
        augmentation: of the views.
        story: reports when memory runs out.
        engine_for: number of images that the engine is chosen for.
        batch: images to a forward pass.
    """

    source: "FeatureSource"
    dataset: Dataset
    wanted: Mapping[int, np.ndarray]
    lacking: Mapping[Key, np.ndarray]
    augmentation: Augmentation
    story: Story
    engine_for: int
    batch: int

    def __call__(self, rows: np.ndarray) -> Iterator[Done]:
        """Process the images at `rows`, int (n,), in batches, and yield results as they come."""
        files = (partial(_content, self.dataset, row) for row in rows.tolist())
        decoded = batches(files, self.source.contract, self.batch)
        with threads() as pool:
            read: deque[Batch] = deque()
            for part, values in self._computed(decoded, rows, read, pool):
                while read[0] is not part.batch:
                    yield self._through(read.popleft(), rows)  # parts come in order
                yield self._made(part, values)
            yield from (self._through(batch, rows) for batch in read)

    def engine(self) -> "Engine":
        """The engine, chosen for all of the images."""
        return self.source.engine_for(self.engine_for)

    def portion(self, rows: np.ndarray, engine: "Engine | None" = None, story: Story = SILENCE) -> "Computation":
        """The same for only the images at `rows`, which become 0..n-1; it holds no network, so it can be sent to another process.

        Args:
            rows: int (n,).
            engine: that computes it; none where it is sent.
            story: reports when memory runs out.
        """
        copies = [other for row in rows.tolist() for other in self._copies.get(row, ())]
        chosen = np.concatenate([rows, np.array(copies, np.int64)]).astype(np.int64)
        paths = [self.dataset.paths[row] for row in chosen.tolist()]
        root = Path(self.dataset.root).absolute()
        return replace(
            self,
            source=self.source.computed_by(engine),
            dataset=Dataset.of_files(root, paths, self.dataset.sha256[chosen], self.dataset.sizes[chosen]),
            wanted={view: each[chosen] for view, each in self.wanted.items()},
            lacking={key: each[chosen] for key, each in self.lacking.items()},
            story=story,
        )

    def bytes(self, rows: np.ndarray) -> int:
        """Bytes that the store will need for these rows."""
        size = np.dtype(self.source.stored_as).itemsize
        return sum(
            int((self.wanted[view] & lacks)[rows].sum()) * (self.source.row_bytes(output) // 4 * size + 32)
            for (output, view), lacks in self.lacking.items()
        )

    @cached_property
    def _copies(self) -> dict[int, list[int]]:
        """First row -> further ones with the same bytes, where there are any."""
        first, copy_of = same_bytes(self.dataset)
        further = np.flatnonzero(first[copy_of] != np.arange(len(copy_of)))
        found: dict[int, list[int]] = {}
        for row, of in zip(further.tolist(), first[copy_of[further]].tolist(), strict=True):
            found.setdefault(of, []).append(row)
        return found

    def _computed(
        self, decoded: Iterator[Batch], rows: np.ndarray, read: deque[Batch], pool: Any
    ) -> Iterator[tuple[Part, Any]]:
        """The views of each batch with the outputs of the network; batches are noted in `read` as they come."""

        def parts() -> Iterator[Part]:
            for batch in decoded:
                read.append(batch)
                for view in self.wanted:
                    here = np.flatnonzero(self.wanted[view][rows[batch.indices]])
                    if len(here):
                        yield Part(batch, view, here, rows[batch.indices[here]])

        def pixels(part: Part) -> np.ndarray:
            sha256 = self.dataset.sha256[part.positions]
            return self.augmentation.view(part.batch.images[part.here], sha256, part.view, pool)

        first = next(found := parts(), None)  # the engine is built when there is something to compute
        if first is None:
            return iter(())
        return enduring(self.engine(), self.story).ahead(chain((first,), found), pixels)

    def _made(self, part: Part, values: Sequence[np.ndarray]) -> Done:
        """The rows of a part that the store lacks."""
        sha256 = self.dataset.sha256[part.positions]
        refuse_not_finite(self.source, values, lambda row: self.dataset.paths[part.positions[row]])
        made = []
        for output, rows in zip(self.source.outputs, values, strict=True):
            lacks = self.lacking[output, part.view][part.positions]
            made.append(NewRows((output, part.view), sha256[lacks], rows[lacks]))
        return Done(passes=len(part.positions), made=made)

    def _through(self, batch: Batch, rows: np.ndarray) -> Done:
        problems = [Problem(self.dataset.paths[rows[i]], reason) for i, reason in batch.problems]
        return Done(files=len(batch), problems=problems)


def batch_of(images: int, most: int) -> int:
    """Images per forward pass; with few images, small enough that one batch is decoded while another is computed."""
    return min(most, max(LEAST_BATCH, -(-images // BATCHES)))


def same_bytes(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each set of byte-identical images, and for every row its index among those."""
    names = np.ascontiguousarray(dataset.sha256).view("V32").ravel()
    _, first, copy_of = np.unique(names, return_index=True, return_inverse=True)
    return first, copy_of


def refuse_not_finite(source: "FeatureSource", values: Sequence[np.ndarray], path_of: Callable[[int], str]) -> None:
    """Raise for features that are not finite. Outputs of a whole classifier are left to its evaluation.

    Args:
        source: whose outputs they are, for its name.
        values: float (n, ...) for each output.
        path_of: the image of a row.

    Raises:
        TlkitError: naming the network and the first image.
    """
    if LOGITS in source.outputs:
        return
    for output, rows in zip(source.outputs, values, strict=True):
        fine = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        if not fine.all():
            row = int(fine.argmin())
            found = rows[row][~np.isfinite(rows[row])].flat[0]
            raise TlkitError(
                f"{source.name or 'the network'} gives {found} as a feature of {path_of(row)!r} (output {output}).",
                "its weights hold values that are not finite, or it cannot take such an image: use other weights or another "
                "backbone. Nothing was written.",
            )


def _content(dataset: Dataset, row: int) -> bytes:
    """The bytes that the image had when it was listed, from its file or from a copy of it.

    The bytes decoded are the bytes hashed, so that no row is ever stored under the name of another image.

    Raises:
        UnreadableImage: no file has them any more.
    """
    reason = ""
    for place in _places(dataset, row):
        try:
            content = dataset.file(place).read_bytes()
        except OSError as error:
            reason = reason or f"cannot be read: {error.strerror or error}"
            continue
        if hashlib.sha256(content).digest() == dataset.sha256[row].tobytes():
            return content
        reason = reason or "has changed since it was listed"
    raise UnreadableImage(reason)


def _places(dataset: Dataset, row: int) -> Iterator[int]:
    """The row, then those of its copies."""
    yield row
    near = np.flatnonzero(dataset.sha256[:, 0] == dataset.sha256[row, 0])
    copies = near[(dataset.sha256[near] == dataset.sha256[row]).all(axis=1)]
    yield from copies[copies != row].tolist()


# -- Where it is computed: an executor is one row of `EXECUTORS`, and open for as long as a command ---


class Executor(Protocol):
    """Computes rows of samples, here or elsewhere.

    It only computes: the caller appends the results to the store, so that workers need no access to its disk.
    """

    def map(self, work: Computation, samples: np.ndarray, story: Story) -> Iterator[Done]:
        """Process the samples, int (n,), and yield results as they come, in any order.

        Args:
            work: what to do; `work(samples)` does it here, `work.portion(some)` can be sent.
            samples: in the best order of processing.
            story: reports which workers are used, and what went wrong on the way.

        Raises:
            TlkitError: the work cannot be done.
        """

    def each(
        self, function: Callable[[T], R], items: Sequence[T], story: Story, named: Callable[[T], str] = str
    ) -> Iterator[tuple[int, R]]:
        """Process each item separately, for minutes, such as a training: results of the function, with the index of the item.

        They are yielded in any order, as soon as they are ready.

        Args:
            function: of an item; it, the items and its results can be pickled, and it may be called again where a worker is lost.
            items: in the order in which they are started.
            story: reports which workers are used, and what went wrong on the way.
            named: name of an item in messages.

        Raises:
            TlkitError: a worker failed, naming the item.
        """

    def turns(self, items: int) -> float:
        """Expected time of so many items of `each`, in multiples of that of one item in this process."""

    def describe(self, engine: str) -> str:
        """Where an engine of this name would compute, in words for a plan."""


class Here:
    """In this process, which has its own threads."""

    def map(self, work: Computation, samples: np.ndarray, story: Story) -> Iterator[Done]:
        """As `Executor`, in the order of the samples."""
        return work(samples)

    def each(
        self, function: Callable[[T], R], items: Sequence[T], story: Story, named: Callable[[T], str] = str
    ) -> Iterator[tuple[int, R]]:
        """As `Executor`, one after the other; exceptions of the function are raised."""
        return enumerate(map(function, items))

    def turns(self, items: int) -> float:
        """As `Executor`: one after the other, each with all of the cores."""
        return items

    def describe(self, engine: str) -> str:
        """As `Executor`."""
        return "this process"


@contextlib.contextmanager
def _here(address: str) -> Iterator[Here]:
    yield Here()


def _on_ray(address: str) -> "AbstractContextManager[OnRay]":
    return importlib.import_module("tlkit.extraction.executors.on_ray").opened(address)


# name -> context manager of an executor, from the text after the name; what it lacks is reported at once
EXECUTORS: dict[str, Callable[[str], AbstractContextManager[Executor]]] = {"here": _here, "ray": _on_ray}

_open: dict[str, Executor] = {}


@contextlib.contextmanager
def opened(text: str) -> Iterator[Executor]:
    """The executor of an option `NAME[:ADDRESS]` within this context; nested requests get the same one.

    Raises:
        TlkitError: its package is not installed, or nothing answers at the address.
    """
    if text in _open:
        yield _open[text]
        return
    name, _, address = text.partition(":")
    with EXECUTORS[name](address) as executor:
        _open[text] = executor
        try:
            yield executor
        finally:
            del _open[text]


def spread(work: Computation, samples: np.ndarray, text: str, story: Story) -> Iterator[Done]:
    """Have the samples, int (n,) in the order of processing, computed by an executor."""
    with opened(text) as executor:
        yield from executor.map(work, samples, story)
