"""Clips: samples that are several frames in order. Which frames are taken, what belongs together, and what is refused."""

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


EVEN = 0.01  # by how much the times between frames may differ and still be one


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are taken: every `stride`-th, and of those `frames` at most, evenly spaced.

    Args:
        frames: T, at most; a clip that has fewer has them all. None for every one.
        stride: 1 takes every frame, 2 every other one.
        asked: whether folders are to be read as clips; a table says it itself, by its column `clip`.
    """

    frames: int | None = None
    stride: int = 1
    asked: bool = True

    def choose(self, count: int, times: Sequence[float] | None = None) -> np.ndarray:
        """Int (n,), ascending positions among `count` frames; the first and the last are among them, of one the middle.

        Args:
            count: frames there are.
            times: when each is shown, in seconds, ascending: where they are not evenly spaced, those frames are taken that
                lie nearest to evenly spaced times, each once.
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
    """Ascending places, each once, of the times (n,) nearest to those that are wanted (m,), m < n."""
    places = np.abs(shown[None] - wanted[:, None]).argmin(axis=1)
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + 1)
    last = len(shown)
    for at in range(len(places) - 1, -1, -1):
        last = places[at] = min(places[at], last - 1)
    return places


@dataclass(frozen=True)
class Clips:
    """What the N clips of a dataset consist of.

    Args:
        frames: the frames as images of their own, those of a clip one after the other, in order of time.
        starts: int64 (N + 1,), where the frames of each clip begin.
        sampling: how they were taken.
    """

    frames: Dataset
    starts: np.ndarray
    sampling: Sampling

    @property
    def counts(self) -> np.ndarray:
        """int64 (N,), frames of each clip, at least 1."""
        return np.diff(self.starts)

    @property
    def length(self) -> int:
        """T, the frames that a clip may have."""
        return self.sampling.frames or int(self.counts.max(initial=1))

    @cached_property
    def places(self) -> np.ndarray:
        """int64 (N, T), the row of each frame of each clip; -1 after its last."""
        steps = np.arange(self.length)
        return np.where(steps < self.counts[:, None], self.starts[:-1, None] + steps, -1)

    def middle(self, index: int) -> int:
        """The row of the frame that stands for a clip where one picture is shown."""
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
        """A row for each frame, with what is known of its clip and the name of it in the column `clip`."""
        owner = np.repeat(np.arange(len(self.counts)), self.counts)
        spread = replace(dataset, clips=None, looks=None).select(owner)
        own = self.frames
        extra = {CLIP: [dataset.paths[i] for i in owner.tolist()], **spread.extra}
        return replace(spread, root=own.root, paths=own.paths, sha256=own.sha256, sizes=own.sizes, extra=extra)


def for_table(dataset: Dataset) -> Dataset:
    """A row for each frame of clips, of a film one: what a table lists that is read again where the cache may be another."""
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
    """A dataset of clips from one of their frames, each of which is in order of time within its clip.

    A clip is known by the hash of the hashes of its frames, in order; its label, split and group are those of its
    frames, who must agree.

    Args:
        frames: F images.
        names: F names of clips.
        sampling: how the frames were taken.

    Raises:
        TlkitError: frames of one clip with another label, split or group.
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
    """Whether a column says the same of all frames of a clip, so that it is about the clip."""
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
                f"the frames of the clip {names[owner[row]]!r} do not agree: {frames.paths[first[owner[row]]]!r} has {kind} "
                f"{told[first[owner[row]]]!r}, {frames.paths[row]!r} has {told[row]!r}.",
                f"give all frames of a clip one {kind}; a clip is one sample.",
            )


# -- Which files are the frames of which clip --------------------------------------------------


def natural(name: str) -> list[str | int]:
    """A key by which frame_2 comes before frame_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def chosen(names: Sequence[str], keys: Sequence[object], sampling: Sampling, whole: Collection[int] = ()) -> list[int]:
    """The rows that are taken: clip by clip as they first appear, those of each in the order of their keys.

    Args:
        names: of the clip of each row.
        keys: of the place of each row in time; rows of one clip with equal keys stay in their order.
        sampling: which of them.
        whole: rows that are a clip each, whatever they are called.
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
    """The folder that a file lies in, which is its clip."""
    return path.rpartition("/")[0] or "."


@dataclass(frozen=True)
class Finder:
    """Finds the frames that are taken of the clips of a folder or table, and decodes those of containers.

    Args:
        sampling: which frames.
        story: hears the progress.
    """

    sampling: Sampling
    story: Story

    def takes(self, file: Path) -> bool:
        """Whether a file is a clip by itself."""
        return is_container(file)

    def named(self, path: str, clip: str) -> str:
        """The path of a frame; of a decoded one that of its container."""
        return clip if Path(path).is_absolute() else path

    def of_layout(self, layout: Layout, root: Path, typed: str) -> tuple[Layout, int]:
        """The layout with the frames that are taken, clip by clip; and how many files are neither frames nor containers.

        A clip is a folder of frames inside a class folder, or any folder where there are no classes; or a container.

        Raises:
            TlkitError: single images, among clips or in their place; containers that nothing here reads.
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
        """Whether a file is a container: a film, or an animation in the place of a clip."""
        path = layout.files[row]
        if layout.labels[row] == LOOSE or suffix(path) in FILMS:
            return suffix(path) in FILMS
        in_place = folder_of(path) in layout.class_folders or (not layout.class_folders and "/" not in path)
        return in_place and suffix(path) in ANIMATIONS and moves(root / path)

    def _decoded(self, root: Path, films: Sequence[str]) -> tuple[dict[str, list[Path]], tuple[Problem, ...]]:
        """The files of the frames of containers that are taken, by container; and those that cannot be read."""
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
        """The rows of a table that are taken, clip by clip in the order of the column `frame`, or else of the table.

        A row whose path is a container is a clip of its own.

        Raises:
            TlkitError: no column `clip` and no container, rows without a clip, or frames that are numbered in part.
        """
        films = {row for row, path in enumerate(listing.paths) if is_container(file.parent / path)}
        names = listing.columns.get(CLIP)
        if names is None and len(films) < len(listing.paths):
            raise TlkitError(
                f"{str(file)!r} has no column {CLIP!r}; it has {', '.join(map(repr, ('path', *listing.columns)))}.",
                "name the clip of every frame in a column clip, or leave out --time, --frames and --stride for single images.",
            )
        names = [path if row in films else names[row] if names else "" for row, path in enumerate(listing.paths)]
        if "" in names:
            row = names.index("")
            raise TlkitError(
                f"{str(file)!r} holds clips and single images: row {row + 2}, {listing.paths[row]!r}, has no clip.",
                "fill in the column clip; an image of its own is a clip of one frame.",
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
    """Whether a file that is a row of a table is a clip by itself."""
    return suffix(file.as_posix()) in FILMS or (suffix(file.as_posix()) in ANIMATIONS and moves(file))


def refuse_fixes(fixes: str | None) -> None:
    """Raise for fixes, which name single images.

    Raises:
        TlkitError: where there are some.
    """
    if fixes:
        raise TlkitError(f"--fixes {fixes} is for single images, and the samples are clips.", "correct the folders.")


def refuse_mixed(single: str, frame: str, typed: str) -> None:
    """Raise for a single image where there should be clips."""
    if frame:
        raise TlkitError(
            f"{typed!r} holds single images and clips: {single!r} lies in a class folder itself, {frame!r} in a folder inside it.",
            "put each image into a folder of its own to make it a clip of one frame, or remove one of the two kinds.",
        )
    raise TlkitError(
        f"{typed!r} holds single images and no clips: {single!r} lies in a class folder itself.",
        "put the frames of each clip into a folder of their own, CLASS/CLIP/frame_01.jpg; or leave out --time, --frames and "
        "--stride for single images.",
    )


def _times(listing: Listing, file: str, films: set[int]) -> list[float]:
    """The place of every row in time, within its clip; a container has it inside."""
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
                "number the frames of every clip; without the column they are in the order of the rows.",
            ) from None
    return times


# -- Which clips there are: the files of `scan`, folded so that the frames of a clip are one sample ---


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
    """List the clips of a folder (folders of frames, or containers, inside class folders), of a table, or the one in a container.

    Only frames that are taken are read, and each is decoded: one that cannot be is set aside and missing in its clip. Where no labels are wanted, every folder that frames lie in is a clip.

    Args:
        images: a folder or a table.
        sampling: which frames.
        classes: as of `scan`.
        group_by: as of `scan`.
        labelled: as of `scan`.
        known: as of `scan`.
        story: hears the progress and what was noticed.

    Raises:
        TlkitError: as of `scan`; single images among clips, or frames of a clip that do not agree on label, split or group.
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
    """The clips of a run as they are: frames of containers that the cache has no more are decoded again.

    Where the container is gone or cannot be read, its frames stay where they were, and are missed by whoever reads them.
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
    """Whether the samples are clips: where that was asked for, or a table has films, or a column `clip` that is not the group."""
    source = Path(images).expanduser()
    if sampling.asked or source.suffix.lower() not in SUFFIXES or not source.is_file():
        return sampling.asked
    columns = read_table(source, (CLIP, "path"))[0]
    films = any(suffix(path) in FILMS for path in columns.get("path", ()))
    return films or (group_by != CLIP and CLIP in columns)
