"""What every task answers for: how its truth is held and written, what its logits mean, what it learns by and cannot do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError

UNLABELLED = -1
NAMED = 12  # classes that are listed by name
NUMBERS = 2**23  # logits that are worked on at once: in float64, and with copies, some hundred megabytes


class Refusal(NamedTuple):
    """What a task says where something is asked of it that it cannot do.

    Args:
        why: the rest of a sentence that begins with what was asked for.
        remedy: what to do instead.
    """

    why: str
    remedy: str


class Scale(NamedTuple):
    """Units of K numbers: what is learned is (number - centre) / unit.

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
        """float32 (N, K), what `apply` was given."""
        return (learned.astype(np.float64) * self.unit + self.centre).astype(np.float32)


class Task(ABC):
    """A kind of target. K numbers an image from the head, `logits` (N, K); `truth` is what each image really is.

    Attributes:
        name: in run.json, in a classifier's facts and in evaluation.json.
        columns: of predictions.csv, besides those that every task has; `beside` gives their values.
        prefix: of the names of the further columns there, one for each number that the head gives.
        fewest: numbers that the head gives, at least.
        trained_by: of `--loss`; the first is the one unless given.
        solver: of a linear head under that one.
        loss_name: what the mean of `losses` is called.
        calibrated: whether a temperature may be fitted, so that its numbers become probabilities that can be believed.
        amount_name: what one of `probabilities` is, in a word.
        ranks: whether an answer lists the most probable classes.
        shortens: whether the most probable classes say enough of an image, so that of a thousand the others need not be kept.
        strata_name: what each split gets its share of: "drawn within ...".
        score_name: what the mean of `scores` is called, in full.
        score: the same in a word.
        exact: the metric that counts images about which everything said is true.
        gives: what a classifier does with an image, in words.
        conflict: of pictures whose copies contradict each other: where they are found.
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
        """Whether it can do one of what `refusals` lists."""
        return ability not in self.refusals

    def lacks(self, ability: str) -> str:
        """Why it cannot, "" where it can."""
        return "" if self.can(ability) else self.refusals[ability].why

    def refuse(self, ability: str, asked: str) -> None:
        """Raise where it cannot.

        Args:
            ability: one of what `refusals` lists.
            asked: what was asked for, as the message begins: `--balance weights`.

        Raises:
            TlkitError: saying what to do instead.
        """
        if not self.can(ability):
            raise TlkitError(f"{asked} {self.refusals[ability].why}.", self.refusals[ability].remedy)

    # -- truth: an array with one row an image ---------------------------------------------------

    @abstractmethod
    def fits(self, truth: np.ndarray) -> bool:
        """Whether an array of N rows is a truth of this task."""

    def takes(self, texts: Sequence[str]) -> bool:
        """Whether a column of a table of images, as a user wrote it, is one of this task."""
        return False

    @abstractmethod
    def read(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """The columns `labels` int32 (N,) and `targets` of N texts as `write` gives them, "" where unknown."""

    @abstractmethod
    def write(self, row: Any, classes: Sequence[str]) -> str:
        """A row of truth as text, "" where it is unknown."""

    def spelt(self, truth: np.ndarray, classes: Sequence[str]) -> dict[str, list[str]]:
        """Columns of a table, besides `label`, that it is read from again."""
        return {}

    def label(self, row: Any) -> int:
        """What the column `labels` holds of a row of truth."""
        return UNLABELLED

    @abstractmethod
    def parsed(self, text: str, classes: Sequence[str], place: str) -> Any:
        """A row of truth of a text that a user wrote at `place`.

        Raises:
            TlkitError: it names another class, or is none of what the task reads.
        """

    def understands(self, other: "Task") -> bool:
        """Whether images labelled for another task can be evaluated: `renamed` makes truth of this task of theirs."""
        return other is self

    @abstractmethod
    def renamed(
        self, labels: np.ndarray, targets: np.ndarray | None, found: Sequence[str], classes: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """`labels` and `targets` of the classes `found`, of this task or a simpler one, as this task's of `classes`."""

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
        """float64 (N, K), what the head is to give: 1 where an image of known truth has the class, else 0."""

    @abstractmethod
    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Int (N,), what an image is counted as where every class is to get its share of a sample or a fold."""

    @abstractmethod
    def shares(self, truth: np.ndarray) -> np.ndarray:
        """Int (N,) or bool (N, K + 1), the classes that an image counts for in a split; class 0 is none of them."""

    def summary(self, truth: np.ndarray, classes: Sequence[str]) -> str:
        """What there is in a few words: images of each class."""
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
            shown: what `summary` says.
        """

    # -- logits ----------------------------------------------------------------------------------

    @abstractmethod
    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float64 (N, K), from logits (N, K) divided by the temperature; finite for any finite input."""

    @abstractmethod
    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """float64 (N, K), of which `probabilities` makes these again."""

    @abstractmethod
    def mean_logits(self, views: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float32 (N, K) whose probabilities are the mean of those of several views of each image.

        Probabilities are averaged, not logits: no view then outvotes the others by being sure of itself (Krizhevsky et
        al. 2012 average the softmax of ten crops). What is returned are logits again, finite for any finite input, so
        that whatever works on those of one view works on these.

        Args:
            views: float (V, N, K), logits of V views of N images.
            temperature: that makes probabilities of them, and of what is returned.
        """

    @abstractmethod
    def decide(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Bool (N, K), the classes that logits (N, K) give."""

    def predicted(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """int64 (N,), the one class that stands for an answer: the most probable, the first one on a tie."""
        return np.argmax(logits, axis=1)

    @abstractmethod
    def correct(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Bool (N,), whether everything said of an image is true; False where the truth is unknown."""

    @abstractmethod
    def scores(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float64 (N,), at most 1: how right each image is; the mean is what ranks epochs."""

    @abstractmethod
    def losses(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """float64 (N,): -log p(truth) of each image, logits divided by the temperature."""

    def mistaken(self, logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Of each image the most probable of all truths but its own, in the form of `truth`; asked where probabilities are `calibrated`."""
        raise NotImplementedError

    def comparable(self, logits: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Logits (N, K) in a unit in which differences of 1e-4 do not matter, settled on the expected ones (M, K)."""
        return logits

    def amount(self, chance: float, digits: int = 1) -> str:
        """One of `probabilities` for a reader."""
        return f"{chance:.{digits}%}"

    def of_ridge(self, scores: np.ndarray) -> np.ndarray:
        """Logits (N, K) of what ridge regression on `as_targets` predicts, less one half."""
        return scores

    def stratum(self, code: int, classes: Sequence[str]) -> str:
        """What one of `strata` is called."""
        return (*classes, "none of the classes")[code]

    @abstractmethod
    def same(self, logits: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Bool (N,), whether two networks decide alike."""

    @abstractmethod
    def called(self, logits: np.ndarray, classes: Sequence[str], temperature: float = 1.0) -> str:
        """What logits (K,) of one image say, as text."""

    @abstractmethod
    def beside(self, chances: np.ndarray, best: int, margins: Sequence[float] | None) -> list[str]:
        """The values of `columns` for one image.

        Args:
            chances: float64 (K,), what `probabilities` gives.
            best: what `predicted` gives.
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
        """An answer about one image, by key, besides its most probable classes; logits (K,), the rest as of `beside`."""
        return {"class": classes[best], "probability": round(float(chances[best]), 6)}

    @abstractmethod
    def listed(self, classes: int, top: int) -> int:
        """How many classes a server looks at where a client asks for the `top` most probable ones."""

    @abstractmethod
    def baseline(self, support: np.ndarray, images: int) -> float:
        """What the first metric of a report is without looking at an image, 0..1, of so many images of each class."""

    def unlearnable(self, truth: np.ndarray, classes: Sequence[str]) -> TlkitError | None:
        """Why no network can learn to give such a truth; None where one can."""
        return None

    def scale(self, truth: np.ndarray) -> "Scale | None":
        """The units that a network learns in, from the truth of the training images; None for those of the truth."""
        return None

    def margins(self, logits: np.ndarray, truth: np.ndarray) -> tuple[float, ...] | None:
        """How far intervals reach to each side of each number, by images that were not trained on; None for none."""
        return None

    # -- training: Keras tensors -----------------------------------------------------------------

    @abstractmethod
    def loss(self, name: str, smoothing: float) -> Callable[..., Any]:
        """One of `trained_by` on targets and logits (B, K)."""

    @abstractmethod
    def hits(self, logits: Any, targets: Any, weights: Any) -> Any:
        """The sum of `scores` over a batch of tensors; rows that only fill it up do not count."""


def row_blocks(logits: np.ndarray, numbers: int = NUMBERS) -> list[slice]:
    """Rows of (N, K), as many at a time as have so many numbers; at least one block, an empty one of no rows."""
    step = max(1, numbers // max(1, logits.shape[1]))
    return [slice(start, start + step) for start in range(0, max(1, len(logits)), step)]


def mean_logarithm(logarithms: np.ndarray) -> np.ndarray:
    """Logarithm of the mean over the first axis, of logarithms."""
    return np.logaddexp.reduce(logarithms, axis=0) - np.log(len(logarithms))
