"""Predictions: logits of images, and what the task makes of them."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.base.files import BYTES_AS_TEXT, CellWriter, read_cell, replacing, restored
from tlkit.data.dataset import SPLITS, UNASSIGNED
from tlkit.tasks.multi import sigmoid as sigmoid
from tlkit.tasks.registry import Labelled, of_columns, of_truth, picked
from tlkit.tasks.single import softmax as softmax

if TYPE_CHECKING:
    from tlkit.classifier.facts import Facts

Measure = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
NUMBERS = 2**23  # logits that are measured at once
IN_TRAINING = ("", "near", "exact")  # an image's kin among the training images: none, one alike, the very bytes
_FIRST = ("path", "sha256", "split", "label", "predicted")  # then those of the task


def image_scores(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 (N,), at most 1: how right each image is, see `Task.scores`; the mean is what ranks epochs.

    Args:
        logits: float (N, K).
        truth: one row an image, whose form tells the task, see `registry.of_truth`.
        temperature: that logits are divided by.
    """
    return _in_turn(of_truth(truth).scores, logits, truth, temperature)


def image_losses(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 (N,): -log p(truth) of each image, see `Task.losses`; arguments as of `image_scores`."""
    return _in_turn(of_truth(truth).losses, logits, truth, temperature)


def _in_turn(each: Measure, logits: np.ndarray, truth: np.ndarray, temperature: float) -> np.ndarray:
    """What a measure gives each image, some images at a time: it works in float64 on all of their classes."""
    step = max(1, NUMBERS // logits.shape[1])
    starts = range(0, max(1, len(logits)), step)
    return np.concatenate([each(logits[at : at + step], truth[at : at + step], temperature) for at in starts])


@dataclass(frozen=True)
class Predictions(Labelled):
    """Logits of N images over K classes, in a fixed order and keyed by path, never by position alone.

    Args:
        paths: of the images, as in the manifest.
        sha256: hex, of each image's bytes.
        labels: int32 (N,), see `Labelled`.
        splits: int8 (N,), index into `SPLITS`, -1 for none.
        logits: float32 (N, K), before temperature.
        classes: K class names.
        temperature: logits are divided by it before they become probabilities (Guo et al. 2017); 1 changes nothing.
        threshold: the classifier answers where its confidence reaches this, 0..1; None where it always answers.
        groups: N names of what belongs together (a patient, a clip), "" for an image on its own; None where
            there are none.
        unfamiliarity: float32 (N,), distance to what was trained on; above 1 is unlike anything in it. NaN where
            it was not measured, None where it never was.
        in_training: int8 (N,), index into `IN_TRAINING`: whether the image, or one that looks like it, was
            trained on; None where it was not examined.
        targets: of several labels, grades or numbers, see `Labelled`.
        margins: of intervals around predicted numbers, see `Facts`; None where there are none.
    """

    paths: list[str]
    sha256: list[str]
    labels: np.ndarray
    splits: np.ndarray
    logits: np.ndarray
    classes: tuple[str, ...]
    temperature: float = 1.0
    threshold: float | None = None
    groups: list[str] | None = None
    unfamiliarity: np.ndarray | None = None
    in_training: np.ndarray | None = None
    targets: np.ndarray | None = None
    margins: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def correct(self) -> np.ndarray:
        """Bool (N,), whether everything said of an image is true: its class, or every one of its labels."""
        return self.task.correct(self.logits, self.truth, self.temperature)

    @property
    def probabilities(self) -> np.ndarray:
        """float64 (N, K)."""
        return self.task.probabilities(self.logits, self.temperature)

    @property
    def predicted(self) -> np.ndarray:
        """int64 (N,), the class that stands for the answer, see `Task.predicted`."""
        return self.task.predicted(self.logits, self.temperature)

    @property
    def confidence(self) -> np.ndarray:
        """float64 (N,), probability of the predicted class."""
        return np.take_along_axis(self.probabilities, self.predicted[:, None], axis=1)[:, 0]

    @property
    def abstained(self) -> np.ndarray | None:
        """Bool (N,), True where the confidence does not reach the threshold; None without a threshold."""
        return None if self.threshold is None else ~(self.confidence >= self.threshold)

    def select(self, indices: np.ndarray) -> "Predictions":
        """Some of the rows."""
        rows = np.asarray(indices, dtype=np.int64)
        pick = rows.tolist()
        return replace(
            self,
            paths=[self.paths[i] for i in pick],
            sha256=[self.sha256[i] for i in pick],
            labels=self.labels[rows],
            targets=picked(self.targets, rows),
            splits=self.splits[rows],
            logits=self.logits[rows],
            groups=None if self.groups is None else [self.groups[i] for i in pick],
            unfamiliarity=picked(self.unfamiliarity, rows),
            in_training=picked(self.in_training, rows),
        )

    def of_split(self, name: str) -> "Predictions":
        """The rows of one split."""
        return self.select(np.flatnonzero(self.splits == SPLITS.index(name)))

    def write_csv(self, path: Path) -> None:
        """Columns path, sha256, split, label, predicted, those of the task, what else is known, then `p:CLASS`; atomic.

        Of the task: probability; of grades the `expected` one as well, counted from 0; of numbers low and high, and
        `value:NAME` in the place of `p:CLASS`. What else: abstain (true, false), unfamiliarity, group, in_training
        (exact, near or empty). Where an image may have several labels, `label` and `predicted` are as `cat|dog` and
        there is no `probability`; several numbers are joined likewise.
        """
        split_names, further, chances = (*SPLITS, ""), self._further(), self.probabilities
        task, best = self.task, self.predicted.tolist()
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as file,
        ):
            writer = CellWriter(file)
            writer.writerow([*_FIRST, *task.columns, *further, *(f"{task.prefix}{name}" for name in self.classes)])
            for i, name in enumerate(self.paths):
                known = [name, self.sha256[i], split_names[self.splits[i]], self.label_name(i), self.predicted_name(i)]
                known += task.beside(chances[i], best[i], self.margins)
                numbers = (f"{p:.9g}" for p in chances[i])
                writer.writerow([*known, *(column[i] for column in further.values()), *numbers])

    def predicted_name(self, index: int) -> str:
        """The predicted class of a row, or its labels, written in the same way."""
        return self.task.called(self.logits[index], self.classes, self.temperature)

    def _further(self) -> dict[str, list[str]]:
        """The columns that not every evaluation has, as text."""
        columns: dict[str, list[str]] = {}
        if self.abstained is not None:
            columns["abstain"] = ["true" if held else "false" for held in self.abstained]
        if self.unfamiliarity is not None:
            columns["unfamiliarity"] = ["" if np.isnan(far) else f"{far:.6g}" for far in self.unfamiliarity]
        if self.groups is not None:
            columns["group"] = self.groups
        if self.in_training is not None:
            columns["in_training"] = [IN_TRAINING[code] for code in self.in_training]
        return columns

    @classmethod
    def read_csv(cls, path: Path) -> "Predictions":
        """Read what `write_csv` wrote.

        The logits come back as log-probabilities: the same up to a constant per row, with the
        temperature already applied, which no metric can tell apart. The threshold lives in the classifier.
        """
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = [[read_cell(cell) for cell in row] for row in csv.reader(file)]
        header, rows = rows[0], rows[1:]
        task = of_columns(header)
        classes = tuple(name.removeprefix(task.prefix) for name in header if name.startswith(task.prefix))
        first = len(header) - len(classes)
        known = {name: [row[place] for row in rows] for place, name in enumerate(header[:first])}
        split_codes = {name: code for code, name in enumerate(SPLITS)} | {"": UNASSIGNED}
        chances = np.array([row[first:] for row in rows], dtype=np.float64).reshape(-1, len(classes))
        labels, targets = task.read(known["label"], classes)
        far, seen = known.get("unfamiliarity"), known.get("in_training")
        return cls(
            paths=[restored(path) for path in known["path"]],
            sha256=known["sha256"],
            labels=labels,
            targets=targets,
            splits=np.array([split_codes[name] for name in known["split"]], dtype=np.int8),
            logits=task.logits(chances).astype(np.float32),
            classes=classes,
            groups=known.get("group"),
            unfamiliarity=None if far is None else np.array([text or "nan" for text in far], dtype=np.float32),
            in_training=None if seen is None else np.array([IN_TRAINING.index(name) for name in seen], dtype=np.int8),
        )


# -- What a classifier answers about images that nobody knows the truth of -----------------------


@dataclass(frozen=True)
class Answers:
    """What a classifier says of n images. An item is the answer of one of them, again `Answers`.

    Args:
        logits: float32 (n, K).
        unfamiliarity: float32 (n,), distance to what was trained on; above 1 is unlike anything in it. NaN where it
            was not measured, None where the classifier has no reference.
    """

    logits: np.ndarray
    unfamiliarity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.logits)

    def __iter__(self) -> Iterator["Answers"]:
        for place in range(len(self)):
            yield self.select(np.array([place]))

    def select(self, rows: np.ndarray) -> "Answers":
        """Those of some of the images."""
        return Answers(self.logits[rows], picked(self.unfamiliarity, rows))

    @classmethod
    def joined(cls, parts: Sequence["Answers"]) -> "Answers":
        """Those of several, at least one, as one."""
        far = [part.unfamiliarity for part in parts if part.unfamiliarity is not None]
        return cls(np.concatenate([part.logits for part in parts]), np.concatenate(far) if far else None)

    def rows(self, paths: Sequence[str], facts: "Facts", top: int) -> list[dict[str, Any]]:
        """One row for each image, its `top` most probable classes first to last.

        Args:
            paths: n of them.
            facts: of the classifier.
            top: classes to list.
        """
        chances = facts.task.probabilities(self.logits, facts.temperature)
        chosen = facts.task.predicted(self.logits, facts.temperature).tolist()
        order = np.argsort(-self.logits, axis=1, kind="stable")
        rows = []
        for path, row, one, best, answer in zip(paths, chances, chosen, order, self, strict=True):
            said = facts.task.answer(answer.logits[0], row, one, facts.classes, facts.margins)
            listed = best[:top] if facts.task.ranks else ()
            ranked = [{"class": facts.classes[k], "probability": round(float(row[k]), 6)} for k in listed]
            judged: dict[str, Any] = {}
            if facts.threshold is not None:
                judged["abstain"] = not row[one] >= facts.threshold
            if answer.unfamiliarity is not None:
                far = float(answer.unfamiliarity[0])
                judged |= {"unfamiliar": far > 1, "unfamiliarity": round(far, 4)}
            rows.append({"path": path, **said, **judged, "top": ranked})
        return rows


def number_columns(numbers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Numbers of an answer as columns of a table: NAME, and NAME_low and NAME_high where there is an interval."""
    ends = {"value": "", "low": "_low", "high": "_high"}
    return {one["name"] + end: one[key] for one in numbers for key, end in ends.items() if key in one}
