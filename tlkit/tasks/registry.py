"""The table of tasks, and how one is found again."""

from collections.abc import Container, Sequence

import numpy as np

from tlkit.tasks.multi import MULTI
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (SINGLE, MULTI)}
"""In order: what is read without saying which is the first that fits."""


def of_truth(truth: np.ndarray) -> Task:
    """The task of an array with one row an image: int (N,) is `single`, int8 (N, K) is `multi`."""
    return next(task for task in TASKS.values() if task.fits(truth))


def of_texts(texts: Sequence[str]) -> Task:
    """The task of a column of labels in a table of images; one class an image unless another task takes them."""
    return next((task for task in TASKS.values() if task.takes(texts)), SINGLE)


def of_columns(names: Container[str]) -> Task:
    """The task that wrote a predictions.csv with these columns."""
    return next(task for task in TASKS.values() if all(name in names for name in task.columns))
