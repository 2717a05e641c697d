"""The images a command works on, one row per image, stored in columns; and their splits."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from tlkit.base.files import BYTES_AS_TEXT, CellWriter, GrowingTexts, Texts, read_cell, replacing, restored, taken
from tlkit.options.catalog import SPLITS as SPLITS
from tlkit.pixels.contract import DECODE_VERSION as DECODE_VERSION
from tlkit.pixels.contract import InputContract as InputContract
from tlkit.tasks.registry import Labelled, picked
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import UNLABELLED as UNLABELLED
from tlkit.tasks.task import Scale, Task

if TYPE_CHECKING:
    from tlkit.data.clips import Clips
    from tlkit.data.look import Looks


@dataclass(frozen=True)
class Problem:
    """A file that was set aside, and the reason in one plain sentence."""

    path: str
    reason: str

    def as_json(self) -> dict[str, str]:
        """`{"path": ..., "reason": ...}`, as commands print it."""
        return {"path": self.path, "reason": self.reason}


class Files(Sequence[Path]):
    """A sequence of `Path` created on access, because a `Path` takes several times the memory of its name.

    Args:
        names: names of the files, relative to `root` or absolute.
        root: the folder of relative names.
    """

    def __init__(self, names: Sequence[str], root: Path | None = None) -> None:
        self.names, self.root = names, root or Path()

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> "Files": ...
    def __getitem__(self, place: int | slice) -> "Path | Files":
        """One path, or a slice."""
        return Files(self.names[place], self.root) if isinstance(place, slice) else self.root / self.names[place]


@dataclass(frozen=True)
class Dataset(Labelled):
    """Images as columns of equal length N; about 200 bytes per row, so that a million rows fit in memory.

    Args:
        root: the folder of relative paths.
        classes: class names; a label is an index into them.
        paths: POSIX, relative to `root` if below it, else absolute.
        labels: int32 (N,), see `Labelled`.
        sha256: uint8 (N, 32), hash of the file's bytes.
        sizes: int64 (N,), file sizes in bytes.
        given: int8 (N,), split given by the layout or the manifest file (index into `SPLITS`), -1 for none.
        groups: names of groups that must not straddle splits (a patient, a clip), or None.
        extra: further columns of a manifest file, by name; used as slices in reports.
        set_aside: files that look like images but cannot be used.
        ignored: number of files that are not images (hidden files, text, ...).
        drawn: how `given` was drawn here, before fixes changed labels; "" if it came with the images.
        fixed: what fixes changed, in a sentence or two; "" without fixes.
        targets: labels of multi-label tasks, see `Labelled`.
        looks: facts that the scan found in every file; None if it only listed them, as for frames of clips.
        clips: the frames of each sample if samples are clips; `paths` are then clip names and `sha256` the hash of the
            hashes of their frames. None if every sample is one image.
    """

    root: Path
    classes: tuple[str, ...]
    paths: Sequence[str]
    labels: np.ndarray
    sha256: np.ndarray
    sizes: np.ndarray
    given: np.ndarray
    groups: Sequence[str] | None = None
    extra: dict[str, Sequence[str]] = field(default_factory=dict)
    set_aside: tuple[Problem, ...] = ()
    ignored: int = 0
    drawn: str = ""
    fixed: str = ""
    targets: np.ndarray | None = None
    looks: "Looks | None" = None
    clips: "Clips | None" = None

    @classmethod
    def of_files(cls, root: Path, paths: Sequence[str], sha256: np.ndarray, sizes: np.ndarray) -> "Dataset":
        """A dataset of N files without classes, labels or split."""
        labels, given = np.full(len(paths), UNLABELLED, np.int32), np.full(len(paths), UNASSIGNED, np.int8)
        return cls(root=root, classes=(), paths=paths, labels=labels, sha256=sha256, sizes=sizes, given=given)

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        """The file of record `index`; for a clip its middle frame."""
        if self.clips is not None:
            return self.clips.frames.file(self.clips.middle(index))
        return self.root / self.paths[index]

    @property
    def files(self) -> Files:
        """The file of every image; for a clip its middle frame."""
        if self.clips is None:
            return Files(self.paths, self.root)
        frames = self.clips.frames
        return Files([frames.paths[self.clips.middle(row)] for row in range(len(self))], frames.root)

    @property
    def members(self) -> "Dataset":
        """A dataset of the files, one row each: the frames of clips, else the images."""
        return self if self.clips is None else self.clips.frames

    @property
    def sample(self) -> str:
        """The noun for a row: image, or clip."""
        return "image" if self.clips is None else "clip"

    @property
    def pictures(self) -> str:
        """The noun for the members: images, or frames."""
        return "images" if self.clips is None else "frames"

    @property
    def samples(self) -> str:
        """The plural of `sample`."""
        return f"{self.sample}s"

    def absolute(self) -> "Dataset":
        """The same with absolute paths, for a process in another working directory."""
        clips = None if self.clips is None else replace(self.clips, frames=self.clips.frames.absolute())
        return replace(self, root=Path(self.root).absolute(), clips=clips)

    def select(self, indices: Sequence[int] | np.ndarray) -> "Dataset":
        """The rows at `indices`, in that order; `set_aside` is kept."""
        rows = np.asarray(indices, dtype=np.int64)
        pick = rows.data  # yields plain integers, one at a time
        return replace(
            self,
            paths=taken(self.paths, pick),
            labels=self.labels[rows],
            targets=picked(self.targets, rows),
            sha256=self.sha256[rows],
            sizes=self.sizes[rows],
            given=self.given[rows],
            groups=None if self.groups is None else taken(self.groups, pick),
            extra={name: taken(column, pick) for name, column in self.extra.items()},
            looks=None if self.looks is None else self.looks.select(rows),
            clips=None if self.clips is None else self.clips.select(rows),
        )

    def in_units(self, scale: Scale | None) -> "Dataset":
        """The dataset with its numbers in the units of `scale`; unchanged if None."""
        return self if scale is None else replace(self, targets=scale.apply(self.truth))

    def unreadable(self) -> list[Problem]:
        """Files that the scan could not decode, with the reason."""
        seen = () if self.looks is None else self.looks.problem.tolist()
        return [Problem(path, reason) for path, reason in zip(self.paths, seen, strict=False) if reason]

    def without(self, problems: Sequence[Problem]) -> "Dataset":
        """The dataset with these files set aside."""
        return replace(self.select(self.rows_beside(problems)), set_aside=(*self.set_aside, *problems))

    def rows_beside(self, problems: Sequence[Problem]) -> np.ndarray:
        """Rows without any of these problems, int64 (n,)."""
        bad = {problem.path for problem in problems}
        return np.flatnonzero(np.fromiter((path not in bad for path in self.paths), bool, len(self)))

    def class_counts(self, among: np.ndarray | None = None) -> np.ndarray:
        """Number of images of each class, int64 (K,), over all rows or those selected by bool (N,)."""
        rows = slice(None) if among is None else among
        return self.task.counts(self.truth[rows], len(self.classes))

    def fingerprint(self) -> str:
        """Hex sha256 over content, labels and class names; independent of the location of the files."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        rows = np.concatenate([self.sha256, self.task.as_bytes(self.truth)], axis=1)
        digest.update(rows[np.lexsort(rows.T[::-1])].tobytes())
        return digest.hexdigest()

    # -- on disk -------------------------------------------------------------------------------

    def write_csv(self, path: Path) -> None:
        """Write path, label, split (as given), group, bytes, sha256 and extra columns; a row per frame for clips."""
        if self.clips is not None:
            return self.clips.table(self).write_csv(path)
        split_names = (*SPLITS, "")
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as file,
        ):
            writer = CellWriter(file)
            writer.writerow(["path", "label", "split", "group", "bytes", "sha256", *self.extra])
            for i, name in enumerate(self.paths):
                group = "" if self.groups is None else self.groups[i]
                row = [
                    name,
                    self.label_name(i),
                    split_names[self.given[i]],
                    group,
                    int(self.sizes[i]),
                    self.sha256[i].tobytes().hex(),
                ]
                writer.writerow(row + [column[i] for column in self.extra.values()])

    @classmethod
    def read_csv(
        cls,
        path: Path,
        root: Path,
        classes: tuple[str, ...],
        set_aside: Sequence[Problem] = (),
        *,
        task: Task = SINGLE,
    ) -> "Dataset":
        """Read what `write_csv` wrote. The root, the class order and the task are in the run's JSON."""
        codes = {name: code for code, name in enumerate(SPLITS)} | {"": UNASSIGNED}
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            growing = {name: GrowingTexts() for name in next(reader, [])}
            for row in filter(None, reader):
                for column, value in zip(growing.values(), row, strict=True):
                    column.append(read_cell(value))
        columns = {name: column.done() for name, column in growing.items()}
        known = ("path", "label", "split", "group", "bytes", "sha256")
        labels, targets = task.read(columns["label"], classes)
        count = len(columns["path"])
        return cls(
            root=root,
            classes=classes,
            paths=Texts.of(map(restored, columns["path"])),
            labels=labels,
            targets=targets,
            sha256=np.frombuffer(bytes.fromhex(columns["sha256"].content.decode()), dtype=np.uint8).reshape(-1, 32),
            sizes=np.fromiter(map(int, columns["bytes"]), np.int64, count),
            given=np.fromiter((codes[name] for name in columns["split"]), np.int8, count),
            groups=columns["group"] if any(columns["group"]) else None,
            extra={name: column for name, column in columns.items() if name not in known},
            set_aside=tuple(set_aside),
        )


# -- Splits ------------------------

UNASSIGNED = -1


@dataclass(frozen=True)
class Splits:
    """A split of the records of one dataset.

    Args:
        codes: int8 (N,), index into `SPLITS`, in manifest order; `UNASSIGNED` (-1) for none.
        rule: one sentence on how the split was made.
        origin: the part of it after the counts, without warnings.
    """

    codes: np.ndarray
    rule: str
    origin: str = ""

    def indices(self, name: str) -> np.ndarray:
        """Indices of the records of split `name`, ascending int64 (n,)."""
        return np.flatnonzero(self.codes == SPLITS.index(name))

    def names(self) -> list[str]:
        """The name of every record's split, "" for none."""
        table = (*SPLITS, "")
        return [table[code] for code in self.codes]

    def select(self, indices: np.ndarray) -> "Splits":
        """The split of some of the records."""
        return Splits(self.codes[indices], self.rule)
