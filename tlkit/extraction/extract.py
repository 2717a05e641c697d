"""Images to frozen activations: whatever the store does not hold yet is computed once, and stored."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.core.input_contract import InputContract
from tlkit.core.manifest import Manifest, Problem
from tlkit.core.story import Silence, Story
from tlkit.data.augment import CENTRE, Augmentation
from tlkit.extraction.compute import Computation, Key
from tlkit.extraction.room import make_room
from tlkit.extraction.store import Space, StoredFeatures, look_up, open_space

if TYPE_CHECKING:
    import keras

    from tlkit.inference import Engine

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
        from tlkit.inference import build_engine  # loads Keras

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
    manifest: Manifest,
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
        manifest: the images.
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
        network = settle(replace(network, engine_name=engine), precision, manifest, contract, stored_as, story)
    spaces = {
        (output, view): open_space(
            describe(network, output, contract, augmentation.describe(view), stored_as), {"network": network.name}
        )
        for output in network.outputs
        for view in views
    }
    lacking = {key: look_up(space, manifest.sha256).lacking for key, space in spaces.items()}
    first, copy_of = _copies(manifest)
    asked = {view: _asked(view, viewed, copy_of) for view in views}
    wanted = {
        view: asked[view] & np.any([lacks for (_, of), lacks in lacking.items() if of == view], axis=0)
        for view in views
    }
    result = Extraction(stored=sum(int((asked[view] & ~wanted[view]).sum()) for view in views))
    rows = _in_order(first, wanted)
    if len(rows):
        make_room(_needed(network, spaces, wanted, lacking, rows), story)
        work = Computation(network, manifest, rows, wanted, lacking, augmentation, spaces)
        for batch in story.track(work.run(contract, _batch(len(rows), batch_size)), "extracting", len(rows)):
            result.problems += [Problem(manifest.paths[rows[i]], reason) for i, reason in batch.problems]
        result.passes = work.passes
        result.engine = f"{network.engine.name} ({network.engine.reason})" if work.passes else ""
    result.problems = _with_duplicates(manifest, result.problems)
    result.features = {key: look_up(space, manifest.sha256) for key, space in spaces.items()}
    result.seconds = time.monotonic() - started
    return result


def settle(
    network: Network, precision: str, manifest: Manifest, contract: InputContract, stored_as: str, story: Story
) -> Network:
    """The network in one precision: where either will do, the one that the store holds most of, else by trial."""
    if precision != "auto":
        return replace(network, precision=precision)
    held = {}
    for one in ("float32", "bfloat16"):
        plain = Augmentation(strength="none").describe(CENTRE)
        space = open_space(describe(replace(network, precision=one), network.outputs[0], contract, plain, stored_as))
        held[one] = 1 - float(look_up(space, manifest.sha256).lacking.mean())
    most = max(held, key=lambda one: held[one])
    if held[most] >= HELD_ENOUGH:
        story.say(f"precision {most}: the store holds {held[most]:.0%} of the images in it")
        return replace(network, precision=most)
    from tlkit.inference import settle_engine  # loads Keras

    files = [manifest.file(i) for i in range(len(manifest))]
    labels = None if network.outputs[0] == LOGITS else manifest.labels
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


def _copies(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each set of byte-identical images, and for every row its place among those."""
    names = np.ascontiguousarray(manifest.sha256).view("V32").ravel()
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
