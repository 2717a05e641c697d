"""The table of tasks, lookups in it, and images with their truth, which determine their task."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

Row = TypeVar("Row")

TASKS: dict[str, Task] = {task.name: task for task in (SINGLE, MULTI, ORDINAL, NUMBER)}
"""In order: the first that fits is used where none is named."""


def row_of(table: Mapping[str, Row], task: Task) -> Row:
    """The row of a table for a task: its own, or that of its base task."""
    kinds = (getattr(kind, "name", "") for kind in type(task).__mro__)
    return next(table[name] for name in kinds if name in table)


def of_truth(truth: np.ndarray) -> Task:
    """The task of an array with one row per image.

    int (N,) is `single`, int8 (N, K) is `multi`, int16 (N, 1) is `ordinal`, float (N, K) is `number`.
    """
    return next(task for task in TASKS.values() if task.fits(truth))


def of_texts(texts: Sequence[str], asked: Task | None = None) -> Task:
    """The task of a column of labels in a table of images; one class per image unless another task takes them.

    Raises:
        TlkitError: the task asked for cannot read labels of another one.
    """
    found = next((task for task in TASKS.values() if task.takes(texts)), None)
    if asked is None:
        return found or SINGLE
    if found is not None and found is not asked:
        raise TlkitError(
            f"--task {asked.name} {asked.gives}, but some labels are of --task {found.name}, which {found.gives}.",
            "leave out --task, or correct the labels.",
        )
    return asked


def asked_for(name: str) -> Task | None:
    """The task of `--task`; None for `auto`."""
    return None if name == "auto" else TASKS[name]


def of_columns(names: Container[str]) -> Task:
    """The task that wrote a predictions.csv with these columns."""
    fitting = [task for task in TASKS.values() if all(name in names for name in task.columns)]
    return max(fitting, key=lambda task: len(task.columns))


# -- Images with their truth, the common part of a data set and its predictions ---


class Labelled:
    """Rows of images with their truth, in one of two columns; what `Dataset` and `Predictions` have in common.

    Args:
        classes: K class names, or names of numbers.
        labels: int32 (N,), index into `classes`, `UNLABELLED` (-1) where there is none, and throughout where images have
            several labels or numbers.
        targets: int8 (N, K) where an image may have several labels: 1 has it, 0 has not, a row of -1 is not known;
            int16 (N, 1), the same as `labels`, where classes have an order; float64 (N, K) numbers, NaN where one is
            not known; None where an image has one class.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    targets: np.ndarray | None

    @property
    def truth(self) -> np.ndarray:
        """The ground truth: `targets` where there are any, else `labels`."""
        return self.labels if self.targets is None else self.targets

    @property
    def task(self) -> Task:
        """The task, from the truth."""
        return of_truth(self.truth)

    @property
    def labelled(self) -> np.ndarray:
        """Bool (N,), whether the truth is known."""
        return self.task.known(self.truth)

    def of_class(self, label: int) -> np.ndarray:
        """Bool (N,), the images of a class."""
        return self.task.of_class(self.truth, label)

    def put(self, index: int, truth: Any) -> None:
        """Change the truth of a row, in place."""
        self.truth[index] = truth
        self.labels[index] = self.task.label(self.truth[index])

    def label_name(self, index: int) -> str:
        """The true class of a row, "" where it is not known; several as `cat|dog`, and `|` for none of the classes."""
        return self.task.write(self.truth[index], self.classes)


def picked(column: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    """Rows of an optional column."""
    return None if column is None else column[rows]
