"""Clips, samples of several ordered frames: which frames are taken, which belong together, and what is refused."""

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.machine import usable_cores
from tlkit.base.story import SILENCE, Story
from tlkit.data.dataset import SPLITS, Dataset, Problem
from tlkit.data.decode import in_order
from tlkit.data.films import ANIMATIONS, FILMS, frame_files, moves, refuse_lacking
from tlkit.data.folders import LOOSE, Layout
from tlkit.data.look import Checker, read_contents
from tlkit.data.scan import first_of, listed, tell_unexpected
from tlkit.data.table import CLIP, SUFFIXES, Listing, read_table
from tlkit.pixels.sniff import IMAGE_SUFFIXES, suffix
from tlkit.tasks.task import Task

FRAME = "frame"  # the column that orders the frames of a clip


EVEN = 0.01  # relative difference up to which intervals between frames count as equal


@dataclass(frozen=True)
class Sampling:
    """Frame sampling: every `stride`-th frame of a clip, and of those at most `frames`, evenly spaced.

    Args:
        frames: T, the maximum; shorter clips keep all their frames. None for no limit.
        stride: 1 takes every frame, 2 every other one.
        asked: whether to read folders as clips; a table declares it by its column `clip`.
    """

    frames: int | None = None
    stride: int = 1
    asked: bool = True

    def choose(self, count: int, times: Sequence[float] | None = None) -> np.ndarray:
        """Positions of the chosen frames, int (n,), ascending, with the first and the last; the middle one if n is 1.

        Args:
            count: number of frames.
            times: presentation times in seconds, ascending; if not evenly spaced, the frames nearest to evenly spaced
                times are taken, each once.
        """
        left = np.arange(0, count, self.stride)
        if self.frames is None or len(left) <= self.frames:
            return left
        if self.frames == 1:
            return left[len(left) // 2 : len(left) // 2 + 1]
        steps = np.linspace(0, len(left) - 1, self.frames).round().astype(np.int64)
        if times is None:
            return left[steps]
        shown = np.asarray(times, np.float64)[left]
        gaps = np.diff(shown)
        if gaps.min() <= 0 or np.ptp(gaps) <= max(EVEN, EVEN * gaps.max()):
            return left[steps]
        return left[_nearest(shown, np.linspace(shown[0], shown[-1], self.frames))]


def _nearest(shown: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Ascending indices, each once, of the times (n,) nearest to the wanted times (m,), m < n."""
    places = np.abs(shown[None] - wanted[:, None]).argmin(axis=1)
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + 1)
    last = len(shown)
    for at in range(len(places) - 1, -1, -1):
        last = places[at] = min(places[at], last - 1)
    return places


@dataclass(frozen=True)
class Clips:
    """The frames of the N clips of a dataset.

    Args:
        frames: the frames as a dataset of images, clip by clip, in order of time.
        starts: int64 (N + 1,), the first row of each clip.
        sampling: how the frames were sampled.
    """

    frames: Dataset
    starts: np.ndarray
    sampling: Sampling

    @property
    def counts(self) -> np.ndarray:
        """Number of frames of each clip, int64 (N,), at least 1."""
        return np.diff(self.starts)

    @property
    def length(self) -> int:
        """T, the maximum number of frames per clip."""
        return self.sampling.frames or int(self.counts.max(initial=1))

    @cached_property
    def places(self) -> np.ndarray:
        """Row of each frame of each clip, int64 (N, T); -1 after the last frame."""
        steps = np.arange(self.length)
        return np.where(steps < self.counts[:, None], self.starts[:-1, None] + steps, -1)

    def middle(self, index: int) -> int:
        """The row of the middle frame, shown where a clip needs a single picture."""
        return int(self.starts[index] + self.counts[index] // 2)

    def of(self, index: int) -> range:
        """The rows of the frames of a clip."""
        return range(int(self.starts[index]), int(self.starts[index + 1]))

    def select(self, indices: np.ndarray) -> "Clips":
        """Some of the clips, in that order."""
        rows = [row for index in indices.tolist() for row in self.of(index)]
        starts = np.concatenate([[0], np.cumsum(self.counts[indices])]).astype(np.int64)
        return Clips(self.frames.select(rows), starts, self.sampling)

    def table(self, dataset: Dataset) -> Dataset:
        """A dataset with a row per frame, with its clip's label, split and group, and name in the column `clip`."""
        owner = np.repeat(np.arange(len(self.counts)), self.counts)
        spread = replace(dataset, clips=None, looks=None).select(owner)
        own = self.frames
        extra = {CLIP: [dataset.paths[i] for i in owner.tolist()], **spread.extra}
        return replace(spread, root=own.root, paths=own.paths, sha256=own.sha256, sizes=own.sizes, extra=extra)


def for_table(dataset: Dataset) -> Dataset:
    """The rows for a table that stays valid with another cache: one per frame of clips, one per film."""
    if dataset.clips is None:
        return dataset
    clips, rows = dataset.clips, dataset.clips.table(dataset)
    films = np.array([suffix(name) in FILMS | ANIMATIONS for name in dataset.paths])
    owner = np.repeat(np.arange(len(dataset)), clips.counts)
    first = np.zeros(len(rows), bool)
    first[clips.starts[:-1]] = True
    kept = np.flatnonzero(~films[owner] | first)
    one, of = rows.select(kept), owner[kept]
    return replace(
        one,
        paths=[dataset.paths[clip] if films[clip] else path for clip, path in zip(of.tolist(), one.paths, strict=True)],
        sha256=np.where(films[of, None], dataset.sha256[of], one.sha256),
        sizes=np.where(films[of], dataset.sizes[of], one.sizes),
    )


def fold(frames: Dataset, names: Sequence[str], sampling: Sampling) -> Dataset:
    """Fold a dataset of frames, in order of time within each clip, into a dataset of clips.

    A clip is identified by the hash of its frames' hashes, in order; its label, split and group are those of its
    frames, which must agree.

    Args:
        frames: F images.
        names: the clip of each frame, F names.
        sampling: how the frames were sampled.

    Raises:
        TlkitError: if frames of one clip differ in label, split or group.
    """
    known = {name: place for place, name in enumerate(dict.fromkeys(names))}
    owner = np.array([known[name] for name in names], dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    frames, owner = frames.select(order), owner[order]
    starts = np.searchsorted(owner, np.arange(len(known) + 1)).astype(np.int64)
    first = starts[:-1]
    _refuse_disagreement(frames, list(known), owner, first)
    digests = [hashlib.sha256(frames.sha256[start:end].tobytes()).digest() for start, end in _spans(starts)]
    clips = Clips(frames, starts, sampling)
    alike = {name: column for name, column in frames.extra.items() if _constant(column, owner, first)}
    return replace(
        replace(frames, extra=alike, looks=None).select(first),
        paths=list(known),
        sha256=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32),
        sizes=np.add.reduceat(frames.sizes, first) if len(known) else frames.sizes,
        clips=clips,
    )


def _spans(starts: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))


def _constant(column: Sequence[str], owner: np.ndarray, first: np.ndarray) -> bool:
    """Whether a column is constant within every clip, and so describes the clip."""
    values = np.array(column, dtype=object)
    return bool((values == values[first][owner]).all())


def _refuse_disagreement(frames: Dataset, names: Sequence[str], owner: np.ndarray, first: np.ndarray) -> None:
    splits = (*SPLITS, "none")
    columns: dict[str, Callable[[int], str]] = {
        "label": frames.label_name,
        "split": lambda row: splits[frames.given[row]],
        "group": lambda row: frames.groups[row] if frames.groups else "",
    }
    for kind, said in columns.items():
        told = np.array([said(row) for row in range(len(frames))], dtype=object)
        other = np.flatnonzero(told != told[first][owner])
        if len(other):
            row = int(other[0])
            raise TlkitError(
                f"the frames of the clip {names[owner[row]]!r} do not agree: {frames.paths[first[owner[row]]]!r} has "
                f"{kind} {told[first[owner[row]]]!r}, {frames.paths[row]!r} has {told[row]!r}.",
                f"give all frames of a clip one {kind}; a clip is one sample.",
            )


# -- Finding the frames of clips --------------------------------------------------


def natural(name: str) -> list[str | int]:
    """A sort key that puts frame_2 before frame_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def chosen(names: Sequence[str], keys: Sequence[object], sampling: Sampling, whole: Collection[int] = ()) -> list[int]:
    """The sampled rows: clips in order of first appearance, frames in the order of their keys.

    Args:
        names: the clip of each row.
        keys: the position of each row in time; equal keys keep the order of the rows.
        sampling: which frames to take.
        whole: rows that are a clip by themselves, whatever their name.
    """
    members: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        members.setdefault(f"\0{row}" if row in whole else name, []).append(row)
    taken = []
    for rows in members.values():
        ordered = sorted(rows, key=lambda row: keys[row])  # type: ignore[arg-type, return-value]
        taken += [ordered[place] for place in sampling.choose(len(ordered)).tolist()]
    return taken


def folder_of(path: str) -> str:
    """The folder of a file, which is its clip."""
    return path.rpartition("/")[0] or "."


@dataclass(frozen=True)
class Finder:
    """Finds the sampled frames of the clips in a folder or table, and decodes those of video files.

    Args:
        sampling: which frames to take.
        story: receives progress.
    """

    sampling: Sampling
    story: Story

    def takes(self, file: Path) -> bool:
        """Whether a file is a clip by itself."""
        return is_container(file)

    def named(self, path: str, clip: str) -> str:
        """The path of a frame; for a decoded frame that of its container."""
        return clip if Path(path).is_absolute() else path

    def of_layout(self, layout: Layout, root: Path, typed: str) -> tuple[Layout, int]:
        """The layout with the sampled frames, clip by clip, and the number of files that are of no clip.

        A clip is a folder of frames inside a class folder, or any folder if there are no classes; or a container.

        Raises:
            TlkitError: for single images instead of or among clips, or containers that cannot be read here.
        """
        rows = range(len(layout.files))
        films = {row: film for row in rows if (film := self._is_film(layout, root, row))}
        images = [row for row in rows if row not in films and suffix(layout.files[row]) in IMAGE_SUFFIXES]
        images = images or [row for row in rows if row not in films and not films]
        framed = [row for row in images if layout.labels[row] != LOOSE]
        single = [row for row in framed if folder_of(layout.files[row]) in layout.class_folders]
        if single:
            others = (layout.files[row] for row in [*framed, *films] if row not in set(single))
            refuse_mixed(layout.files[single[0]], next(others, ""), typed)
        paths = [layout.files[row] for row in framed]
        names = [folder_of(path) for path in paths]
        taken = [
            (names[i], layout.files[framed[i]], framed[i])
            for i in chosen(names, [natural(path) for path in paths], self.sampling)
        ]
        decoded, problems = self._decoded(root, [layout.files[row] for row in films])
        rows_of = {layout.files[row]: row for row in films}
        taken += [(name, str(file), rows_of[name]) for name, files in decoded.items() for file in files]
        taken.sort(key=lambda one: f"{one[0]}/")
        taken += [("", layout.files[row], row) for row in images if layout.labels[row] == LOOSE]
        kept = [row for _, _, row in taken]
        found = replace(
            layout,
            files=[file for _, file, _ in taken],
            labels=layout.labels[kept],
            given=layout.given[kept],
            clips=[name for name, _, _ in taken],
            problems=problems,
        )
        return found, len(layout.files) - len(images) - len(films)

    def _is_film(self, layout: Layout, root: Path, row: int) -> bool:
        """Whether a file is a container: a film, or an animation where a clip is expected."""
        path = layout.files[row]
        if layout.labels[row] == LOOSE or suffix(path) in FILMS:
            return suffix(path) in FILMS
        in_place = folder_of(path) in layout.class_folders or (not layout.class_folders and "/" not in path)
        return in_place and suffix(path) in ANIMATIONS and moves(root / path)

    def _decoded(self, root: Path, films: Sequence[str]) -> tuple[dict[str, list[Path]], tuple[Problem, ...]]:
        """The files of the sampled frames by container, and the containers that cannot be read."""
        if any(suffix(film) in FILMS for film in films):
            refuse_lacking()

        def read(film: str) -> list[Path] | str:
            try:
                return frame_files(root / film, self.sampling.choose)
            except UnreadableImage as error:
                return error.message

        found = in_order(read, films, threads=usable_cores(), ahead=4 * usable_cores())
        read_in = dict(zip(films, self.story.track(found, "decoding clips", len(films)) if films else (), strict=True))
        problems = tuple(Problem(film, reason) for film, reason in read_in.items() if isinstance(reason, str))
        return {film: files for film, files in read_in.items() if not isinstance(files, str)}, problems

    def of_listing(self, listing: Listing, file: Path) -> Listing:
        """The sampled rows of a table, clip by clip in the order of the column `frame`, else of the table.

        A row whose path is a container is a clip of its own.

        Raises:
            TlkitError: without a column `clip` or containers, for rows without a clip, or partly numbered frames.
        """
        films = {row for row, path in enumerate(listing.paths) if is_container(file.parent / path)}
        names = listing.columns.get(CLIP)
        if names is None and len(films) < len(listing.paths):
            raise TlkitError(
                f"{str(file)!r} has no column {CLIP!r}; it has {', '.join(map(repr, ('path', *listing.columns)))}.",
                "name the clip of every frame in a column clip, or leave out --time, --frames and --stride for "
                "single images.",
            )
        names = [path if row in films else names[row] if names else "" for row, path in enumerate(listing.paths)]
        if "" in names:
            row = names.index("")
            raise TlkitError(
                f"{str(file)!r} holds clips and single images: row {row + 2}, {listing.paths[row]!r}, has no clip.",
                "fill in the column clip; an image with a clip of its own is a clip of one frame.",
            )
        decoded, problems = self._decoded(file.parent, [listing.paths[row] for row in sorted(films)])
        times = _times(listing, str(file), films)
        framed = chosen(names, times, self.sampling, films)
        taken = [
            (row, path)
            for row in framed
            for path in (map(str, decoded.get(listing.paths[row], [])) if row in films else [listing.paths[row]])
        ]
        spread = listing.select([row for row, _ in taken])
        columns = {**spread.columns, CLIP: [names[row] for row, _ in taken]}
        return replace(spread, paths=[path for _, path in taken], columns=columns, problems=problems)


def is_container(file: Path) -> bool:
    """Whether a file listed in a table is a clip by itself."""
    return suffix(file.as_posix()) in FILMS or (suffix(file.as_posix()) in ANIMATIONS and moves(file))


def refuse_fixes(fixes: str | None) -> None:
    """Refuse fixes, which name single images.

    Raises:
        TlkitError: if `fixes` is given.
    """
    if fixes:
        raise TlkitError(f"--fixes {fixes} is for single images, and the samples are clips.", "correct the folders.")


def refuse_mixed(single: str, frame: str, typed: str) -> None:
    """Raise for a single image where clips are expected."""
    if frame:
        raise TlkitError(
            f"{typed!r} holds single images and clips: {single!r} lies in a class folder itself, {frame!r} in a "
            "folder inside it.",
            "put each image into a folder of its own to make it a clip of one frame, or remove one of the two kinds.",
        )
    raise TlkitError(
        f"{typed!r} holds single images and no clips: {single!r} lies in a class folder itself.",
        "put the frames of each clip into a folder of their own, CLASS/CLIP/frame_01.jpg; or leave out --time, "
        "--frames and --stride for single images.",
    )


def _times(listing: Listing, file: str, films: set[int]) -> list[float]:
    """The position in time of every row within its clip; 0 for containers."""
    texts = listing.columns.get(FRAME)
    if texts is None:
        return [0.0] * len(listing.paths)
    times = []
    for row, text in enumerate(texts):
        try:
            times.append(0.0 if row in films else float(text))
        except ValueError:
            raise TlkitError(
                f"row {row + 2} of {file!r} has frame {text!r}, expected a number or a time in seconds.",
                "number the frames of every clip; without the column they are taken in the order of the rows.",
            ) from None
    return times


# -- Scanning clips: the files of `scan`, folded so that the frames of a clip are one sample ---


def scan_clips(
    images: str | Path,
    sampling: Sampling,
    *,
    classes: Sequence[str] | None = None,
    group_by: str | None = None,
    labelled: bool | Task | None = True,
    known: Sequence[str] = (),
    story: Story = SILENCE,
) -> Dataset:
    """List the clips of a folder (folders of frames or containers in class folders), of a table, or of one container.

    Only sampled frames are read, and each is decoded: one that cannot be is set aside and missing in its clip. If
    labels are not required, every folder of frames is a clip.

    Args:
        images: a folder or a table.
        sampling: which frames to take.
        classes: as in `scan`.
        group_by: as in `scan`.
        labelled: as in `scan`.
        known: as in `scan`.
        story: receives progress and messages.

    Raises:
        TlkitError: as in `scan`; for single images among clips, or frames of a clip that differ in label, split or
            group.
    """
    read = partial(read_contents, story=story, by=Checker)
    frames = listed(images, (classes, known), group_by, labelled, read, Finder(sampling, story), story)
    names = frames.extra.pop(CLIP)
    frames.extra.pop(FRAME, None)
    dataset = fold(frames, names, sampling)
    for name, count in zip(dataset.classes, dataset.class_counts().tolist(), strict=True):
        if not count:
            raise TlkitError(f"no clip of class {name!r} has a frame that can be decoded.", first_of(dataset.set_aside))
    if dataset.clips is not None:
        counts = dataset.clips.counts
        low, high = int(counts.min()), int(counts.max())
        each = f"{high} frame{'s' * (high != 1)}" if low == high else f"{low} to {high} frames"
        story.say(f"{len(dataset)} clip{'s' * (len(dataset) != 1)} of {each}, {counts.sum()} frames in all.")
    tell_unexpected(dataset, story)
    return dataset


def decoded_again(dataset: Dataset) -> Dataset:
    """The clips of a run, decoding again frames of containers that are no longer in the cache.

    If a container is gone or cannot be read, the paths of its frames are kept, and reading them fails.
    """
    if dataset.clips is None:
        return dataset
    frames, paths = dataset.clips.frames, list(dataset.clips.frames.paths)
    for number, name in enumerate(dataset.paths):
        rows, film = dataset.clips.of(number), dataset.root / name
        if suffix(name) not in FILMS | ANIMATIONS or all(frames.file(row).is_file() for row in rows):
            continue
        try:
            files = frame_files(film, dataset.clips.sampling.choose)
        except (UnreadableImage, TlkitError):
            continue
        if len(files) == len(rows):
            paths[rows.start : rows.stop] = map(str, files)
    return replace(dataset, clips=replace(dataset.clips, frames=replace(frames, paths=paths)))


def holds_clips(images: str | Path, sampling: Sampling, group_by: str | None = None) -> bool:
    """Whether samples are clips: if requested, or if a table lists films or has a column `clip` not used as group."""
    source = Path(images).expanduser()
    if sampling.asked or source.suffix.lower() not in SUFFIXES or not source.is_file():
        return sampling.asked
    columns = read_table(source, (CLIP, "path"))[0]
    films = any(suffix(path) in FILMS for path in columns.get("path", ()))
    return films or (group_by != CLIP and CLIP in columns)
