"""One of several grades per image: classes with an order, predicted by the median of their probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkit.tasks.single import Single, softmax
from tlkit.tasks.task import Task


def median(probabilities: np.ndarray) -> np.ndarray:
    """int64 (N,), the first grade at which the cumulative probabilities (N, K), from the lowest up, reach one half.

    No other prediction has a smaller expected distance from the truth in grades; the most probable class is the one
    that is most often exactly right, which differs where neighbouring grades are confused.
    """
    return (np.cumsum(probabilities, axis=1) < 0.5 - 1e-12).sum(axis=1)


TINY_SHARE = 1e-3  # smallest score of a grade in a ranking


class Ordinal(Single):
    """Truth is int16 (N, 1), index of the grade, the lowest 0, `UNLABELLED` where it is unknown; `labels` hold it too.

    The network, its loss and its probabilities are those of one class per image; the prediction is their median.
    """

    name = "ordinal"
    shortens = False  # the median is over all grades
    columns = ("probability", "expected")
    score_name = "closeness of the grade (1 - error in grades / most possible)"
    score = "closeness"
    gives = "gives one of several grades to each image"
    conflict = "with more than one grade"

    def fits(self, truth: np.ndarray) -> bool:
        return truth.ndim == 2 and truth.dtype == np.int16

    def read(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        labels, _ = super().read(texts, classes)
        return labels, _column(labels)

    def parsed(self, text: str, classes: Sequence[str], place: str) -> Any:
        return np.array([super().parsed(text, classes, place)], np.int16)

    def write(self, row: Any, classes: Sequence[str]) -> str:
        return super().write(row[0], classes)

    def label(self, row: Any) -> int:
        return int(row[0])

    def understands(self, other: Task) -> bool:
        """Also a folder, or a table with one class per image, gives grades."""
        return other.name in (self.name, Single.name)

    def renamed(
        self, labels: np.ndarray, targets: np.ndarray | None, found: Sequence[str], classes: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        codes, _ = super().renamed(labels, None, found, classes)
        return codes, _column(codes)

    def known(self, truth: np.ndarray) -> np.ndarray:
        return super().known(truth[:, 0])

    def of_class(self, truth: np.ndarray, code: int) -> np.ndarray:
        return super().of_class(truth[:, 0], code)

    def counts(self, truth: np.ndarray, classes: int) -> np.ndarray:
        return super().counts(truth[:, 0], classes)

    def as_bytes(self, truth: np.ndarray) -> np.ndarray:
        return super().as_bytes(np.ascontiguousarray(truth[:, 0]))

    def as_targets(self, truth: np.ndarray, classes: int) -> np.ndarray:
        return super().as_targets(truth[:, 0], classes)

    def strata(self, truth: np.ndarray) -> np.ndarray:
        return truth[:, 0].astype(np.int64)

    def shares(self, truth: np.ndarray) -> np.ndarray:
        return self.strata(truth) + 1

    def described(self, counts: np.ndarray, images: int, known: int, shown: str) -> str:
        return f"{images} images in {len(counts)} grades, the lowest first ({shown})"

    # -- logits ----------------------------------------------------------------------------------

    def predicted(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """The median of the probabilities, see `median`."""
        return median(softmax(logits, temperature))

    def correct(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return self.predicted(logits, temperature) == truth[:, 0]

    def scores(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """1 for the true grade, decreasing linearly to 0 at a distance of K - 1 grades: the mean is 1 - MAE / (K - 1)."""
        apart = np.abs(self.predicted(logits, temperature) - truth[:, 0])
        return 1 - apart / max(1, logits.shape[1] - 1)

    def of_ridge(self, scores: np.ndarray) -> np.ndarray:
        """The positive scores as shares, for probabilities: a softmax of raw scores would be nearly flat, its median the middle."""
        positive = np.maximum(scores + 0.5, TINY_SHARE)
        return np.log(positive / positive.sum(axis=1, keepdims=True))

    def losses(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return super().losses(logits, truth[:, 0], temperature)

    def mistaken(self, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return _column(super().mistaken(logits, truth[:, 0]))

    def beside(self, chances: np.ndarray, best: int, margins: Sequence[float] | None) -> list[str]:
        return [*super().beside(chances, best, margins), f"{expected(chances):.6g}"]

    def answer(
        self,
        logits: np.ndarray,
        chances: np.ndarray,
        best: int,
        classes: Sequence[str],
        margins: Sequence[float] | None,
    ) -> dict[str, Any]:
        """The grade, its probability, and the mean grade, counted from 0, which is between grades where there is doubt."""
        given = super().answer(logits, chances, best, classes, margins)
        return given | {"expected": round(expected(chances), 4)}

    # -- training --------------------------------------------------------------------------------

    def hits(self, logits: Any, targets: Any, weights: Any) -> Any:
        """Sum of the `scores` of a batch; padding rows have no target. A mixed row counts as its larger share."""
        from keras import ops

        below = ops.cast(ops.cumsum(ops.softmax(logits), axis=-1) < 0.5, "float32")
        truth = ops.cast(ops.argmax(targets, axis=-1), "float32")
        apart = ops.abs(ops.sum(below, axis=-1) - truth) / max(1, logits.shape[-1] - 1)
        return ops.sum((1 - apart) * ops.sum(targets, axis=-1))


def expected(chances: np.ndarray) -> float:
    """The mean grade, 0..K-1, of probabilities (K,)."""
    return float(chances @ np.arange(len(chances)))


def _column(codes: np.ndarray) -> np.ndarray:
    return codes[:, None].astype(np.int16)


ORDINAL = Ordinal()
