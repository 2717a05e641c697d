"""Numbers: quantities predicted for an image, with an interval, instead of classes."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.tasks.labels import SEPARATOR
from tlkit.tasks.task import UNLABELLED, Refusal, Scale, Task

LEVEL = 0.95  # of intervals around a number
STRATA = 10  # quantiles by which splits and folds are stratified
PER_STRATUM = 5  # images of each, at least
FAR, FLOAT32 = (
    5.0,
    1e-3,
)  # standard deviations, and share of the mean, that define the unit of comparisons between runtimes
LARGEST = 1e30  # number, and inverse of the smallest spread, that leaves float32 room for computations
RESOLVED = 100  # steps of float32 in a standard deviation, at least
SAME = 0.01  # standard deviations within which two networks count as predicting the same number
_NO_CLASSES = "is for classes, and these are numbers"


class Number(Task):
    """Truth is float64 (N, K), K numbers per image, a row with NaN where one is unknown.

    The network outputs the numbers themselves. It learns them in standard deviations of the training images
    (`Scale`), and the units are then folded into its last layer.
    """

    name = "number"
    columns = ("low", "high")
    prefix = "value:"
    fewest = 1
    trained_by = ("mse", "huber")
    solver = "ridge"
    loss_name = "half the squared error"
    score_name = "skill (1 - mean absolute error in standard deviations)"
    score = "skill"
    exact = "r2"
    gives = "gives numbers to each image"
    conflict = "there with different numbers"
    smooths = False
    calibrated = False
    ranks = False
    amount_name = "value"
    unbalanced = "there are no classes"
    strata_name = "quantiles of the numbers"
    refusals = {
        "threshold": Refusal(_NO_CLASSES, "drop it: each number comes with an interval that holds it 95 times in 100."),
        "balance": Refusal(_NO_CLASSES, "drop it."),
        "audit": Refusal("needs one class per image, and these have numbers", ""),
        "next": Refusal("chooses images of one class each", ""),
        "views": Refusal("may change the number: an angle in a mirror, an area in a crop", "leave it out."),
        "folders": Refusal("reads a table, and this is a folder", "give a CSV with the columns path and target."),
        "curve": Refusal("is of accuracy, and these images have numbers", "drop it."),
        "quantised": Refusal("keeps classes, and would round numbers", "use --format litert."),
    }

    def fits(self, truth: np.ndarray) -> bool:
        return truth.ndim == 2 and truth.dtype.kind == "f"

    def read(self, texts: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        unknown = [math.nan] * len(classes)
        rows = [[float(part) for part in text.split(SEPARATOR)] if text else unknown for text in texts]
        return np.full(len(texts), UNLABELLED, np.int32), np.array(rows, np.float64).reshape(-1, len(classes))

    def write(self, row: Any, classes: Sequence[str]) -> str:
        """`12.5`, or `12.5|3.0` for several; `read` restores exactly the same numbers."""
        return "" if np.isnan(row).any() else SEPARATOR.join(repr(float(number)) for number in row)

    def spelt(self, truth: np.ndarray, classes: Sequence[str]) -> dict[str, list[str]]:
        """Each number in a column of its own."""
        return {
            name: [repr(number) for number in column] for name, column in zip(classes, truth.T.tolist(), strict=True)
        }

    def parsed(self, text: str, classes: Sequence[str], place: str) -> Any:
        parts = text.split(SEPARATOR)
        if len(parts) != len(classes):
            raise TlkitError(
                f"{place} has {text!r}, where {len(classes)} numbers are expected ({', '.join(classes)}).",
                f"write them joined by {SEPARATOR!r}, in this order.",
            )
        return np.array([finite(part, place) for part in parts])

    def renamed(
        self, labels: np.ndarray, targets: np.ndarray | None, found: Sequence[str], classes: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return labels, None if targets is None else targets[:, [list(found).index(name) for name in classes]]

    def known(self, truth: np.ndarray) -> np.ndarray:
        return ~np.isnan(truth).any(axis=1)

    def of_class(self, truth: np.ndarray, code: int) -> np.ndarray:
        """No image is of a class."""
        return np.zeros(len(truth), bool)

    def counts(self, truth: np.ndarray, classes: int) -> np.ndarray:
        """Images whose number is known, for each number."""
        return (~np.isnan(truth)).sum(axis=0)

    def as_bytes(self, truth: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(truth, "<f8").view(np.uint8).reshape(len(truth), -1)

    def as_targets(self, truth: np.ndarray, classes: int) -> np.ndarray:
        return np.nan_to_num(truth)

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """The decile of the number, equal numbers in one; of several numbers that of their mean rank. -1 if unknown."""
        from scipy.stats import rankdata

        known = self.known(truth)
        codes = np.full(len(truth), UNLABELLED, np.int64)
        count = int(known.sum())
        if count:
            parts = max(1, min(STRATA, count // PER_STRATUM))
            place = rankdata(truth[known], method="min", axis=0).mean(axis=1)
            ranks = rankdata(place, method="min") - 1
            codes[known] = (ranks * parts // count).astype(np.int64)
            codes[known] = np.unique(codes[known], return_inverse=True)[1]  # many equal numbers leave deciles empty
        return codes

    def shares(self, truth: np.ndarray) -> np.ndarray:
        return self.strata(truth) + 1

    def summary(self, truth: np.ndarray, classes: Sequence[str]) -> str:
        """The range of each number."""
        ends = zip(classes, np.nanmin(truth, axis=0), np.nanmax(truth, axis=0), strict=True)
        return ", ".join(f"{name} {low:g} to {high:g}" for name, low, high in ends)

    def described(self, counts: np.ndarray, images: int, known: int, shown: str) -> str:
        numbers = "a number each" if len(counts) == 1 else f"{len(counts)} numbers each"
        return f"{images} images with {numbers} ({shown})"

    # -- what the head gives: the numbers --------------------------------------------------------

    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """The numbers; there are no probabilities."""
        return logits.astype(np.float64)

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities

    def mean_logits(self, views: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        return views.mean(axis=0, dtype=np.float64).astype(np.float32)

    def decide(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """There are no classes to predict."""
        return np.zeros(logits.shape, bool)

    def predicted(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """The first number represents the others."""
        return np.zeros(len(logits), np.int64)

    def correct(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """No number is right or wrong."""
        return np.zeros(len(logits), bool)

    def scores(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """1 - |error|, averaged over the numbers, in the units of `scale`."""
        return 1 - np.abs(logits - truth).mean(axis=1)

    def losses(self, logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Half the squared error, averaged over the numbers: -log p of a normal distribution of variance 1, up to a constant."""
        return 0.5 * ((logits.astype(np.float64) - truth) ** 2).mean(axis=1)

    def comparable(self, logits: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Numbers over five standard deviations, about the range of logits, but no less than float32 can resolve."""
        centre = expected.mean(axis=0, dtype=np.float64)
        unit = FAR * expected.std(axis=0, dtype=np.float64) + FLOAT32 * np.abs(centre)
        return (logits - centre) / np.maximum(unit, 1e-30)

    def amount(self, chance: float, digits: int = 1) -> str:
        return f"{chance:.5g}"

    def of_ridge(self, scores: np.ndarray) -> np.ndarray:
        return scores + 0.5

    def stratum(self, code: int, classes: Sequence[str]) -> str:
        return f"quantile {code + 1}"

    def same(self, logits: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether all numbers are within a hundredth of their standard deviation over these images."""
        return (np.abs(logits - others) <= SAME * np.maximum(others.std(axis=0), 1e-12)).all(axis=1)

    def called(self, logits: np.ndarray, classes: Sequence[str], temperature: float = 1.0) -> str:
        return SEPARATOR.join(f"{number:.6g}" for number in logits)

    def beside(self, chances: np.ndarray, best: int, margins: Sequence[float] | None) -> list[str]:
        if margins is None:
            return ["", ""]
        return [self.called(chances - np.array(margins), ()), self.called(chances + np.array(margins), ())]

    def answer(
        self,
        logits: np.ndarray,
        chances: np.ndarray,
        best: int,
        classes: Sequence[str],
        margins: Sequence[float] | None,
    ) -> dict[str, Any]:
        """Each number with its name, and the interval around it where the classifier has one."""
        numbers: list[dict[str, Any]] = []
        for place, (name, number) in enumerate(zip(classes, chances.tolist(), strict=True)):
            reach = None if margins is None else margins[place]
            ends = {} if reach is None else {"low": rounded(number - reach), "high": rounded(number + reach)}
            numbers.append({"name": name, "value": rounded(number), **ends})
        return {"numbers": numbers}

    def listed(self, classes: int, top: int) -> int:
        return 0

    def baseline(self, support: np.ndarray, images: int) -> float:
        """R2 of the mean."""
        return 0.0

    def unlearnable(self, truth: np.ndarray, classes: Sequence[str]) -> TlkitError | None:
        """The error for a number that is always the same, or that float32, in which networks compute, cannot represent."""
        known = truth[self.known(truth)]
        if len(known) < 2:
            return None
        for name, column in zip(classes, known.T, strict=True):
            least, most = float(column.min()), float(column.max())
            size, between = max(-least, most), f"the numbers of {name!r}, {least:.10g} to {most:.10g},"
            if least == most:
                return TlkitError(f"{name!r} is {least:.10g} in every image.", "name columns whose numbers differ.")
            spread = float((column / size).std()) * size
            if size > LARGEST or spread < 1 / LARGEST:
                return TlkitError(
                    f"{between} are too large or too small for float32, in which networks compute.",
                    f"give them in another unit: divide the column by {10.0 ** math.floor(math.log10(size)):g}.",
                )
            if float(np.spacing(np.float32(size))) > spread / RESOLVED:
                return TlkitError(
                    f"{between} differ by less than float32, in which networks compute, can resolve at their size.",
                    f"subtract what they have in common, such as {least:.10g}, from the column.",
                )
        return None

    def scale(self, truth: np.ndarray) -> Scale | None:
        """Mean and standard deviation of the numbers; a number that is always the same has the unit 1."""
        deviation = truth.std(axis=0)
        return Scale(truth.mean(axis=0), np.where(deviation > 1e-12 * np.abs(truth).max(axis=0), deviation, 1.0))

    def margins(self, logits: np.ndarray, truth: np.ndarray) -> tuple[float, ...] | None:
        """Half the width of split conformal intervals (Papadopoulos et al. 2002; Lei et al. 2018), of each number.

        Of n absolute errors on images that were not trained on, the one at rank ceil(0.95 (n + 1)) in ascending order:
        the interval around the prediction for a new image of the same kind holds the truth with probability at least 0.95,
        and at most 0.95 + 1 / (n + 1), for any distribution. None for fewer than 19 images, which give no finite interval.
        """
        place = math.ceil(LEVEL * (len(truth) + 1))
        if not len(truth) or place > len(truth) or not np.isfinite(logits).all():
            return None
        errors = np.sort(np.abs(logits.astype(np.float64) - truth), axis=0)
        return tuple(errors[place - 1].tolist())

    # -- training --------------------------------------------------------------------------------

    def loss(self, name: str, smoothing: float) -> Callable[..., Any]:
        """Squared error, or that of Huber (1964), which grows linearly from one standard deviation on."""
        import keras

        return keras.losses.Huber(delta=1.0) if name == "huber" else keras.losses.MeanSquaredError()

    def hits(self, logits: Any, targets: Any, weights: Any) -> Any:
        """Sum of the `scores` of a batch; padding rows have no weight."""
        from keras import ops

        return ops.sum((1 - ops.mean(ops.abs(logits - targets), axis=-1)) * ops.cast(weights > 0, "float32"))


def finite(text: str, place: str) -> float:
    """A number as a user wrote it.

    Raises:
        TlkitError: it is not a number, or not finite; `place` says where it is ("row 7 of 'images.csv'").
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TlkitError(f"{place} has {text!r}, which is not a number.", f"write {_meant(text)}, or remove the row.")
    return number


def _meant(text: str) -> str:
    """What to write instead: a comma may be a decimal point, or before three digits a thousands separator."""
    whole, _, rest = text.strip().partition(",")
    if not (re.fullmatch(r"[-+]?\d+", whole) and rest.isdecimal()):
        return "a number such as 12.5"
    return (
        f"{whole}.{rest}" if len(rest) != 3 else f"{whole}.{rest}, or {whole}{rest} where the comma separates thousands"
    )


def rounded(number: float) -> float:
    """To seven significant digits, as many as float32 has."""
    return float(f"{number:.7g}")


NUMBER = Number()
