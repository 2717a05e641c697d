"""One pass over the images that lack something: decode, make views, run, store."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlkit.core.input_contract import InputContract
from tlkit.core.manifest import Manifest
from tlkit.data.augment import Augmentation, threads
from tlkit.data.images import Batch, batches
from tlkit.extraction.shards import SHARD_BYTES
from tlkit.extraction.store import Appender, Space

if TYPE_CHECKING:
    from tlkit.extraction.extract import Network

HELD_BYTES = 4 * SHARD_BYTES  # rows in memory before they are written, over all spaces

Key = tuple[str, int]  # output name, view number


class Computation:
    """Decode, make views, run, store: one pass over the images that lack something."""

    def __init__(
        self,
        network: "Network",
        manifest: Manifest,
        rows: np.ndarray,
        wanted: Mapping[int, np.ndarray],
        lacking: Mapping[Key, np.ndarray],
        augmentation: Augmentation,
        spaces: Mapping[Key, Space],
    ) -> None:
        self.network, self.manifest, self.rows = network, manifest, rows
        self.wanted, self.lacking, self.augmentation, self.spaces = wanted, lacking, augmentation, spaces
        self.passes = 0

    def run(self, contract: InputContract, batch_size: int) -> Iterator[Batch]:
        """Go through the rows, yielding each batch when its features are with the store."""
        files = (self.manifest.file(i) for i in self.rows)
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
            sha256 = self.manifest.sha256[part.positions]
            return self.augmentation.view(part.batch.images[part.here], sha256, part.view, pool)

        first = next(found := parts(), None)  # the engine is built when there is something to compute
        return iter(()) if first is None else self.network.engine.ahead(chain((first,), found), pixels)

    def _store(self, part: "Part", values: Sequence[np.ndarray], appenders: Mapping[Key, Appender]) -> None:
        sha256 = self.manifest.sha256[part.positions]
        for output, rows in zip(self.network.outputs, values, strict=True):
            lacks = self.lacking[output, part.view][part.positions]
            appenders[output, part.view].append(sha256[lacks], rows[lacks])
        self.passes += len(part.here)


class Part(NamedTuple):
    """One view of the images of a batch that lack it: places `here` in the batch, `positions` in the manifest."""

    batch: Batch
    view: int
    here: np.ndarray
    positions: np.ndarray
