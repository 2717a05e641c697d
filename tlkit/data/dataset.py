"""The images a command works on: one row per image, held in columns; and which split each belongs to."""

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
    """A file that was set aside, and why (one plain sentence, no traceback)."""

    path: str
    reason: str

    def as_json(self) -> dict[str, str]:
        """`{"path": ..., "reason": ...}`, as commands print it."""
        return {"path": self.path, "reason": self.reason}


class Files(Sequence[Path]):
    """Where files are, as a sequence of `Path`; each is made when it is asked for, for it takes several times the room of its name.

    Args:
        names: of the files, relative to `root` or absolute.
        root: the folder that they start from.
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
        """One of them, or a part of them."""
        return Files(self.names[place], self.root) if isinstance(place, slice) else self.root / self.names[place]


@dataclass(frozen=True)
class Dataset(Labelled):
    """Images, columns of equal length N; about 200 bytes a row, so that a million rows fit anywhere.

    Args:
        root: the folder that relative paths start from.
        classes: class names; a label is an index into them.
        paths: POSIX, relative to `root` where they lie below it, else absolute.
        labels: int32 (N,), see `Labelled`.
        sha256: uint8 (N, 32), of the file's bytes.
        sizes: int64 (N,), of the files, in bytes.
        given: int8 (N,), split named by the layout or the manifest file (index into `SPLITS`), -1 for none.
        groups: names of what must not straddle splits (a patient, a clip), or None.
        extra: further columns of a manifest file, by name; used as slices in reports.
        set_aside: files that look like images and cannot be used.
        ignored: how many files were no images at all (hidden files, text, ...).
        drawn: how `given` came about where it was drawn here, before fixes changed labels; "" where it came with the images.
        fixed: what fixes changed, a sentence or two; "" where there were none.
        targets: of several labels, see `Labelled`.
        looks: what the scan saw in every file, None where it only listed them, as frames of clips are.
        clips: what each sample consists of where samples are clips; `paths` are then their names and `sha256` the hash of
            the hashes of their frames. None where every sample is one image.
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
        """N files of which nothing is known but their contents: no classes, no labels, no split."""
        labels, given = np.full(len(paths), UNLABELLED, np.int32), np.full(len(paths), UNASSIGNED, np.int8)
        return cls(root=root, classes=(), paths=paths, labels=labels, sha256=sha256, sizes=sizes, given=given)

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        """The file of record `index`; of a clip its middle frame."""
        if self.clips is not None:
            return self.clips.frames.file(self.clips.middle(index))
        return self.root / self.paths[index]

    @property
    def files(self) -> Files:
        """Where every image is; of a clip its middle frame."""
        if self.clips is None:
            return Files(self.paths, self.root)
        frames = self.clips.frames
        return Files([frames.paths[self.clips.middle(row)] for row in range(len(self))], frames.root)

    @property
    def members(self) -> "Dataset":
        """The files themselves, one row each: the frames of clips, else the images."""
        return self if self.clips is None else self.clips.frames

    @property
    def sample(self) -> str:
        """What a row is called: image, or clip."""
        return "image" if self.clips is None else "clip"

    @property
    def pictures(self) -> str:
        """What the members are called: images, or frames."""
        return "images" if self.clips is None else "frames"

    @property
    def samples(self) -> str:
        """What several of them are called."""
        return f"{self.sample}s"

    def absolute(self) -> "Dataset":
        """The same, for a process that works in another folder."""
        clips = None if self.clips is None else replace(self.clips, frames=self.clips.frames.absolute())
        return replace(self, root=Path(self.root).absolute(), clips=clips)

    def select(self, indices: Sequence[int] | np.ndarray) -> "Dataset":
        """The rows at `indices`, in that order; what was set aside stays known."""
        rows = np.asarray(indices, dtype=np.int64)
        pick = rows.data  # which gives plain integers, one at a time
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
        """The images with their numbers in these units; as they are where there is no scale."""
        return self if scale is None else replace(self, targets=scale.apply(self.truth))

    def unreadable(self) -> list[Problem]:
        """Files that the scan saw and that cannot be decoded, with the reason."""
        seen = () if self.looks is None else self.looks.problem.tolist()
        return [Problem(path, reason) for path, reason in zip(self.paths, seen, strict=False) if reason]

    def without(self, problems: Sequence[Problem]) -> "Dataset":
        """The manifest with these files set aside."""
        return replace(self.select(self.rows_beside(problems)), set_aside=(*self.set_aside, *problems))

    def rows_beside(self, problems: Sequence[Problem]) -> np.ndarray:
        """int64 (n,), the rows that none of these problems is of."""
        bad = {problem.path for problem in problems}
        return np.flatnonzero(np.fromiter((path not in bad for path in self.paths), bool, len(self)))

    def class_counts(self, among: np.ndarray | None = None) -> np.ndarray:
        """int64 (K,) images of each class, of all or of those that bool (N,) names."""
        rows = slice(None) if among is None else among
        return self.task.counts(self.truth[rows], len(self.classes))

    def fingerprint(self) -> str:
        """Hex sha256 over content, labels and class names; independent of where the files lie."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        rows = np.concatenate([self.sha256, self.task.as_bytes(self.truth)], axis=1)
        digest.update(rows[np.lexsort(rows.T[::-1])].tobytes())
        return digest.hexdigest()

    # -- on disk -------------------------------------------------------------------------------

    def write_csv(self, path: Path) -> None:
        """Columns path, label, split (as given), group, bytes, sha256 and the extra ones; atomic. Clips have a row a frame."""
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
        """Read what `write_csv` wrote. The root, the class order and the task live in the run's JSON."""
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


# -- Which record is for training, which for validation, which for test ------------------------

UNASSIGNED = -1


@dataclass(frozen=True)
class Splits:
    """A split of the records of one manifest.

    Args:
        codes: int8 (N,), index into `SPLITS`, in manifest order; `UNASSIGNED` (-1) for none.
        rule: one sentence saying how the split came about.
        origin: its part that follows the counts, without what is to be warned of.
    """

    codes: np.ndarray
    rule: str
    origin: str = ""

    def indices(self, name: str) -> np.ndarray:
        """int64 (n,) indices of the records of split `name`, ascending."""
        return np.flatnonzero(self.codes == SPLITS.index(name))

    def names(self) -> list[str]:
        """The split's name of every record, "" for none."""
        table = (*SPLITS, "")
        return [table[code] for code in self.codes]

    def select(self, indices: np.ndarray) -> "Splits":
        """The split of some of the records."""
        return Splits(self.codes[indices], self.rule)
