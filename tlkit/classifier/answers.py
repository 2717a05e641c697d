"""Predictions: logits of images, and what they mean for the task."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import BYTES_AS_TEXT, CellWriter, GrowingTexts, Texts, read_cell, replacing, restored, taken
from tlkit.data.dataset import SPLITS, UNASSIGNED
from tlkit.tasks.multi import sigmoid as sigmoid
from tlkit.tasks.registry import Labelled, of_columns, of_truth, picked
from tlkit.tasks.single import softmax as softmax
from tlkit.tasks.task import UNLABELLED, Task, row_blocks

if TYPE_CHECKING:
    from tlkit.classifier.facts import Facts

Measure = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
IN_TRAINING = (
    "",
    "near",
    "exact",
)  # among the training images: no copy of the image, one that looks like it, an exact one
_FIRST = ("path", "sha256", "split", "label", "predicted")  # then those of the task


def image_scores(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 (N,), at most 1: how right each image is, see `Task.scores`; the mean is what ranks epochs.

    Args:
        logits: float (N, K).
        truth: one row for each image, whose form determines the task, see `registry.of_truth`.
        temperature: that logits are divided by.
    """
    return _in_turn(of_truth(truth).scores, logits, truth, temperature)


def image_losses(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 (N,): -log p(truth) of each image, see `Task.losses`; arguments as for `image_scores`."""
    return _in_turn(of_truth(truth).losses, logits, truth, temperature)


def _in_turn(each: Measure, logits: np.ndarray, truth: np.ndarray, temperature: float) -> np.ndarray:
    """The values of a measure for all images, in blocks: it works in float64 on all classes."""
    return np.concatenate([each(logits[rows], truth[rows], temperature) for rows in row_blocks(logits)])


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
        groups: N names of groups (a patient, a clip), "" for an image on its own; None where there are none.
        unfamiliarity: float32 (N,), distance to the training images; above 1 is unlike any of them. NaN where
            it was not measured, None where it never was.
        in_training: int8 (N,), index into `IN_TRAINING`: whether the image, or one that looks like it, was
            trained on; None where it was not examined.
        targets: several labels, grades or numbers, see `Labelled`.
        margins: of intervals around predicted numbers, see `Facts`; None where there are none.
    """

    paths: Sequence[str]
    sha256: Sequence[str]
    labels: np.ndarray
    splits: np.ndarray
    logits: np.ndarray
    classes: tuple[str, ...]
    temperature: float = 1.0
    threshold: float | None = None
    groups: Sequence[str] | None = None
    unfamiliarity: np.ndarray | None = None
    in_training: np.ndarray | None = None
    targets: np.ndarray | None = None
    margins: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def correct(self) -> np.ndarray:
        """Bool (N,), whether the prediction for an image is entirely correct: its class, or every one of its labels."""
        return self.task.correct(self.logits, self.truth, self.temperature)

    @property
    def probabilities(self) -> np.ndarray:
        """float64 (N, K)."""
        return self.task.probabilities(self.logits, self.temperature)

    @property
    def predicted(self) -> np.ndarray:
        """int64 (N,), the class that represents the prediction, see `Task.predicted`."""
        return self.task.predicted(self.logits, self.temperature)

    @property
    def confidence(self) -> np.ndarray:
        """float64 (N,), probability of the predicted class."""
        best = self.predicted[:, None]
        return np.concatenate([np.take_along_axis(p, best[rows], axis=1)[:, 0] for rows, p in self.in_turn()])

    def in_turn(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Blocks of rows with their probabilities, float64 (n, K): with many classes all at once are gigabytes."""
        for rows in row_blocks(self.logits):
            yield rows, self.task.probabilities(self.logits[rows], self.temperature)

    @property
    def abstained(self) -> np.ndarray | None:
        """Bool (N,), True where the confidence does not reach the threshold; None without a threshold."""
        return None if self.threshold is None else ~(self.confidence >= self.threshold)

    def select(self, indices: np.ndarray) -> "Predictions":
        """Some of the rows."""
        rows = np.asarray(indices, dtype=np.int64)
        pick = rows.data  # iterates over plain integers
        return replace(
            self,
            paths=taken(self.paths, pick),
            sha256=taken(self.sha256, pick),
            labels=self.labels[rows],
            targets=picked(self.targets, rows),
            splits=self.splits[rows],
            logits=self.logits[rows],
            groups=None if self.groups is None else taken(self.groups, pick),
            unfamiliarity=picked(self.unfamiliarity, rows),
            in_training=picked(self.in_training, rows),
        )

    def of_split(self, name: str) -> "Predictions":
        """The rows of one split."""
        return self.select(np.flatnonzero(self.splits == SPLITS.index(name)))

    def write_csv(self, path: Path) -> None:
        """Write columns path, sha256, split, label, predicted, those of the task, further ones, then the classes; atomically.

        The classes are `p:CLASS` for each, or the columns of `_Short` where there are more than `MANY_CLASSES`.

        Of the task: probability; for grades also the `expected` one, counted from 0; for numbers low and high, and
        `value:NAME` instead of `p:CLASS`. Further: abstain (true, false), unfamiliarity, group, in_training
        (exact, near or empty). Where an image may have several labels, `label` and `predicted` are as `cat|dog` and
        there is no `probability`; several numbers are joined likewise.
        """
        split_names, further, listed = (*SPLITS, ""), self._further(), self._listed()
        task, best = self.task, self.predicted.tolist()
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as file,
        ):
            writer = CellWriter(file)
            writer.writerow([*_FIRST, *task.columns, *further, *listed.header(self)])
            chances = (row for _, block in self.in_turn() for row in block)
            for i, (name, row) in enumerate(zip(self.paths, chances, strict=True)):
                known = [name, self.sha256[i], split_names[self.splits[i]], self.label_name(i), self.predicted_name(i)]
                known += task.beside(row, best[i], self.margins)
                writer.writerow([*known, *(column(i) for column in further.values()), *listed.cells(self, i, row)])

    def _listed(self) -> "type[_All] | type[_Short]":
        """How classes are written."""
        return _Short if self.task.shortens and len(self.classes) > MANY_CLASSES else _All

    def predicted_name(self, index: int) -> str:
        """The predicted class of a row, or its labels, written in the same way."""
        return self.task.called(self.logits[index], self.classes, self.temperature)

    def _further(self) -> dict[str, Callable[[int], str]]:
        """The columns that not every evaluation has: name -> the cell of a row."""
        columns: dict[str, Callable[[int], str]] = {}
        held, far, groups, kin = self.abstained, self.unfamiliarity, self.groups, self.in_training
        if held is not None:
            columns["abstain"] = lambda row: "true" if held[row] else "false"
        if far is not None:
            columns["unfamiliarity"] = lambda row: "" if np.isnan(far[row]) else f"{far[row]:.6g}"
        if groups is not None:
            columns["group"] = lambda row: groups[row]
        if kin is not None:
            columns["in_training"] = lambda row: IN_TRAINING[kin[row]]
        return columns

    @classmethod
    def read_csv(cls, path: Path) -> "Predictions":
        """Read what `write_csv` wrote.

        The logits are restored as log-probabilities: the same up to a constant per row, with the temperature already
        applied, which affects no metric. With more than `MANY_CLASSES` classes, those that were not written share the rest
        evenly. The threshold is kept in the classifier.

        Raises:
            TlkitError: with more than `MANY_CLASSES` classes: per_class.csv, which names them, is not beside the file.
        """
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            header = list(map(read_cell, next(reader, [])))
            task, listed = of_columns(header), _Short if TRUE_CLASS in header else _All
            classes = listed.classes(path, header, task)
            growing = {name: (place, GrowingTexts()) for place, name in enumerate(header) if name in _KNOWN}
            logits = [listed.logits(header, [], classes, task)]
            cells = (list(map(read_cell, row)) for row in reader)
            while rows := list(islice(cells, max(1, AT_ONCE // len(header)))):
                logits.append(listed.logits(header, rows, classes, task))
                for place, column in growing.values():
                    for row in rows:
                        column.append(row[place])
        known = {name: column.done() for name, (_, column) in growing.items()}
        split_codes = {name: code for code, name in enumerate(SPLITS)} | {"": UNASSIGNED}
        labels, targets = task.read(known["label"], classes)
        far, seen = known.get("unfamiliarity"), known.get("in_training")
        return cls(
            paths=Texts.of(map(restored, known["path"])),
            sha256=known["sha256"],
            labels=labels,
            targets=targets,
            splits=np.fromiter((split_codes[name] for name in known["split"]), np.int8, len(known["split"])),
            logits=np.concatenate(logits),
            classes=classes,
            groups=known.get("group"),
            unfamiliarity=None
            if far is None
            else np.fromiter((float(one or "nan") for one in far), np.float32, len(far)),
            in_training=None if seen is None else np.fromiter(map(IN_TRAINING.index, seen), np.int8, len(seen)),
        )


# -- The classes in predictions.csv: a column for each, or with many the most probable ones of each image ---

MANY_CLASSES = 1000  # most classes with a column each: as many as ImageNet has, and some 12 kB per image
MOST_PROBABLE = 10  # classes listed for each image where there are more
TRUE_CLASS = "label_probability"
PROBABILITIES = 2**25  # above that, five folds of two classifiers take an hour and gigabytes


def too_many(images: int, classes: int) -> bool:
    """Whether there are too many images and classes to cross-validate classifiers for checking the labels."""
    return classes > MANY_CLASSES and images * classes > PROBABILITIES


class _All:
    """`p:CLASS` for each class."""

    @staticmethod
    def header(rows: Predictions) -> list[str]:
        return [f"{rows.task.prefix}{name}" for name in rows.classes]

    @staticmethod
    def cells(rows: Predictions, index: int, chances: np.ndarray) -> Iterable[str]:
        return (f"{p:.9g}" for p in chances)

    @staticmethod
    def classes(path: Path, header: Sequence[str], task: Task) -> tuple[str, ...]:
        return tuple(name.removeprefix(task.prefix) for name in header if name.startswith(task.prefix))

    @staticmethod
    def logits(header: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str], task: Task) -> np.ndarray:
        first = len(header) - len(classes)
        chances = np.array([row[first:] for row in rows], dtype=np.float64).reshape(-1, len(classes))
        return task.logits(chances).astype(np.float32)


class _Short:
    """`label_probability`, of the true class, and `class_2,probability_2,...` to the tenth: `predicted` is the first.

    per_class.csv, which is written with it, has the names of all classes in their order.
    """

    @staticmethod
    def header(rows: Predictions) -> list[str]:
        return [TRUE_CLASS, *(f"{what}_{place}" for place in _PLACES for what in ("class", "probability"))]

    @staticmethod
    def cells(rows: Predictions, index: int, chances: np.ndarray) -> Iterable[str]:
        label = int(rows.labels[index])
        best = most_probable(rows.logits[index : index + 1], MOST_PROBABLE)[0, 1:].tolist()
        of_truth = "" if label < 0 else f"{chances[label]:.9g}"
        return [of_truth, *(cell for code in best for cell in (rows.classes[code], f"{chances[code]:.9g}"))]

    @staticmethod
    def classes(path: Path, header: Sequence[str], task: Task) -> tuple[str, ...]:
        file = path.with_name("per_class.csv")
        if not file.is_file():
            raise TlkitError(
                f"{str(file)!r} is not there: it names the classes of {path.name}.",
                f"write both again: tlkit evaluate {path.parent}",
            )
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as text:
            named = [(row["split"], read_cell(row["class"])) for row in csv.DictReader(text)]
        return tuple(name for split, name in named if split == named[0][0])

    @staticmethod
    def logits(header: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str], task: Task) -> np.ndarray:
        code_of = {name: code for code, name in enumerate(classes)} | {"": UNLABELLED}
        at = {name: place for place, name in enumerate(header)}
        named = [(at["predicted"], at["probability"])]
        named += [(at[f"class_{place}"], at[f"probability_{place}"]) for place in _PLACES]
        named.append((at["label"], at[TRUE_CLASS]))
        codes = np.array([[code_of[row[name]] for name, _ in named] for row in rows], np.int64).reshape(-1, len(named))
        chances = np.array([[row[number] or "nan" for _, number in named] for row in rows], np.float64)
        chances = chances.reshape(codes.shape)
        told = codes[:, -1] < 0  # the truth is unknown, or among the most probable
        told |= (codes[:, :-1] == codes[:, -1:]).any(axis=1)
        codes[told, -1], chances[told, -1] = codes[told, 0], 0.0
        left = np.maximum(0.0, 1 - chances.sum(axis=1)) / (len(classes) - len(named) + told)
        chances[told, -1] = chances[told, 0]
        logits = np.repeat(task.logits(left[:, None]).astype(np.float32), len(classes), axis=1)
        np.put_along_axis(logits, codes, task.logits(chances).astype(np.float32), axis=1)
        return logits


def most_probable(logits: np.ndarray, count: int) -> np.ndarray:
    """int64 (n, count), the classes of the highest of logits (n, K), highest first; in a tie the first class is ahead."""
    if logits.shape[1] <= MANY_CLASSES:
        return np.argsort(-logits, axis=1, kind="stable")[:, :count]
    found = np.empty((len(logits), min(count, logits.shape[1])), np.int64)
    for place, row in enumerate(np.nan_to_num(one, nan=-np.inf) for one in logits):
        least = np.partition(row, -found.shape[1])[-found.shape[1]]
        high = np.flatnonzero(row >= least)
        found[place] = high[np.argsort(-row[high], kind="stable")][: found.shape[1]]
    return found


_PLACES = range(2, MOST_PROBABLE + 1)
_KNOWN = {*_FIRST, "unfamiliarity", "group", "in_training"}


# -- Predictions for images without ground truth -------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """The predictions of a classifier for n images. An item is that of one of them, again `Answers`.

    Args:
        logits: float32 (n, K).
        unfamiliarity: float32 (n,), distance to the training images; above 1 is unlike any of them. NaN where it
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
        """The answers for some of the images."""
        return Answers(self.logits[rows], picked(self.unfamiliarity, rows))

    @classmethod
    def joined(cls, parts: Sequence["Answers"]) -> "Answers":
        """Concatenate the answers of at least one part."""
        far = [part.unfamiliarity for part in parts if part.unfamiliarity is not None]
        return cls(np.concatenate([part.logits for part in parts]), np.concatenate(far) if far else None)

    def rows(self, paths: Sequence[str], facts: "Facts", top: int) -> "AnswerRows":
        """One row for each image, its `top` most probable classes first to last.

        Args:
            paths: n of them.
            facts: of the classifier.
            top: classes to list.
        """
        return AnswerRows(self, paths, facts, top)


AT_ONCE = 2**18  # logits from which rows are made at a time


class AnswerRows(Sequence[dict[str, Any]]):
    """Rows of n images, each created on access: as dictionaries those of a million would be gigabytes.

    Equal to any sequence of the same rows. `list(rows)`, `pandas.DataFrame(rows)` and `json.dumps(rows, default=list)` create all of them.

    Args:
        answers: n of them.
        paths: n of them.
        facts: of the classifier.
        top: most probable classes to list.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, answers: Answers, paths: Sequence[str], facts: "Facts", top: int) -> None:
        if len(answers) != len(paths):
            raise ValueError(f"{len(answers)} answers for {len(paths)} paths")
        self.answers, self.paths, self.facts, self.top = answers, paths, facts, top

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        paths = iter(self.paths)
        for rows in row_blocks(self.answers.logits, AT_ONCE):
            yield from map(self._row, *self._parts(rows), paths)  # paths come last, so that `map` loses none

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> "AnswerRows": ...
    def __getitem__(self, place: int | slice) -> "dict[str, Any] | AnswerRows":
        if isinstance(place, slice):
            rows = np.arange(len(self))[place]
            return AnswerRows(self.answers.select(rows), self.paths[place], self.facts, self.top)
        row = range(len(self))[place]
        return next(map(self._row, *self._parts(slice(row, row + 1)), [self.paths[row]]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"<rows of {len(self)} images>"

    @property
    def abstained(self) -> np.ndarray:
        """Bool (n,), True where the classifier abstains."""
        held = np.zeros(len(self), bool)
        for rows in row_blocks(self.answers.logits, AT_ONCE) if self.facts.threshold is not None else ():
            _, chances, best, _, _ = self._parts(rows)
            held[rows] = ~(chances[np.arange(len(best)), best] >= self.facts.threshold)
        return held

    def _parts(self, rows: slice) -> "tuple[np.ndarray, np.ndarray, list[int], np.ndarray, Iterable[float | None]]":
        """Logits, probabilities, the predicted class, the most probable ones and unfamiliarity of some images."""
        logits, task, far = self.answers.logits[rows], self.facts.task, self.answers.unfamiliarity
        chances = task.probabilities(logits, self.facts.temperature)
        best = task.predicted(logits, self.facts.temperature).tolist()
        unfamiliar = repeat(None) if far is None else far[rows].tolist()
        return logits, chances, best, most_probable(logits, self.top), unfamiliar

    def _row(
        self, logits: np.ndarray, chances: np.ndarray, best: int, order: np.ndarray, far: float | None, path: str
    ) -> dict[str, Any]:
        """The row of one image."""
        facts = self.facts
        said = facts.task.answer(logits, chances, best, facts.classes, facts.margins)
        listed = order if facts.task.ranks else ()
        ranked = [{"class": facts.classes[k], "probability": round(float(chances[k]), 6)} for k in listed]
        judged: dict[str, Any] = {}
        if facts.threshold is not None:
            judged["abstain"] = not chances[best] >= facts.threshold
        if far is not None:
            judged |= {"unfamiliar": far > 1, "unfamiliarity": round(far, 4)}
        return {"path": path, **said, **judged, "top": ranked}


def number_columns(numbers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Numbers of an answer as columns of a table: NAME, and NAME_low and NAME_high where there is an interval."""
    ends = {"value": "", "low": "_low", "high": "_high"}
    return {one["name"] + end: one[key] for one in numbers for key, end in ends.items() if key in one}
