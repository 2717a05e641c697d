"""Images to frozen activations: whatever the store does not hold yet is computed once, and stored."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tlkit.core.input_contract import InputContract
from tlkit.core.manifest import Manifest, Problem
from tlkit.core.story import Silence, Story
from tlkit.data.augment import CENTRE, Augmentation, threads
from tlkit.data.images import Batch, batches
from tlkit.extraction.store import Appender, Space, StoredFeatures, look_up, open_space
from tlkit.inference import Engine, build_engine

Key = tuple[str, int]  # output name, view number


@dataclass(frozen=True)
class Network:
    """A frozen network with named outputs.

    Args:
        model: images (B, H, W, 3), 0..255 -> one tensor for each name.
        outputs: names of the outputs, in the model's order; a name identifies the layer and pooling.
        weights_sha256: of the network the outputs are taken from.
    """

    model: keras.Model
    outputs: tuple[str, ...]
    weights_sha256: str


@dataclass
class Extraction:
    """What was asked for, and what it took.

    Args:
        features: (output, view) -> rows for the images of the manifest, in its order; rows of
            images with a problem are missing.
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
    manifest: Manifest,
    contract: InputContract,
    *,
    views: Sequence[int] = (CENTRE,),
    augmentation: Augmentation | None = None,
    batch_size: int = 32,
    story: Story | None = None,
) -> Extraction:
    """Every output of the network for every view of every image, from the store where it has them.

    Exact duplicates are computed once. Killed half-way, it goes on where it was.
    """
    story, started = story or Silence(), time.monotonic()
    augmentation = augmentation or Augmentation(strength="none")
    spaces = {
        (output, view): open_space(describe(network, output, contract, augmentation.describe(view)))
        for output in network.outputs
        for view in views
    }
    lacking = {key: look_up(space, manifest.sha256).lacking for key, space in spaces.items()}
    wanted = {view: np.any([lacks for (_, of), lacks in lacking.items() if of == view], axis=0) for view in views}
    result = Extraction(stored=sum(int((~lacks).sum()) for lacks in wanted.values()))
    rows = _unique(manifest, np.flatnonzero(np.any(list(wanted.values()), axis=0)))
    if len(rows):
        work = _Work(network, manifest, rows, wanted, lacking, augmentation, spaces)
        for batch in story.track(work.run(contract, batch_size), "extracting", len(rows)):
            result.problems += [Problem(manifest.paths[rows[i]], reason) for i, reason in batch.problems]
        result.passes, result.engine = work.passes, work.engine_name
    result.problems = _with_duplicates(manifest, result.problems)
    result.features = {key: look_up(space, manifest.sha256) for key, space in spaces.items()}
    result.seconds = time.monotonic() - started
    return result


def describe(network: Network, output: str, contract: InputContract, view: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides a stored row apart from the image: the key of decision 10 in the design."""
    return {
        "weights": network.weights_sha256,
        "output": output,
        "contract": contract.as_json(),
        "precision": "float32",
        **view,
    }


def _unique(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """The first of each set of byte-identical images."""
    _, first = np.unique(manifest.sha256[rows], axis=0, return_index=True)
    return rows[np.sort(first)]


def _with_duplicates(manifest: Manifest, problems: list[Problem]) -> list[Problem]:
    """A problem of one file is a problem of every copy of it."""
    if not problems:
        return problems
    position = {path: i for i, path in enumerate(manifest.paths)}
    reasons = {manifest.sha256[position[problem.path]].tobytes(): problem.reason for problem in problems}
    digests = (row.tobytes() for row in manifest.sha256)
    return [
        Problem(path, reasons[digest])
        for path, digest in zip(manifest.paths, digests, strict=True)
        if digest in reasons
    ]


class _Work:
    """Decode, make views, run, store: one pass over the images that lack something."""

    def __init__(
        self,
        network: Network,
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
        self.engine: Engine | None = None

    @property
    def engine_name(self) -> str:
        """`name (reason)` of the engine, "" if no image could be decoded."""
        return f"{self.engine.name} ({self.engine.reason})" if self.engine else ""

    def run(self, contract: InputContract, batch_size: int) -> Iterator[Batch]:
        """Go through the rows, yielding each batch when its features are with the store."""
        files = [self.manifest.file(i) for i in self.rows]
        with ExitStack() as stack:
            appenders = {key: stack.enter_context(Appender(space)) for key, space in self.spaces.items()}
            pool = stack.enter_context(threads())
            for batch in batches(files, contract, batch_size):
                if len(batch.indices):
                    for view in self.wanted:
                        self._view(batch, view, appenders, pool)
                yield batch

    def _view(self, batch: Batch, view: int, appenders: Mapping[Key, Appender], pool: Any) -> None:
        """Compute and store one view of the images of a batch that lack it."""
        here = np.flatnonzero(self.wanted[view][self.rows[batch.indices]])
        if not len(here):
            return
        # Built on first use: a run that finds everything in the store never pays for it.
        self.engine = self.engine or build_engine(self.network.model)
        positions = self.rows[batch.indices[here]]
        sha256 = self.manifest.sha256[positions]
        values = self.engine.run(self.augmentation.view(batch.images[here], sha256, view, pool))
        for output, rows in zip(self.network.outputs, values, strict=True):
            lacks = self.lacking[output, view][positions]
            appenders[output, view].append(sha256[lacks], rows[lacks])
        self.passes += len(here)
