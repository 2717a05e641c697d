"""Images to frozen activations: whatever the store does not hold yet is computed once, by an executor, and stored."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.story import Silence, Story
from tlkit.data.clips import Clips
from tlkit.data.dataset import Dataset, Problem
from tlkit.data.decode import Batch, batches, named
from tlkit.data.views import CENTRE, Augmentation, threads
from tlkit.extraction.engine import enduring
from tlkit.extraction.room import make_room
from tlkit.extraction.shards import SHARD_BYTES
from tlkit.extraction.store import Appender, ClipFeatures, Rows, Space, StoredFeatures, look_up
from tlkit.options.commands import AuditConfig, FeaturesConfig, PredictConfig
from tlkit.options.groups import Portion, parse_shard
from tlkit.options.obtain import RankConfig

if TYPE_CHECKING:
    from tlkit.extraction.source import FeatureSource

LOGITS = "logits"  # the output that decides by itself
HELD_BYTES = 4 * SHARD_BYTES  # rows in memory before they are written, over all spaces
LEAST_BATCH, BATCHES = 8, 4  # few images still make this many batches, of this many images at least

Key = tuple[str, int]  # output name, view number
Shared = AuditConfig | FeaturesConfig | PredictConfig | RankConfig  # options of commands that work in shards


@dataclass
class Extraction:
    """What was asked for, and what it took.

    Args:
        features: (output, view) -> rows for the images of the dataset, in its order; rows of
            images with a problem, and those whose view was not asked for, may be missing.
        problems: files that could not be decoded.
        passes: images that went through the network now (views count each).
        stored: images times views that the store already held, of those that were asked for here.
        seconds: of wall time.
        engine: name and reason of the engine, "" when nothing had to be computed.
        images: how many were asked for here: all of the dataset, or a share of it.
    """

    features: dict[Key, Rows] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    passes: int = 0
    stored: int = 0
    seconds: float = 0.0
    engine: str = ""
    images: int = 0

    @property
    def rows(self) -> Rows:
        """The first output of the first view, for those who asked for no more."""
        return next(iter(self.features.values()))

    def sentence(self, what: str = "features") -> str:
        """What extraction took."""
        if not self.passes:
            return f"{what} of {self.stored} images were in the store; nothing was computed"
        rate = self.passes / max(self.seconds, 1e-9)
        known = f", {self.stored} were in the store" if self.stored else ""
        return f"extracted {self.passes} images in {self.seconds:.1f} s ({rate:.0f}/s{known}); engine {self.engine}"


def extract(
    source: "FeatureSource",
    dataset: Dataset,
    *,
    views: Sequence[int] = (CENTRE,),
    viewed: np.ndarray | None = None,
    augmentation: Augmentation | None = None,
    story: Story | None = None,
) -> Extraction:
    """Every output of the source for every view of every image, from the store where it has them.

    One pass: an image is decoded once, whatever is made of it. Exact duplicates are computed once.
    Killed half-way, it goes on where it was. A source with a share of the images computes, and gives, these alone.

    Args:
        source: what to compute.
        dataset: the images.
        views: numbers of the views; 0 is the image itself.
        viewed: rows of the images that have views other than 0; all of them unless given.
        augmentation: what the other views are.
        story: hears the progress.

    Raises:
        TlkitError: the store cannot be written or its disk is full, or float16 cannot hold a value.
    """
    if dataset.clips is not None:
        return _of_clips(source, dataset.clips, story)
    story, started = story or Silence(), time.monotonic()
    augmentation = augmentation or Augmentation(strength="none")
    source, whole = source.settled(dataset, story), dataset
    dataset, viewed = _mine(source.share, dataset, viewed)
    spaces = {(output, view): source.space(output, augmentation, view) for output in source.outputs for view in views}
    stored = {key: look_up(space, dataset.sha256) for key, space in spaces.items()}
    lacking = {key: found.lacking for key, found in stored.items()}
    _tell_damaged(spaces.values(), story)
    first, copy_of = _copies(dataset)
    asked = {view: _asked(view, viewed, copy_of) for view in views}
    wanted = {
        view: asked[view] & np.any([lacks for (_, of), lacks in lacking.items() if of == view], axis=0)
        for view in views
    }
    known = sum(int((asked[view] & ~wanted[view]).sum()) for view in views)
    result = Extraction(stored=known, images=len(dataset))
    rows = _in_order(first, wanted)
    if len(rows):
        passes = _for_engine(source.share, whole, wanted)
        work = Computation(source, dataset, wanted, lacking, augmentation, spaces, story, passes)
        make_room(work.bytes(rows), story)
        for done in story.track(spread(work, rows, source.executor), "extracting", len(rows)):
            result.problems += done.problems
            result.passes += done.passes
        result.engine = f"{source.engine.name} ({source.engine.reason})" if result.passes else ""
        stored = {key: look_up(space, dataset.sha256) for key, space in spaces.items()}
    result.problems = _with_duplicates(dataset, result.problems)
    _tell_problems(result.problems, story)
    if CENTRE in views:
        _refuse_held(source, [stored[output, CENTRE] for output in source.outputs], dataset)
    result.features = {key: Rows(found) for key, found in stored.items()}
    result.seconds = time.monotonic() - started
    return result


def _of_clips(source: "FeatureSource", clips: Clips, story: Story | None) -> Extraction:
    """The same for clips: their frames, each by its own content, so that no other choice of frames computes one again."""
    found = extract(source, clips.frames, story=story)
    features = {key: Rows(ClipFeatures(rows.held, clips.places)) for key, rows in found.features.items()}
    return replace(found, features=features)


def _tell_problems(problems: Sequence[Problem], story: Story) -> None:
    if problems:
        count = len(problems)
        story.say(f"{count} {'file' if count == 1 else 'files'} could not be used: {named(problems)}")


def _refuse_held(source: "FeatureSource", held: Sequence[StoredFeatures], dataset: Dataset) -> None:
    """A store may be older than `refuse_not_finite`: where weights are not finite, every row shows it, the first one too."""
    first = np.flatnonzero(~np.any([found.lacking for found in held], axis=0))[:1]
    if len(first):
        refuse_not_finite(source, [found[first] for found in held], lambda row: dataset.paths[first[row]])


def _tell_damaged(spaces: Iterable[Space], story: Story) -> None:
    """Say once which shards are not what was written."""
    for space in spaces:
        if space.damaged:
            names = ", ".join(sorted(space.damaged)[:3]) + (", ..." if len(space.damaged) > 3 else "")
            story.say(
                f"damaged in the feature store, taken out of it: {names} in {space.folder}; what is wanted of their rows "
                "is computed again"
            )


def _content(dataset: Dataset, row: int) -> bytes:
    """The bytes that the image had when it was listed, from its file or from a copy of it.

    What is decoded is what was hashed, so that no row is ever stored under the name of another image.

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
    """The row, and then those of its copies."""
    yield row
    near = np.flatnonzero(dataset.sha256[:, 0] == dataset.sha256[row, 0])
    copies = near[(dataset.sha256[near] == dataset.sha256[row]).all(axis=1)]
    yield from copies[copies != row].tolist()


@dataclass(frozen=True)
class Done:
    """Some files whose features are with the store.

    Args:
        files: how many, good and bad.
        problems: those that could not be decoded.
        passes: images that went through the network for it.
    """

    files: int
    problems: list[Problem]
    passes: int

    def __len__(self) -> int:
        return self.files


class Part(NamedTuple):
    """One view of the images of a batch that lack it: places `here` in the batch, `positions` in the dataset."""

    batch: Batch
    view: int
    here: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True, eq=False)
class Computation:
    """Decode, make views, run, store: one pass over images that lack something.

    Args:
        source: what to compute.
        dataset: N images.
        wanted: view -> bool (N,), images that need it computed.
        lacking: (output, view) -> bool (N,), images whose row the store lacks.
        augmentation: what views are.
        spaces: where rows belong.
        story: hears when memory runs out.
        engine_for: as many images as the engine is chosen for.
    """

    source: "FeatureSource"
    dataset: Dataset
    wanted: Mapping[int, np.ndarray]
    lacking: Mapping[Key, np.ndarray]
    augmentation: Augmentation
    spaces: Mapping[Key, Space]
    story: Story
    engine_for: int

    def __call__(self, rows: np.ndarray) -> Iterator[Done]:
        """Go through the rows, int (n,), yielding what is done as soon as its features are with the store."""
        files = (partial(_content, self.dataset, row) for row in rows.tolist())
        decoded = batches(files, self.source.contract, _batch(len(rows), self.source.batch_size))
        with ExitStack() as stack:
            most = min(SHARD_BYTES, HELD_BYTES // len(self.spaces))
            shared = not self.source.share.whole
            appenders = {
                key: stack.enter_context(Appender(space, most, shared=shared)) for key, space in self.spaces.items()
            }
            pool = stack.enter_context(threads())
            read: deque[Batch] = deque()
            for part, values in self._computed(decoded, rows, read, pool):
                while read[0] is not part.batch:
                    yield self._done(read.popleft(), rows)  # stored, as parts come in order
                self._store(part, values, appenders)
            yield from (self._done(batch, rows) for batch in read)

    def bytes(self, rows: np.ndarray) -> int:
        """What the store will take for these rows."""
        return sum(
            int((self.wanted[view] & self.lacking[output, view])[rows].sum())
            * (self.source.row_bytes(output) // 4 * space.dtype.itemsize + 32)
            for (output, view), space in self.spaces.items()
        )

    def _computed(
        self, decoded: Iterator[Batch], rows: np.ndarray, read: deque[Batch], pool: Any
    ) -> Iterator[tuple[Part, Any]]:
        """The views of each batch with what the network makes of them; batches are noted in `read` as they come."""

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
        return enduring(self.source.engine_for(self.engine_for), self.story).ahead(chain((first,), found), pixels)

    def _store(self, part: Part, values: Sequence[np.ndarray], appenders: Mapping[Key, Appender]) -> None:
        sha256 = self.dataset.sha256[part.positions]
        refuse_not_finite(self.source, values, lambda row: self.dataset.paths[part.positions[row]])
        for output, rows in zip(self.source.outputs, values, strict=True):
            lacks = self.lacking[output, part.view][part.positions]
            appenders[output, part.view].append(sha256[lacks], rows[lacks])

    def _done(self, batch: Batch, rows: np.ndarray) -> Done:
        problems = [Problem(self.dataset.paths[rows[i]], reason) for i, reason in batch.problems]
        passes = sum(int(wanted[rows[batch.indices]].sum()) for wanted in self.wanted.values())
        return Done(len(batch), problems, passes)


def refuse_not_finite(source: "FeatureSource", values: Sequence[np.ndarray], path_of: Callable[[int], str]) -> None:
    """Raise for features that are not finite. Outputs of a whole classifier are left to who measures it.

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


def _batch(images: int, most: int) -> int:
    """Images to a forward pass: so few that, where there are few, one batch is decoded while another is computed."""
    return min(most, max(LEAST_BATCH, -(-images // BATCHES)))


def shard_result(config: Shared, images: int, found: Sequence[Extraction], story: Story) -> dict[str, Any]:
    """What a command returns that has computed its share of so many images, by one or more extractions.

    Raises:
        TlkitError: a file of the share cannot be used, and `on_bad` is `fail`.
    """
    share = parse_shard(config.shard)
    problems = list({problem.path: problem for each in found for problem in each.problems}.values())
    if problems and config.on_bad == "fail":
        raise TlkitError(f"{len(problems)} files cannot be used: {named(problems)}.", "repair or remove them.")
    text = (
        f"shard {share.number} of {share.of}: {found[0].images} of {images} images are done, "
        f"{sum(each.passes for each in found)} of them computed now; when all shards are, the same command without "
        "--shard gathers them"
    )
    story.say(text)
    return {
        "shard": f"{share.number}/{share.of}",
        "images": found[0].images,
        "out": None,
        "set_aside": [problem.as_json() for problem in problems],
        "computed": sum(each.passes for each in found),
        "seconds": round(sum(each.seconds for each in found), 3),
        "text": "",
    }


def _mine(share: Portion, dataset: Dataset, viewed: np.ndarray | None) -> tuple[Dataset, np.ndarray | None]:
    """The images of a share, and the rows of those that have views."""
    if share.whole:
        return dataset, viewed
    mine = np.flatnonzero(held_by(share, dataset.sha256))
    return dataset.select(mine), viewed if viewed is None else np.flatnonzero(np.isin(mine, viewed))


def _for_engine(share: Portion, whole: Dataset, wanted: Mapping[int, np.ndarray]) -> int:
    """As many images as the engine is chosen for.

    Every share takes the engine that would compute all of the images, so that rows do not depend on who computed them.
    """
    if share.whole:
        return sum(int(each.sum()) for each in wanted.values())
    return len(_copies(whole)[0]) * len(wanted)


def held_by(share: Portion, sha256: np.ndarray) -> np.ndarray:
    """Bool (N,), images uint8 (N, 32) of a share: each image is in one of `share.of`, whatever else is in the set."""
    number = np.ascontiguousarray(sha256[:, :8]).view(">u8").ravel() % np.uint64(share.of)
    return number == share.number - 1


def _copies(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each set of byte-identical images, and for every row its place among those."""
    names = np.ascontiguousarray(dataset.sha256).view("V32").ravel()
    _, first, copy_of = np.unique(names, return_index=True, return_inverse=True)
    return first, copy_of


def _asked(view: int, viewed: np.ndarray | None, copy_of: np.ndarray) -> np.ndarray:
    """Bool (N,), images whose view is wanted, be it under another name."""
    if view == CENTRE or viewed is None:
        return np.ones(len(copy_of), bool)
    return np.isin(copy_of, copy_of[viewed])


def _in_order(first: np.ndarray, wanted: Mapping[int, np.ndarray]) -> np.ndarray:
    """The rows to work on: those with the most views before the rest, so that batches are full in every view."""
    counts = np.sum([wanted[view][first] for view in wanted], axis=0)
    rows, counts = first[counts > 0], counts[counts > 0]
    return rows[np.lexsort((rows, -counts))]


def _with_duplicates(dataset: Dataset, problems: list[Problem]) -> list[Problem]:
    """A problem of one file is a problem of every copy of it."""
    if not problems:
        return problems
    position = {path: i for i, path in enumerate(dataset.paths)}
    reasons = {dataset.sha256[position[problem.path]].tobytes(): problem.reason for problem in problems}
    digests = (row.tobytes() for row in dataset.sha256)
    return [
        Problem(path, reasons[digest]) for path, digest in zip(dataset.paths, digests, strict=True) if digest in reasons
    ]


# -- Where work on samples is done: an executor is one row of `EXECUTORS` ---

T = TypeVar("T")


class Executor(Protocol):
    """Somebody who works on slices of the samples, here or elsewhere.

    What `work` gives back is small and made of plain values, and everything large goes to the store, so that an executor
    may do it in another process or on another machine.
    """

    workers: int  # slices that are worked on at once

    def map(self, work: Callable[[np.ndarray], Iterable[T]], slices: Sequence[np.ndarray]) -> Iterator[T]:
        """Work on every slice, int (n,) samples each, and give what comes of it as it comes."""


class Here:
    """In this process, which has its own threads; slices one after the other."""

    workers = 1

    def map(self, work: Callable[[np.ndarray], Iterable[T]], slices: Sequence[np.ndarray]) -> Iterator[T]:
        """As of `Executor`, in the order of the slices."""
        return chain.from_iterable(map(work, slices))


EXECUTORS: dict[str, Callable[[], Executor]] = {"here": Here}


def spread(work: Callable[[np.ndarray], Iterable[T]], samples: np.ndarray, name: str) -> Iterator[T]:
    """Portion the samples, int (n,) in the order of work, among the workers of an executor."""
    executor = EXECUTORS[name]()
    return executor.map(work, [part for part in np.array_split(samples, executor.workers) if len(part)])
