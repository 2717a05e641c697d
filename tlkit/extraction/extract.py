"""Images to frozen activations: whatever the store does not hold yet is computed once, and stored."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlkit.base.errors import UnreadableImage
from tlkit.base.files import read_checked_json, sha256_file, sha256_json, write_checked_json
from tlkit.base.machine import cache_dir, versions
from tlkit.base.story import Silence, Story
from tlkit.data.dataset import Dataset, InputContract, Problem
from tlkit.data.decode import Batch, batches, named
from tlkit.data.views import CENTRE, Augmentation, threads
from tlkit.extraction.room import make_room
from tlkit.extraction.shards import SHARD_BYTES
from tlkit.extraction.store import Appender, Space, StoredFeatures, look_up, open_space

if TYPE_CHECKING:
    import keras

    from tlkit.extraction.engine import Engine

HELD_BYTES = 4 * SHARD_BYTES  # rows in memory before they are written, over all spaces

Key = tuple[str, int]  # output name, view number


class Computation:
    """Decode, make views, run, store: one pass over the images that lack something."""

    def __init__(
        self,
        network: "Network",
        dataset: Dataset,
        rows: np.ndarray,
        wanted: Mapping[int, np.ndarray],
        lacking: Mapping[Key, np.ndarray],
        augmentation: Augmentation,
        spaces: Mapping[Key, Space],
    ) -> None:
        self.network, self.dataset, self.rows = network, dataset, rows
        self.wanted, self.lacking, self.augmentation, self.spaces = wanted, lacking, augmentation, spaces
        self.passes = 0

    def run(self, contract: InputContract, batch_size: int) -> Iterator[Batch]:
        """Go through the rows, yielding each batch when its features are with the store."""
        files = (partial(_content, self.dataset, i) for i in self.rows.tolist())
        with ExitStack() as stack:
            most = min(SHARD_BYTES, HELD_BYTES // len(self.spaces))
            appenders = {key: stack.enter_context(Appender(space, most)) for key, space in self.spaces.items()}
            pool = stack.enter_context(threads())
            read: deque[Batch] = deque()
            for part, values in self._computed(batches(files, contract, batch_size), read, pool):
                while read[0] is not part.batch:
                    yield read.popleft()  # stored, as parts come in order
                self._store(part, values, appenders)
            yield from read

    def _computed(self, decoded: Iterator[Batch], read: deque[Batch], pool: Any) -> Iterator[tuple["Part", Any]]:
        """The views of each batch with what the network makes of them; batches are noted in `read` as they come."""

        def parts() -> Iterator[Part]:
            for batch in decoded:
                read.append(batch)
                for view in self.wanted:
                    here = np.flatnonzero(self.wanted[view][self.rows[batch.indices]])
                    if len(here):
                        yield Part(batch, view, here, self.rows[batch.indices[here]])

        def pixels(part: Part) -> np.ndarray:
            sha256 = self.dataset.sha256[part.positions]
            return self.augmentation.view(part.batch.images[part.here], sha256, part.view, pool)

        first = next(found := parts(), None)  # the engine is built when there is something to compute
        return iter(()) if first is None else self.network.engine.ahead(chain((first,), found), pixels)

    def _store(self, part: "Part", values: Sequence[np.ndarray], appenders: Mapping[Key, Appender]) -> None:
        sha256 = self.dataset.sha256[part.positions]
        for output, rows in zip(self.network.outputs, values, strict=True):
            lacks = self.lacking[output, part.view][part.positions]
            appenders[output, part.view].append(sha256[lacks], rows[lacks])
        self.passes += len(part.here)


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


class Part(NamedTuple):
    """One view of the images of a batch that lack it: places `here` in the batch, `positions` in the manifest."""

    batch: Batch
    view: int
    here: np.ndarray
    positions: np.ndarray


# -- Images to frozen activations: whatever the store does not hold yet is computed once, and stored ---

LOGITS = "logits"  # the output that decides by itself
HELD_ENOUGH = 0.5  # share of the images in the store that settles their precision
LEAST_BATCH, BATCHES = 8, 4  # few images still make this many batches, of this many images at least


@dataclass(frozen=True, eq=False)
class Network:
    """A frozen network with named outputs.

    Args:
        model: images (B, H, W, 3), 0..255 -> one tensor for each name; or a function that builds it when it is needed.
        outputs: names of the outputs, in the model's order; a name identifies the layer and pooling.
        weights_sha256: of the network the outputs are taken from.
        name: of the network, for people to read.
        engine_name: what computes it, or `auto`.
        precision: what it multiplies in, `float32` or `bfloat16`.
    """

    model: "keras.Model | Callable[[], keras.Model]"
    outputs: tuple[str, ...]
    weights_sha256: str
    name: str = ""
    engine_name: str = "auto"
    precision: str = "float32"

    @cached_property
    def built(self) -> "keras.Model":
        """The model."""
        return self.model() if isinstance(self.model, FunctionType | partial) else self.model

    @cached_property
    def engine(self) -> "Engine":
        """Its forward pass, built on first use: a run that finds everything in the store never pays for it."""
        from tlkit.extraction.engine import build_engine  # loads Keras

        return build_engine(self.built, engine=self.engine_name, precision=self.precision)

    def row_bytes(self, output: str) -> int:
        """Bytes of one float32 row of an output."""
        return 4 * int(np.prod(self.built.outputs[self.outputs.index(output)].shape[1:]))


@dataclass
class Extraction:
    """What was asked for, and what it took.

    Args:
        features: (output, view) -> rows for the images of the manifest, in its order; rows of
            images with a problem, and those whose view was not asked for, may be missing.
        problems: files that could not be decoded.
        passes: images that went through the network now (views count each).
        stored: images times views that the store already held.
        seconds: of wall time.
        engine: name and reason of the engine, "" when nothing had to be computed.
    """

    features: dict[Key, StoredFeatures] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    passes: int = 0
    stored: int = 0
    seconds: float = 0.0
    engine: str = ""


def extract(
    network: Network,
    dataset: Dataset,
    contract: InputContract,
    *,
    views: Sequence[int] = (CENTRE,),
    viewed: np.ndarray | None = None,
    augmentation: Augmentation | None = None,
    stored_as: str = "float32",
    engine: str = "auto",
    precision: str = "float32",
    batch_size: int = 32,
    story: Story | None = None,
) -> Extraction:
    """Every output of the network for every view of every image, from the store where it has them.

    One pass: an image is decoded once, whatever is made of it. Exact duplicates are computed once.
    Killed half-way, it goes on where it was.

    Args:
        network: what to compute.
        dataset: the images.
        contract: what pixels to make of them.
        views: numbers of the views; 0 is the image itself.
        viewed: rows of the images that have views other than 0; all of them unless given.
        augmentation: what the other views are.
        stored_as: `float32`, or `float16` for half the space and three digits; what is read is float32.
        engine: what computes, see `build_engine`.
        precision: `float32`, `bfloat16` or `auto`, see `settle_engine`.
        batch_size: images to a forward pass; fewer where there are few.
        story: hears the progress.

    Raises:
        TlkitError: the store cannot be written or its disk is full, or float16 cannot hold a value.
    """
    story, started = story or Silence(), time.monotonic()
    augmentation = augmentation or Augmentation(strength="none")
    if (engine, precision) != (network.engine_name, network.precision):
        network = settle(replace(network, engine_name=engine), precision, dataset, contract, stored_as, story)
    spaces = {
        (output, view): open_space(
            describe(network, output, contract, augmentation.describe(view), stored_as), {"network": network.name}
        )
        for output in network.outputs
        for view in views
    }
    lacking = {key: look_up(space, dataset.sha256).lacking for key, space in spaces.items()}
    _tell_damaged(spaces.values(), story)
    first, copy_of = _copies(dataset)
    asked = {view: _asked(view, viewed, copy_of) for view in views}
    wanted = {
        view: asked[view] & np.any([lacks for (_, of), lacks in lacking.items() if of == view], axis=0)
        for view in views
    }
    result = Extraction(stored=sum(int((asked[view] & ~wanted[view]).sum()) for view in views))
    rows = _in_order(first, wanted)
    if len(rows):
        make_room(_needed(network, spaces, wanted, lacking, rows), story)
        work = Computation(network, dataset, rows, wanted, lacking, augmentation, spaces)
        for batch in story.track(work.run(contract, _batch(len(rows), batch_size)), "extracting", len(rows)):
            result.problems += [Problem(dataset.paths[rows[i]], reason) for i, reason in batch.problems]
        result.passes = work.passes
        result.engine = f"{network.engine.name} ({network.engine.reason})" if work.passes else ""
    result.problems = _with_duplicates(dataset, result.problems)
    if result.problems:
        count = len(result.problems)
        story.say(f"{count} {'file' if count == 1 else 'files'} could not be used: {named(result.problems)}")
    result.features = {key: look_up(space, dataset.sha256) for key, space in spaces.items()}
    result.seconds = time.monotonic() - started
    return result


def _tell_damaged(spaces: Iterable[Space], story: Story) -> None:
    """Say once which shards are not what was written."""
    for space in spaces:
        if space.damaged:
            names = ", ".join(sorted(space.damaged)[:3]) + (", ..." if len(space.damaged) > 3 else "")
            story.say(
                f"damaged in the feature store, taken out of it: {names} in {space.folder}; what is wanted of their rows "
                "is computed again"
            )


def settle(
    network: Network, precision: str, dataset: Dataset, contract: InputContract, stored_as: str, story: Story
) -> Network:
    """The network in one precision: where either will do, the one that the store holds most of, else by trial."""
    if precision != "auto":
        return replace(network, precision=precision)
    held = {}
    for one in ("float32", "bfloat16"):
        plain = Augmentation(strength="none").describe(CENTRE)
        space = open_space(describe(replace(network, precision=one), network.outputs[0], contract, plain, stored_as))
        held[one] = 1 - float(look_up(space, dataset.sha256).lacking.mean())
    most = max(held, key=lambda one: held[one])
    if held[most] >= HELD_ENOUGH:
        story.say(f"precision {most}: the store holds {held[most]:.0%} of the images in it")
        return replace(network, precision=most)
    from tlkit.extraction.precision import settle_engine  # loads Keras

    files = [dataset.file(i) for i in range(len(dataset))]
    labels = None if network.outputs[0] == LOGITS else dataset.labels
    found = settle_engine(
        network.built, files, contract, engine=network.engine_name, precision="auto", labels=labels, story=story
    )
    settled = replace(network, model=network.built, precision=found.precision)
    settled.__dict__["engine"] = found  # as if built on first use
    return settled


def describe(
    network: Network, output: str, contract: InputContract, view: Mapping[str, Any], stored_as: str
) -> dict[str, Any]:
    """Everything that decides a stored row apart from the image: the key of decision 10 in the design."""
    return {
        "weights": network.weights_sha256,
        "output": output,
        "contract": contract.as_json(),
        "precision": network.precision,
        "stored": stored_as,
        **view,
    }


def _batch(images: int, most: int) -> int:
    """Images to a forward pass: so few that, where there are few, one batch is decoded while another is computed."""
    return min(most, max(LEAST_BATCH, -(-images // BATCHES)))


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


def _needed(
    network: Network,
    spaces: Mapping[Key, Space],
    wanted: Mapping[int, np.ndarray],
    lacking: Mapping[Key, np.ndarray],
    rows: np.ndarray,
) -> int:
    """Bytes that the store will take."""
    return sum(
        int((wanted[view] & lacking[output, view])[rows].sum())
        * (network.row_bytes(output) // 4 * space.dtype.itemsize + 32)
        for (output, view), space in spaces.items()
    )


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


# -- Networks met before: what features of theirs are called in the store, without building them again ---
#
#     CACHE/networks/KEY.json     what was asked for, the weight files with their sha256, and what came of it
#
# Building a network and reading its weights takes seconds, importing Keras first several more. When
# everything asked of it is in the store, all that is needed is its name there. The name is looked up
# under everything it follows from: the wish, the code that builds networks, the versions of what that
# code stands on, and the content of the weight files.

BUILDERS = Path(__file__).parents[1] / "backbones"  # the code that a network follows from


def recall(wish: Mapping[str, Any]) -> dict[str, Any] | None:
    """What came of this wish the last time; None where it is new, or where code, versions or a weight file changed."""
    path = _place(wish)
    try:
        found = read_checked_json(path)
        unchanged = all(sha256_file(Path(file)) == sha256 for file, sha256 in found["files"].items())
        return dict(found["facts"]) if unchanged else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or damaged: found out again
        return None


def remember(wish: Mapping[str, Any], facts: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Note what came of a wish.

    Args:
        wish: everything the user can ask of the network, JSON-able.
        facts: what to give back, JSON-able.
        files: that the weights were read from.
    """
    hashes = {str(file.absolute()): sha256_file(file) for file in files}
    write_checked_json(_place(wish), {"wish": dict(wish), "files": hashes, "facts": dict(facts)})


def forget(wish: Mapping[str, Any]) -> None:
    """Drop what was noted."""
    _place(wish).unlink(missing_ok=True)


def _place(wish: Mapping[str, Any]) -> Path:
    code = {file.name: sha256_file(file) for file in sorted(BUILDERS.glob("*.py"))}
    name = sha256_json({"wish": dict(wish), "code": code, "versions": versions()})
    return cache_dir()[0] / "networks" / f"{name[:32]}.json"
