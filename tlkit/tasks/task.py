"""The interface of a task: how its truth is stored and written, what its logits mean, its losses and its limits."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError

UNLABELLED = -1
NAMED = 12  # classes that are listed by name
NUMBERS = 2**23  # logits that are processed at once: in float64, and with copies, some hundred megabytes


class Refusal(NamedTuple):
    """The message for something that a task cannot do.

    Args:
        why: the rest of a sentence that begins with what was asked for.
        remedy: what to do instead.
    """

    why: str
    remedy: str


class Scale(NamedTuple):
    """Units of K numbers: the network learns (number - centre) / unit.

    Args:
        centre: float64 (K,).
        unit: float64 (K,), positive.
    """

    centre: np.ndarray
    unit: np.ndarray

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers (N, K) in these units."""
        return (numbers - self.centre) / self.unit

    def restore(self, learned: np.ndarray) -> np.ndarray:
        """float32 (N, K), the inverse of `apply`."""
        return (learned.astype(np.float64) * self.unit + self.centre).astype(np.float32)


class Task(ABC):
    """A kind of target. The head outputs K numbers per image, `logits` (N, K); `truth` is the ground truth.

    Attributes:
        name: in run.json, in a classifier's facts and in evaluation.json.
        columns: of predictions.csv, besides those that every task has; `beside` gives their values.
        prefix: of the names of the further columns there, one for each output of the head.
        fewest: smallest number of outputs of the head.
        trained_by: values of `--loss`; the first is the default.
        solver: of a linear head under the default loss.
        loss_name: the name of the mean of `losses`.
        calibrated: whether a temperature may be fitted, so that its outputs become calibrated probabilities.
        amount_name: the word for one of `probabilities`.
        ranks: whether an answer lists the most probable classes.
        shortens: whether the most probable classes suffice, so that with a thousand the others need not be stored.
        strata_name: what splits are stratified by: "drawn within ...".
        score_name: the full name of the mean of `scores`.
        score: the same in a word.
        exact: the metric that counts images whose prediction is entirely correct.
        gives: what a classifier does with an image, in words.
        conflict: where pictures with contradictory copies are found, in words.
        smooths: whether cross-entropy smooths labels by default.
        unbalanced: why its classes are not balanced; "" where they may be.
        refusals: what it cannot do, by name: `threshold`, `balance`, `folds`, `audit`, `views`, `folders`,
            `curve`, `explain`, `next`.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ()
    prefix: ClassVar[str] = "p:"
    fewest: ClassVar[int] = 2
    trained_by: ClassVar[tuple[str, ...]] = ("crossentropy", "focal", "squared")
    solver: ClassVar[str] = "lbfgs"
    loss_name: ClassVar[str] = "log loss"
    calibrated: ClassVar[bool] = True
    amount_name: ClassVar[str] = "probability"
    ranks: ClassVar[bool] = True
    shortens: ClassVar[bool] = False
    unbalanced: ClassVar[str] = ""
    strata_name: ClassVar[str] = "each class"
    score_name: ClassVar[str]
    score: ClassVar[str]
    exact: ClassVar[str]
    gives: ClassVar[str]
    conflict: ClassVar[str]
    smooths: ClassVar[bool]
    refusals: ClassVar[Mapping[str, Refusal]] = {}

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def can(self, ability: str) -> bool:
        """Whether it can do one of the entries of `refusals`."""
        return ability not in self.refusals

    def lacks(self, ability: str) -> str:
        """Why it cannot, "" where it can."""
        return "" if self.can(ability) else self.refusals[ability].why

    def refuse(self, ability: str, asked: str) -> None:
        """Raise where it cannot.

        Args:
            ability: an entry of `refusals`.
            asked: what was asked for, as the message begins: `--balance weights`.

        Raises:
            TlkitError: saying what to do instead.
        """
        if not self.can(ability):
            raise TlkitError(f"{asked} {self.refusals[ability].why}.", self.refusals[ability].remedy)

    # -- truth: an array with one row per image --------------------------------------------------

    @abstractmethod
    def fits(self, truth: np.ndarray) -> bool:
        """Whether an array of N rows is a truth of this task."""

    def takes(self, texts: Sequence[str]) -> bool:
        """Whether a column of a table of images, as a user wrote it, is one of this task."""
        return False

    @abstractmethod
    def read(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """The columns `labels` int32 (N,) and `targets` of N texts from `write`, "" where unknown."""

    @abstractmethod
    def write(self, row: Any, classes: Sequence[str]) -> str:
        """A row of truth as text, "" where it is unknown."""

    def spelt(self, truth: np.ndarray, classes: Sequence[str]) -> dict[str, list[str]]:
        """Columns of a table, besides `label`, from which it can be read again."""
        return {}

    def label(self, row: Any) -> int:
        """The value of the column `labels` for a row of truth."""
        return UNLABELLED

    @abstractmethod
    def parsed(self, text: str, classes: Sequence[str], place: str) -> Any:
        """A row of truth from a text that a user wrote at `place`.

        Raises:
            TlkitError: it names an unknown class, or the task cannot read it.
        """

    def understands(self, other: "Task") -> bool:
        """Whether images labelled for another task can be evaluated: `renamed` converts their truth to this task."""
        return other is self

    @abstractmethod
    def renamed(
        self, labels: np.ndarray, targets: np.ndarray | None, found: Sequence[str], classes: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Convert `labels` and `targets` of the classes `found`, of this task or a simpler one, to this task and `classes`."""

    @abstractmethod
    def known(self, truth: np.ndarray) -> np.ndarray:
        """Bool (N,), whether the truth of an image is known."""

    @abstractmethod
    def of_class(self, truth: np.ndarray, code: int) -> np.ndarray:
        """Bool (N,), the images of a class."""

    @abstractmethod
    def counts(self, truth: np.ndarray, classes: int) -> np.ndarray:
        """int64 (K,) images of each class."""

    @abstractmethod
    def as_bytes(self, truth: np.ndarray) -> np.ndarray:
        """uint8 (N, bytes), for fingerprints."""

    @abstractmethod
    def as_targets(self, truth: np.ndarray, classes: int) -> np.ndarray:
        """float64 (N, K), the targets of the head: 1 where an image of known truth has the class, else 0."""

    @abstractmethod
    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Int (N,), the stratum of each image in stratified samples and folds."""

    @abstractmethod
    def shares(self, truth: np.ndarray) -> np.ndarray:
        """Int (N,) or bool (N, K + 1), the classes that an image counts for in a split; class 0 is none of them."""

    def summary(self, truth: np.ndarray, classes: Sequence[str]) -> str:
        """A summary in a few words: images of each class."""
        counts = self.counts(truth, len(classes))
        if len(classes) > NAMED:
            return f"{counts.min()} to {counts.max()} each"
        return ", ".join(f"{name} {count}" for name, count in zip(classes, counts, strict=True))

    @abstractmethod
    def described(self, counts: np.ndarray, images: int, known: int, shown: str) -> str:
        """The images in a few words.

        Args:
            counts: int (K,), images of each class.
            images: in all.
            known: of known truth.
            shown: the text of `summary`.
        """

    # -- logits ----------------------------------------------------------------------------------

    @abstractmethod
    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float64 (N, K), from logits (N, K) divided by the temperature; finite for any finite input."""

    @abstractmethod
    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """float64 (N, K), the inverse of `probabilities`."""

    @abstractmethod
    def mean_logits(self, views: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float32 (N, K) whose probabilities are the mean of those of several views of each image.

        Probabilities are averaged, not logits, so that no view outvotes the others by its confidence (Krizhevsky et
        al. 2012 average the softmax of ten crops). The result is logits again, finite for any finite input, and can be
        used like those of one view.

        Args:
            views: float (V, N, K), logits of V views of N images.
            temperature: for the probabilities of the views and of the result.
        """

    @abstractmethod
    def decide(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Bool (N, K), the classes predicted by logits (N, K)."""

    def predicted(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """int64 (N,), the single class that represents a prediction: the most probable, the first one in a tie."""
        return np.argmax(logits, axis=1)

    @abstractmethod
    def correct(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Bool (N,), whether the prediction for an image is entirely correct; False where the truth is unknown."""

    @abstractmethod
    def scores(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float64 (N,), at most 1: how correct the prediction for each image is; epochs are ranked by the mean."""

    @abstractmethod
    def losses(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float64 (N,): -log p(truth) of each image, logits divided by the temperature."""

    def mistaken(self, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Of each image the most probable of all truths but its own, in the form of `truth`; asked where probabilities are `calibrated`."""
        raise NotImplementedError

    def comparable(self, logits: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Logits (N, K) in a unit in which differences of 1e-4 do not matter, determined from the expected ones (M, K)."""
        return logits

    def amount(self, chance: float, digits: int = 1) -> str:
        """One of `probabilities` as text."""
        return f"{chance:.{digits}%}"

    def of_ridge(self, scores: np.ndarray) -> np.ndarray:
        """Logits (N, K) from the predictions of ridge regression on `as_targets`, less one half."""
        return scores

    def stratum(self, code: int, classes: Sequence[str]) -> str:
        """The name of one of `strata`."""
        return (*classes, "none of the classes")[code]

    @abstractmethod
    def same(self, logits: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Bool (N,), whether two networks make the same decision."""

    @abstractmethod
    def called(self, logits: np.ndarray, classes: Sequence[str], temperature: float = 1.0) -> str:
        """The prediction of logits (K,) for one image, as text."""

    @abstractmethod
    def beside(self, chances: np.ndarray, best: int, margins: Sequence[float] | None) -> list[str]:
        """The values of `columns` for one image.

        Args:
            chances: float64 (K,), from `probabilities`.
            best: from `predicted`.
            margins: see `Facts`.
        """

    def answer(
        self,
        logits: np.ndarray,
        chances: np.ndarray,
        best: int,
        classes: Sequence[str],
        margins: Sequence[float] | None,
    ) -> dict[str, Any]:
        """An answer about one image, by key, besides its most probable classes; logits (K,), the rest as for `beside`."""
        return {"class": classes[best], "probability": round(float(chances[best]), 6)}

    @abstractmethod
    def listed(self, classes: int, top: int) -> int:
        """The number of classes a server considers where a client asks for the `top` most probable ones."""

    @abstractmethod
    def baseline(self, support: np.ndarray, images: int) -> float:
        """The first metric of a report for predictions without looking at an image, 0..1, with so many images of each class."""

    def unlearnable(self, truth: np.ndarray, classes: Sequence[str]) -> TlkitError | None:
        """The error where no network can learn such a truth; None where one can."""
        return None

    def scale(self, truth: np.ndarray) -> "Scale | None":
        """The units in which a network learns, from the truth of the training images; None for those of the truth."""
        return None

    def margins(self, logits: np.ndarray, truth: np.ndarray) -> tuple[float, ...] | None:
        """Half-width of the interval of each number, from images that were not trained on; None for none."""
        return None

    # -- training: Keras tensors -----------------------------------------------------------------

    @abstractmethod
    def loss(self, name: str, smoothing: float) -> Callable[..., Any]:
        """The loss `name`, one of `trained_by`, on targets and logits (B, K)."""

    @abstractmethod
    def hits(self, logits: Any, targets: Any, weights: Any) -> Any:
        """The sum of `scores` over a batch of tensors; padding rows do not count."""


def row_blocks(logits: np.ndarray, numbers: int = NUMBERS) -> list[slice]:
    """Blocks of rows of (N, K) with about so many numbers each; at least one block, which is empty if there are no rows."""
    step = max(1, numbers // max(1, logits.shape[1]))
    return [slice(start, start + step) for start in range(0, max(1, len(logits)), step)]


def mean_logarithm(logarithms: np.ndarray) -> np.ndarray:
    """Logarithm of the mean over the first axis of the exponentials of logarithms."""
    return np.logaddexp.reduce(logarithms, axis=0) - np.log(len(logarithms))
