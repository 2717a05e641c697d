"""What a classifier said about images: logits in, probabilities out. The only place with a softmax or a sigmoid."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlkit.base import cells
from tlkit.base.files import replacing
from tlkit.data import labels as several
from tlkit.data.dataset import SPLITS, UNASSIGNED, UNLABELLED

IN_TRAINING = ("", "near", "exact")  # an image's kin among the training images: none, one alike, the very bytes
_FIRST = ("path", "sha256", "split", "label", "predicted", "probability")  # the last one not for several labels
_ALMOST_ONE = 1 - 2.0**-53


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float64 (N, K), rows sum to 1, from logits (N, K); finite for any finite input."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float64 (N, K), each of its own class alone, from logits (N, K); finite for any finite input."""
    scaled = logits.astype(np.float64) / temperature
    small = np.exp(-np.abs(scaled))
    return np.where(scaled >= 0, 1.0, small) / (1 + small)


def probabilities(logits: np.ndarray, temperature: float = 1.0, *, multi: bool = False) -> np.ndarray:
    """float64 (N, K): the softmax, or a sigmoid for each class where an image may have several (`multi`)."""
    return (sigmoid if multi else softmax)(logits, temperature)


def decide(logits: np.ndarray) -> np.ndarray:
    """Bool (N, K), the labels that logits (N, K) give where an image may have several: a probability of at least 0.5."""
    return logits >= 0


def image_scores(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float64 (N,), 0..1: how right each image is; the mean is what ranks epochs.

    For one class an image: 1 where the most probable class is the true one, else 0, so that the mean is accuracy. For
    several: F1 of the labels given against those it has (Godbole and Sarawagi 2004), 1 where there are none and none are
    given. Of one label each the second is the first.

    Args:
        logits: float (N, K).
        truth: int (N,), 0..K-1; or (N, K), 1 where the image has the class, 0 where not.
    """
    if truth.ndim == 1:
        return (logits.argmax(axis=1) == truth).astype(np.float64)
    given, has = decide(logits), truth == 1
    both, either = (given & has).sum(axis=1), given.sum(axis=1) + has.sum(axis=1)
    return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


def score_name(*, multi: bool) -> str:
    """What the mean of `image_scores` is called, where an image may have several labels (`multi`) or one."""
    return "F1 of each image's labels" if multi else "accuracy"


def image_losses(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 (N,): -log p(truth) of each image; for several labels the mean of that over the K yes-or-no questions.

    Args:
        logits: float (N, K).
        truth: as of `image_scores`.
        temperature: logits are divided by it.
    """
    scaled = logits.astype(np.float64) / temperature
    if truth.ndim == 2:
        return np.logaddexp(0.0, np.where(truth == 1, -scaled, scaled)).mean(axis=1)
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]


@dataclass(frozen=True)
class Predictions:
    """Logits of N images over K classes, in a fixed order and keyed by path, never by position alone.

    Args:
        paths: of the images, as in the manifest.
        sha256: hex, of each image's bytes.
        labels: int32 (N,), index into `classes`, -1 where the truth is unknown, and throughout with `targets`.
        splits: int8 (N,), index into `SPLITS`, -1 for none.
        logits: float32 (N, K), before temperature.
        classes: K class names.
        temperature: logits are divided by it before the softmax (Guo et al. 2017); 1 changes nothing.
        threshold: the classifier answers where its confidence reaches this, 0..1; None where it always answers.
        groups: N names of what belongs together (a patient, a clip), "" for an image on its own; None where
            there are none.
        unfamiliarity: float32 (N,), distance to what was trained on; above 1 is unlike anything in it. NaN where
            it was not measured, None where it never was.
        in_training: int8 (N,), index into `IN_TRAINING`: whether the image, or one that looks like it, was
            trained on; None where nobody looked.
        targets: int8 (N, K) where an image may have several labels: 1 has it, 0 has not, a row of -1 is not known;
            None where an image has one. With it probabilities are sigmoids.
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

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def multi(self) -> bool:
        """Whether an image may have several labels."""
        return self.targets is not None

    @property
    def labelled(self) -> np.ndarray:
        """Bool (N,), whether the truth is known."""
        return self.labels >= 0 if self.targets is None else np.all(self.targets >= 0, axis=1)

    def of_class(self, label: int) -> np.ndarray:
        """Bool (N,), the images of a class."""
        return self.labels == label if self.targets is None else self.targets[:, label] == 1

    @property
    def truth(self) -> np.ndarray:
        """`labels` (N,), or `targets` (N, K) where an image may have several."""
        return self.labels if self.targets is None else self.targets

    @property
    def correct(self) -> np.ndarray:
        """Bool (N,), whether everything said of an image is true: its class, or every one of its labels."""
        if self.targets is None:
            return self.predicted == self.labels
        return (decide(self.logits) == (self.targets == 1)).all(axis=1) & self.labelled

    @property
    def probabilities(self) -> np.ndarray:
        """float64 (N, K)."""
        return probabilities(self.logits, self.temperature, multi=self.multi)

    @property
    def predicted(self) -> np.ndarray:
        """int64 (N,), the most probable class; the first one on a tie."""
        return np.argmax(self.logits, axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """float64 (N,), probability of the predicted class."""
        return self.probabilities.max(axis=1)

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
            targets=None if self.targets is None else self.targets[rows],
            splits=self.splits[rows],
            logits=self.logits[rows],
            groups=None if self.groups is None else [self.groups[i] for i in pick],
            unfamiliarity=None if self.unfamiliarity is None else self.unfamiliarity[rows],
            in_training=None if self.in_training is None else self.in_training[rows],
        )

    def of_split(self, name: str) -> "Predictions":
        """The rows of one split."""
        return self.select(np.flatnonzero(self.splits == SPLITS.index(name)))

    def write_csv(self, path: Path) -> None:
        """Columns path, sha256, split, label, predicted, probability, what else is known, then `p:CLASS`; atomic.

        What else: abstain (true, false), unfamiliarity, group, in_training (exact, near or empty). Where an image may
        have several labels, `label` and `predicted` are as `cat|dog` and there is no `probability`.
        """
        split_names, further, chances = (*SPLITS, ""), self._further(), self.probabilities
        first = _FIRST[:-1] if self.multi else _FIRST
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = cells.Writer(file)
            writer.writerow([*first, *further, *(f"p:{name}" for name in self.classes)])
            for i, name in enumerate(self.paths):
                row = [f"{p:.9g}" for p in chances[i]]
                known = [name, self.sha256[i], split_names[self.splits[i]], self.label_name(i), self.predicted_name(i)]
                known += [] if self.multi else [row[int(self.logits[i].argmax())]]
                writer.writerow([*known, *(column[i] for column in further.values()), *row])

    def label_name(self, index: int) -> str:
        """The true class of a row, "" where it is not known; several as `cat|dog`, and `|` for none of the classes."""
        if self.targets is not None:
            return several.decode(self.targets[index], self.classes)
        return (*self.classes, "")[self.labels[index]]

    def predicted_name(self, index: int) -> str:
        """What a row was called, written in the same way."""
        if self.multi:
            return several.decode(decide(self.logits[index]), self.classes)
        return self.classes[int(self.logits[index].argmax())]

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
            rows = [[cells.read(cell) for cell in row] for row in csv.reader(file)]
        header, rows = rows[0], rows[1:]
        classes = tuple(name[2:] for name in header if name.startswith("p:"))
        first = len(header) - len(classes)
        known = {name: [row[place] for row in rows] for place, name in enumerate(header[:first])}
        label_codes = {name: code for code, name in enumerate(classes)} | {"": UNLABELLED}
        split_codes = {name: code for code, name in enumerate(SPLITS)} | {"": UNASSIGNED}
        chances = np.array([row[first:] for row in rows], dtype=np.float64).reshape(-1, len(classes))
        logits, multi = np.log(np.maximum(chances, 1e-300)), _FIRST[-1] not in known
        if multi:
            logits -= np.log1p(-np.minimum(chances, _ALMOST_ONE))
        far, seen = known.get("unfamiliarity"), known.get("in_training")
        return cls(
            paths=known["path"],
            sha256=known["sha256"],
            labels=np.array([UNLABELLED if multi else label_codes[name] for name in known["label"]], dtype=np.int32),
            targets=several.encode(known["label"], classes) if multi else None,
            splits=np.array([split_codes[name] for name in known["split"]], dtype=np.int8),
            logits=logits.astype(np.float32),
            classes=classes,
            groups=known.get("group"),
            unfamiliarity=None if far is None else np.array([text or "nan" for text in far], dtype=np.float32),
            in_training=None if seen is None else np.array([IN_TRAINING.index(name) for name in seen], dtype=np.int8),
        )


# -- Several views of an image, one answer -----------------------------------------------------


def average_logits(views: np.ndarray, temperature: float = 1.0, *, multi: bool = False) -> np.ndarray:
    """Logits whose probabilities, at the same temperature, are the mean of the probabilities of the views.

    Probabilities are averaged, not logits: no view then outvotes the others by being sure of itself (Krizhevsky et al.
    2012 average the softmax of ten crops). On photographs of flowers the two gave the same accuracy, see docs/log.md.
    What is returned are logits again, so that whatever works on those of one view works on these.

    Args:
        views: float (V, N, K), logits of V views of N images.
        temperature: that makes probabilities of them.
        multi: whether each class is a question of its own, a sigmoid, and not one of K, a softmax.

    Returns:
        float32 (N, K); finite for any finite input.
    """
    scaled = views.astype(np.float64) / temperature
    if multi:
        yes, no = _mean(-np.logaddexp(0.0, -scaled)), _mean(-np.logaddexp(0.0, scaled))
        return ((yes - no) * temperature).astype(np.float32)
    log_sum = np.logaddexp.reduce(scaled, axis=2, keepdims=True)
    return (_mean(scaled - log_sum) * temperature).astype(np.float32)


def _mean(logarithms: np.ndarray) -> np.ndarray:
    """Logarithm of the mean over the first axis."""
    return np.logaddexp.reduce(logarithms, axis=0) - np.log(len(logarithms))
