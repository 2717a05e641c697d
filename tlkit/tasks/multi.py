"""Several labels per image: a sigmoid for each class, predicted where it reaches 0.5."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlkit.tasks import labels as written
from tlkit.tasks.single import SINGLE, TINY
from tlkit.tasks.task import UNLABELLED, Refusal, Task, mean_logarithm

_ALMOST_ONE = 1 - 2.0**-53
_ONE_LABEL = "is for images with one label each, and these may have several"


def sigmoid(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float64 (N, K), independent for each class, from logits (N, K); finite for any finite input."""
    scaled = logits.astype(np.float64) / temperature
    small = np.exp(-np.abs(scaled))
    return np.where(scaled >= 0, 1.0, small) / (1 + small)


class Multi(Task):
    """Truth is int8 (N, K), 1 where the image has the class, 0 where not, a row of -1 where it is unknown."""

    name = "multi"
    score_name, score, exact = "F1 of each image's labels", "F1", "subset_accuracy"
    gives = "gives any number of labels to each image"
    conflict = "there with different labels"
    smooths = False
    unbalanced = "an image may have several labels, and every class is a separate question"
    refusals = {
        "threshold": Refusal(
            _ONE_LABEL,
            "drop it; predictions.csv has the calibrated probability of each label, to which you can apply a threshold of "
            "your own.",
        ),
        "balance": Refusal(_ONE_LABEL, "drop it: every class is a separate question."),
        "folds": Refusal("images with several labels cannot be dealt into folds", "use --validate split."),
        "audit": Refusal("needs one class per image, and these may have several labels", ""),
        "next": Refusal("chooses images of one class each", ""),
    }

    def fits(self, truth: np.ndarray) -> bool:
        return truth.ndim == 2 and truth.dtype.kind in "iub" and truth.dtype != np.int16

    def takes(self, texts: Sequence[str]) -> bool:
        """Any of them holds `|`."""
        return written.are_several(texts)

    def read(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        return np.full(len(texts), UNLABELLED, np.int32), written.encode(texts, classes)

    def write(self, row: Any, classes: Sequence[str]) -> str:
        """`cat|dog`, or `|` for none of the classes."""
        return written.decode(row, classes)

    def parsed(self, text: str, classes: Sequence[str], place: str) -> Any:
        codes = [written.code_of(name, classes, place) for name in written.read_labels(text, place)]
        return np.isin(np.arange(len(classes)), codes)

    def understands(self, other: Task) -> bool:
        """Also a folder, or a table in which no image has several labels, gives all labels."""
        return other in (self, SINGLE)

    def renamed(
        self, labels: np.ndarray, targets: np.ndarray | None, found: Sequence[str], classes: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """A single label is read as all labels of an image."""
        own = labels[:, None] == np.arange(len(found)) if targets is None else targets
        return np.full(len(labels), UNLABELLED, np.int32), written.reordered(own, found, classes)

    def known(self, truth: np.ndarray) -> np.ndarray:
        return np.all(truth >= 0, axis=1)

    def of_class(self, truth: np.ndarray, code: int) -> np.ndarray:
        return truth[:, code] == 1

    def counts(self, truth: np.ndarray, classes: int) -> np.ndarray:
        return (truth == 1).sum(axis=0)

    def as_bytes(self, truth: np.ndarray) -> np.ndarray:
        return truth.view(np.uint8)

    def as_targets(self, truth: np.ndarray, classes: int) -> np.ndarray:
        return (truth == 1).astype(np.float64)

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """The rarest of the labels of each image, K for an image without one."""
        has = truth == 1
        rarest = np.where(has, has.sum(axis=0), len(truth) + 1).argmin(axis=1)
        return np.where(has.any(axis=1), rarest, truth.shape[1])

    def shares(self, truth: np.ndarray) -> np.ndarray:
        has = truth == 1
        return np.column_stack([~has.any(axis=1), has])

    def described(self, counts: np.ndarray, images: int, known: int, shown: str) -> str:
        mean = counts.sum() / max(1, known)
        return f"{images} images with any of {len(counts)} labels ({shown}), {mean:.1f} an image"

    # -- logits ----------------------------------------------------------------------------------

    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return sigmoid(logits, temperature)

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(probabilities, TINY)) - np.log1p(-np.minimum(probabilities, _ALMOST_ONE))

    def mean_logits(self, views: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        scaled = views.astype(np.float64) / temperature
        yes, no = mean_logarithm(-np.logaddexp(0.0, -scaled)), mean_logarithm(-np.logaddexp(0.0, scaled))
        return ((yes - no) * temperature).astype(np.float32)

    def decide(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return logits >= 0

    def correct(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return (self.decide(logits) == (truth == 1)).all(axis=1) & self.known(truth)

    def scores(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """F1 of the predicted labels against the true ones (Godbole and Sarawagi 2004); 1 where there are neither.

        For images with one true and one predicted label each, the mean is accuracy.
        """
        given, has = self.decide(logits), truth == 1
        both, either = (given & has).sum(axis=1), given.sum(axis=1) + has.sum(axis=1)
        return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)

    def losses(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """The mean loss over the K yes-or-no questions."""
        scaled = logits.astype(np.float64) / temperature
        return np.logaddexp(0.0, np.where(truth == 1, -scaled, scaled)).mean(axis=1)

    def mistaken(self, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """One answer is otherwise: the one that is least sure."""
        rows, least = np.arange(len(truth)), np.where(truth == 1, logits, -logits).argmin(axis=1)
        turned = truth.copy()
        turned[rows, least] = 1 - truth[rows, least]
        return turned

    def same(self, logits: np.ndarray, others: np.ndarray) -> np.ndarray:
        return (self.decide(logits) == self.decide(others)).all(axis=1)

    def called(self, logits: np.ndarray, classes: Sequence[str], temperature: float = 1.0) -> str:
        return written.decode(self.decide(logits), classes)

    def beside(self, chances: np.ndarray, best: int, margins: Sequence[float] | None) -> list[str]:
        return []

    def answer(
        self,
        logits: np.ndarray,
        chances: np.ndarray,
        best: int,
        classes: Sequence[str],
        margins: Sequence[float] | None,
    ) -> dict[str, Any]:
        """The predicted labels, most probable first, and the most probable one, predicted or not."""
        order = np.argsort(-logits, kind="stable")
        labels = [classes[k] for k in order[: self.decide(logits).sum()]]
        return {"labels": labels, **super().answer(logits, chances, best, classes, margins)}

    def listed(self, classes: int, top: int) -> int:
        """All of them: every predicted label is part of the answer."""
        return classes

    def baseline(self, support: np.ndarray, images: int) -> float:
        """Mean average precision of guessing: the mean share of images with a label, over labels that some but not all have."""
        divided = support[(support > 0) & (support < images)]
        return float((divided / images).mean())

    # -- training --------------------------------------------------------------------------------

    def loss(self, name: str, smoothing: float) -> Callable[..., Any]:
        """The mean loss over K yes-or-no questions."""
        import keras

        if name == "crossentropy":
            return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
        if name == "focal":
            return keras.losses.BinaryFocalCrossentropy(from_logits=True)
        return squared_errors

    def hits(self, logits: Any, targets: Any, weights: Any) -> Any:
        """Sum of the F1 of each row's labels; padding rows have no weight."""
        from keras import ops

        given, has = (ops.cast(part, "float32") for part in (logits >= 0, targets >= 0.5))
        either = ops.sum(given, axis=-1) + ops.sum(has, axis=-1)
        f1 = ops.where(either > 0, 2 * ops.sum(given * has, axis=-1) / ops.maximum(either, 1), 1.0)
        return ops.sum(f1 * ops.cast(weights > 0, "float32"))


def squared_errors(targets: Any, logits: Any) -> Any:
    """Squared distance of each probability from the truth, averaged over classes; tensors (B, K) to (B,)."""
    from keras import ops

    return ops.mean(ops.square(ops.sigmoid(logits) - targets), axis=-1)


MULTI = Multi()
