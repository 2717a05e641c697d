"""What the checks read: images, features and file facts, and quantities computed from them once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tlkit.auditing.duplicates import Neighbours, connected, exact_duplicates, near_pairs, nearest
from tlkit.auditing.findings import ImageGroup
from tlkit.auditing.held_out import HeldOutProbe, fit_probe
from tlkit.base.story import Heard, Silence, Story, percent, unheard
from tlkit.classifier.familiarity import unit
from tlkit.data.dataset import SPLITS, Dataset
from tlkit.data.look import Looks
from tlkit.options import advice
from tlkit.options.option import Options

LEAST_IMAGES = 40  # labelled ones; below it nothing that is learned from the images means anything


@dataclass(frozen=True)
class Mirrored:
    """Features of some images seen in a mirror.

    Args:
        rows: int64 (n,), which images.
        features: float32 (n, C), of their mirror images, as in the evidence.
    """

    rows: np.ndarray
    features: np.ndarray


@dataclass
class Evidence:
    """One audit's material; what is derived is computed when first asked for.

    Args:
        dataset: N images that can be decoded; those that cannot are in `set_aside`.
        codes: int8 (N,), index into `SPLITS`, -1 for none.
        features: float32 (N, C), pooled output of a backbone.
        looks: facts of the N files.
        images: what the user typed for the images, for commands.
        asked: the options of the audit, or of the run that it is part of; commands repeat them.
        given: whether the split was given by folders or a table, and not drawn.
        grouped: whether groups were already named (`--group-by`, or a column).
        mirrored: some images in a mirror, None where that was not computed.
        grouped_file: path of the table with a group for each picture that is written beside, "" where none is.
        seed: of everything random.
        levelled: whether `--levels` maps the sample values.
        story: hears what was left out.
        heard: is told how far a long computation is, 0..1.
    """

    dataset: Dataset
    codes: np.ndarray
    features: np.ndarray
    looks: Looks
    images: str
    asked: Options | None = None
    given: bool = False
    mirrored: Mirrored | None = None
    grouped_file: str = ""
    seed: int = 0
    levelled: bool = False
    story: Story = field(default_factory=Silence)
    heard: Heard = field(default=unheard, repr=False)
    _splits: tuple[str, ...] = field(default=(*SPLITS, ""), repr=False)

    @cached_property
    def centre(self) -> np.ndarray:
        """float32 (C,), mean feature."""
        return self.features.mean(axis=0)

    @cached_property
    def points(self) -> np.ndarray:
        """float32 (N, C), features at length 1, for cosines."""
        return unit(self.features)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The nearest images of each."""
        return nearest(self.points, heard=lambda part: self.heard(part / 2))

    @cached_property
    def first_copy(self) -> np.ndarray:
        """int64 (N,), the first row with the same bytes as each row."""
        return exact_duplicates(self.dataset.sha256)

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Near-duplicate pairs: left, right, agreement."""
        return near_pairs(self.neighbours, self.looks.small, self.story, lambda part: self.heard(0.5 + part / 2))

    @cached_property
    def pictures(self) -> np.ndarray:
        """int64 (N,), equal for images that show the same picture, exactly or nearly; as `near_duplicates`."""
        left, right, _ = self.pairs
        copies = np.flatnonzero(self.first_copy != np.arange(len(self)))
        return connected(len(self), np.concatenate([left, copies]), np.concatenate([right, self.first_copy[copies]]))

    @cached_property
    def units(self) -> np.ndarray:
        """int64 (N,), equal for images that must not be in two folds: copies, and members of a group."""
        if self.dataset.groups is None:
            return self.pictures
        groups = np.unique(np.array(self.dataset.groups), return_inverse=True)[1].ravel()
        firsts = [np.unique(numbers, return_index=True, return_inverse=True) for numbers in (groups, self.pictures)]
        ends = [first[inverse.ravel()] for _, first, inverse in firsts]
        rows = np.arange(len(self))
        return connected(len(self), np.concatenate([rows, rows]), np.concatenate(ends))

    @cached_property
    def labelled(self) -> np.ndarray:
        """int64 (n,), rows with a label."""
        return np.flatnonzero(self.dataset.labels >= 0)

    @cached_property
    def probe(self) -> HeldOutProbe:
        """A linear classifier of the features, that predicts each image out of fold."""
        rows = self.labelled
        return fit_probe(self.features[rows], self.dataset.labels[rows], self.units[rows], self.seed)

    @property
    def grouped_command(self) -> str:
        """Trains on the table that keeps copies and bursts together, "" where none is written."""
        return advice.finetune(self.asked, self.grouped_file, own=False) if self.grouped_file else ""

    def finetune(self, *more: str) -> str:
        """The command that trains on the images as was asked, and with more flags."""
        return advice.finetune(self.asked, self.images, *more)

    def audit_into_fixes(self) -> str:
        """The command that writes proposed fixes, by the network that found what is to be fixed."""
        return advice.audit(self.asked, self.images, "--write-fixes", advice.free("fixes.csv"))

    def __len__(self) -> int:
        return len(self.dataset)

    def group(
        self, rows: Iterable[int], caption: str = "", suggested: str = "", score: float | None = None
    ) -> ImageGroup:
        """Some images as part of a finding."""
        rows = [int(row) for row in rows]
        return ImageGroup(
            paths=tuple(self.dataset.paths[row] for row in rows),
            labels=tuple(self.dataset.label_name(row) for row in rows),
            splits=tuple(self._splits[self.codes[row]] for row in rows),
            caption=caption,
            suggested=suggested,
            score=None if score is None else float(score),
        )


def unlearnable(evidence: Evidence) -> str:
    """Why no classifier can be fitted to these labels, "" where one can."""
    if not evidence.dataset.task.can("audit"):
        return evidence.dataset.task.lacks("audit")
    labels = evidence.dataset.labels[evidence.labelled]
    if len(np.unique(labels)) < 2:
        return "needs two classes"
    if len(labels) < LEAST_IMAGES:
        return f"needs {LEAST_IMAGES} labelled images"
    return ""


def named(names: Sequence[str], most: int = 3) -> str:
    """The first names, quoted, and how many more there are."""
    return ", ".join(repr(name) for name in names[:most]) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def share(part: int, whole: int) -> str:
    """`3 %`, with a decimal below ten."""
    of_whole = part / max(whole, 1)
    return percent(of_whole, 0 if of_whole >= 0.1 else 1)
