"""One class per image: a softmax, with the most probable class as the prediction."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from tlkit.tasks.labels import class_name, code_of
from tlkit.tasks.task import NUMBERS, UNLABELLED, Task, mean_logarithm, row_blocks

TINY = 1e-300  # the smallest probability whose logarithm is taken


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float64 (N, K), rows sum to 1, from logits (N, K); finite for any finite input."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class SoftmaxColumns:
    """The columns of `softmax`, float64 (N,) for each class, of which only some are in memory at a time.

    Args:
        logits: float (N, K).
        temperature: that they are divided by.
    """

    def __init__(self, logits: np.ndarray, temperature: float = 1.0) -> None:
        self.logits, self.temperature = logits, temperature
        self.highest = logits.max(axis=1).astype(np.float64) / temperature
        self.sums = np.concatenate([self._exponentials(rows, slice(None)).sum(axis=1) for rows in row_blocks(logits)])
        self.step = max(1, NUMBERS // max(1, len(logits)))
        self.first, self.held = 0, np.empty((0, len(logits)))

    def __call__(self, code: int) -> np.ndarray:
        """The probability of a class for each image."""
        if not self.first <= code < self.first + len(self.held):
            self.first = code - code % self.step
            some = self._exponentials(slice(None), slice(self.first, self.first + self.step))
            self.held = np.ascontiguousarray((some / self.sums[:, None]).T)
        return self.held[code - self.first]

    def _exponentials(self, rows: slice, columns: slice) -> np.ndarray:
        scaled = self.logits[rows, columns].astype(np.float64) / self.temperature
        return np.exp(scaled - self.highest[rows, None])


class Single(Task):
    """Truth is int (N,), index of the class, `UNLABELLED` where it is unknown."""

    name = "single"
    shortens = True
    columns: ClassVar[tuple[str, ...]] = ("probability",)
    score_name = score = exact = "accuracy"
    gives = "gives one class to each image"
    conflict = "in more than one class"
    smooths = True

    def fits(self, truth: np.ndarray) -> bool:
        return truth.ndim == 1

    def read(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        codes = {name: code for code, name in enumerate(classes)} | {"": UNLABELLED}
        return np.fromiter((codes[text] for text in texts), np.int32, len(texts)), None

    def write(self, row: Any, classes: Sequence[str]) -> str:
        return "" if row == UNLABELLED else classes[row]

    def label(self, row: Any) -> int:
        return int(row)

    def parsed(self, text: str, classes: Sequence[str], place: str) -> Any:
        return code_of(class_name(text), classes, place)

    def renamed(
        self, labels: np.ndarray, targets: np.ndarray | None, found: Sequence[str], classes: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        codes = {name: code for code, name in enumerate(classes)}
        return np.array([*(codes[name] for name in found), UNLABELLED], np.int32)[labels], None

    def known(self, truth: np.ndarray) -> np.ndarray:
        return truth >= 0

    def of_class(self, truth: np.ndarray, code: int) -> np.ndarray:
        return truth == code

    def counts(self, truth: np.ndarray, classes: int) -> np.ndarray:
        return np.bincount(truth[truth >= 0], minlength=classes)

    def as_bytes(self, truth: np.ndarray) -> np.ndarray:
        return truth.astype("<i4").view(np.uint8).reshape(-1, 4)

    def as_targets(self, truth: np.ndarray, classes: int) -> np.ndarray:
        return np.eye(classes)[truth]

    def strata(self, truth: np.ndarray) -> np.ndarray:
        return truth

    def shares(self, truth: np.ndarray) -> np.ndarray:
        return truth + 1

    def described(self, counts: np.ndarray, images: int, known: int, shown: str) -> str:
        return f"{images} images in {len(counts)} classes ({shown})"

    # -- logits ----------------------------------------------------------------------------------

    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return softmax(logits, temperature)

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(probabilities, TINY))

    def mean_logits(self, views: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        scaled = views.astype(np.float64) / temperature
        log_sum = np.logaddexp.reduce(scaled, axis=2, keepdims=True)
        return (mean_logarithm(scaled - log_sum) * temperature).astype(np.float32)

    def decide(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return np.arange(logits.shape[1]) == self.predicted(logits, temperature)[:, None]

    def correct(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return logits.argmax(axis=1) == truth

    def scores(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """1 where the most probable class is the true one, else 0: the mean is accuracy."""
        return (logits.argmax(axis=1) == truth).astype(np.float64)

    def losses(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        scaled = logits.astype(np.float64) / temperature
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]

    def mistaken(self, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
        others = logits.astype(np.float64)
        others[np.arange(len(truth)), truth] = -np.inf
        return others.argmax(axis=1)

    def same(self, logits: np.ndarray, others: np.ndarray) -> np.ndarray:
        return self.predicted(logits) == self.predicted(others)

    def called(self, logits: np.ndarray, classes: Sequence[str], temperature: float = 1.0) -> str:
        return classes[int(self.predicted(logits[None], temperature)[0])]

    def beside(self, chances: np.ndarray, best: int, margins: Sequence[float] | None) -> list[str]:
        return [f"{chances[best]:.9g}"]

    def listed(self, classes: int, top: int) -> int:
        return top

    def baseline(self, support: np.ndarray, images: int) -> float:
        """The accuracy of always answering the most common class."""
        return float(support.max()) / images

    # -- training --------------------------------------------------------------------------------

    def loss(self, name: str, smoothing: float) -> Callable[..., Any]:
        import keras

        if name == "crossentropy":
            return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        if name == "focal":
            return keras.losses.CategoricalFocalCrossentropy(from_logits=True)  # Lin et al. 2017
        return squared_error

    def hits(self, logits: Any, targets: Any, weights: Any) -> Any:
        """How many rows are classified correctly; padding rows have no label."""
        from keras import ops

        right = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.argmax(targets, axis=-1)), "float32")
        return ops.sum(right * ops.sum(targets, axis=-1))


def squared_error(one_hot: Any, logits: Any) -> Any:
    """Squared distance of the probabilities from the truth, summed over classes (Brier 1950); tensors (B, K) to (B,)."""
    from keras import ops

    return ops.sum(ops.square(ops.softmax(logits) - one_hot), axis=-1)


SINGLE = Single()
