"""From images to frozen activations: what the store does not hold yet is computed once, by an executor, and stored."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import first_places
from tlkit.base.story import Silence, Story
from tlkit.data.clips import Clips
from tlkit.data.dataset import Dataset, Problem
from tlkit.data.decode import named
from tlkit.data.views import CENTRE, Augmentation
from tlkit.extraction.executors import LOGITS as LOGITS
from tlkit.extraction.executors import Computation, Done, Key, batch_of, refuse_not_finite, same_bytes, spread
from tlkit.extraction.room import make_room
from tlkit.extraction.store import Appender, ClipFeatures, Rows, Space, StoredFeatures, look_up
from tlkit.options.commands import AuditConfig, FeaturesConfig, PredictConfig
from tlkit.options.groups import Portion, parse_shard
from tlkit.options.obtain import RankConfig

if TYPE_CHECKING:
    from tlkit.extraction.source import FeatureSource

Shared = AuditConfig | FeaturesConfig | PredictConfig | RankConfig  # options of commands that work in shards


@dataclass
class Extraction:
    """The result of an extraction, and what it took.

    Args:
        features: (output, view) -> rows for the images of the dataset, in its order; rows of
            images with a problem, and those whose view was not asked for, may be missing.
        problems: files that could not be decoded.
        passes: images that went through the network now (each view counts).
        stored: images times views that the store already held, of those asked for here.
        seconds: of wall time.
        engine: name and reason of the engine, "" when nothing had to be computed.
        images: number asked for here: all of the dataset, or a share of it.
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
        """The first output of the first view."""
        return next(iter(self.features.values()))

    def sentence(self, what: str = "features") -> str:
        """What the extraction took, in a sentence."""
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

    One pass: each image is decoded once for all outputs. Exact duplicates are computed once.
    If it is killed, it resumes where it was. A source with a share of the images computes, and returns, only these.

    Args:
        source: what to compute.
        dataset: the images.
        views: numbers of the views; 0 is the image itself.
        viewed: rows of the images that have views other than 0; all by default.
        augmentation: of the other views.
        story: reports the progress.

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
    first, copy_of = same_bytes(dataset)
    asked = {view: _asked(view, viewed, copy_of) for view in views}
    wanted = {
        view: asked[view] & np.any([lacks for (_, of), lacks in lacking.items() if of == view], axis=0)
        for view in views
    }
    known = sum(int((asked[view] & ~wanted[view]).sum()) for view in views)
    result = Extraction(stored=known, images=len(dataset))
    rows = _in_order(first, wanted)
    if len(rows):
        passes, batch = _for_engine(source.share, whole, wanted), batch_of(len(rows), source.batch_size)
        work = Computation(source, dataset, wanted, lacking, augmentation, story, passes, batch)
        make_room(work.bytes(rows), story)
        for done in story.track(_storing(work, rows, spaces), "extracting", len(rows)):
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


def _storing(work: Computation, rows: np.ndarray, spaces: Mapping[Key, Space]) -> Iterator[Done]:
    """The results of the executor for the images at `rows`, each after it has been stored."""
    source = work.source
    shared = not source.share.whole
    with ExitStack() as stack:
        appenders = {key: stack.enter_context(Appender(space, shared=shared)) for key, space in spaces.items()}
        for done in spread(work, rows, source.executor, work.story):
            for made in done.made:
                appenders[made.key].append(made.sha256, made.rows)
            yield done


def _of_clips(source: "FeatureSource", clips: Clips, story: Story | None) -> Extraction:
    """The same for clips: their frames, each by its own content, so that another choice of frames reuses them."""
    found = extract(source, clips.frames, story=story)
    features = {key: Rows(ClipFeatures(rows.held, clips.places)) for key, rows in found.features.items()}
    return replace(found, features=features)


def _tell_problems(problems: Sequence[Problem], story: Story) -> None:
    if problems:
        count = len(problems)
        story.say(f"{count} {'file' if count == 1 else 'files'} could not be used: {named(problems)}")


def _refuse_held(source: "FeatureSource", held: Sequence[StoredFeatures], dataset: Dataset) -> None:
    """Check a store that may be older than `refuse_not_finite`: weights that are not finite show in every row, so in the first."""
    first = np.flatnonzero(~np.any([found.lacking for found in held], axis=0))[:1]
    if len(first):
        refuse_not_finite(source, [found[first] for found in held], lambda row: dataset.paths[first[row]])


def _tell_damaged(spaces: Iterable[Space], story: Story) -> None:
    """Report once which shards are damaged."""
    for space in spaces:
        if space.damaged:
            names = ", ".join(sorted(space.damaged)[:3]) + (", ..." if len(space.damaged) > 3 else "")
            story.say(
                f"damaged in the feature store and removed from it: {names} in {space.folder}; what is needed of their rows "
                "is computed again"
            )


def shard_result(config: Shared, images: int, found: Sequence[Extraction], story: Story) -> dict[str, Any]:
    """The result of a command that has computed its share of so many images, in one or more extractions.

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
    """The number of images that the engine is chosen for.

    Every share uses the engine that would compute all of the images, so that rows do not depend on the share.
    """
    if share.whole:
        return sum(int(each.sum()) for each in wanted.values())
    return len(same_bytes(whole)[0]) * len(wanted)


def held_by(share: Portion, sha256: np.ndarray) -> np.ndarray:
    """Bool (N,), images uint8 (N, 32) of a share: each image is in one of `share.of`, independently of the rest of the set."""
    number = np.ascontiguousarray(sha256[:, :8]).view(">u8").ravel() % np.uint64(share.of)
    return number == share.number - 1


def _asked(view: int, viewed: np.ndarray | None, copy_of: np.ndarray) -> np.ndarray:
    """Bool (N,), images whose view is wanted, for themselves or for a copy."""
    if view == CENTRE or viewed is None:
        return np.ones(len(copy_of), bool)
    return np.isin(copy_of, copy_of[viewed])


def _in_order(first: np.ndarray, wanted: Mapping[int, np.ndarray]) -> np.ndarray:
    """The rows to process: those with the most views first, so that batches are full in every view."""
    counts = np.sum([wanted[view][first] for view in wanted], axis=0)
    rows, counts = first[counts > 0], counts[counts > 0]
    return rows[np.lexsort((rows, -counts))]


def _with_duplicates(dataset: Dataset, problems: list[Problem]) -> list[Problem]:
    """A problem of one file is a problem of every copy of it."""
    if not problems:
        return problems
    position = first_places(dataset.paths, {problem.path for problem in problems})
    reasons = {dataset.sha256[position[problem.path]].tobytes(): problem.reason for problem in problems}
    digests = (row.tobytes() for row in dataset.sha256)
    return [
        Problem(path, reasons[digest]) for path, digest in zip(dataset.paths, digests, strict=True) if digest in reasons
    ]
