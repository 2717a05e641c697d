"""What a classifier said about images: logits in, probabilities out. The only place with a softmax."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlkit.core.atomic import replacing
from tlkit.core.manifest import UNLABELLED
from tlkit.core.splits import SPLITS, UNASSIGNED

IN_TRAINING = ("", "near", "exact")  # an image's kin among the training images: none, one alike, the very bytes
_FIRST = ("path", "sha256", "split", "label", "predicted", "probability")


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float64 (N, K), rows sum to 1, from logits (N, K); finite for any finite input."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Predictions:
    """Logits of N images over K classes, in a fixed order and keyed by path, never by position alone.

    Args:
        paths: of the images, as in the manifest.
        sha256: hex, of each image's bytes.
        labels: int32 (N,), index into `classes`, -1 where the truth is unknown.
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

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def probabilities(self) -> np.ndarray:
        """float64 (N, K)."""
        return softmax(self.logits, self.temperature)

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

        What else: abstain (true, false), unfamiliarity, group, in_training (exact, near or empty).
        """
        split_names, label_names = (*SPLITS, ""), (*self.classes, "")
        probabilities, predicted, further = self.probabilities, self.predicted, self._further()
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow([*_FIRST, *further, *(f"p:{name}" for name in self.classes)])
            for i, name in enumerate(self.paths):
                row = [f"{p:.9g}" for p in probabilities[i]]
                best = int(predicted[i])
                writer.writerow(
                    [
                        name,
                        self.sha256[i],
                        split_names[self.splits[i]],
                        label_names[self.labels[i]],
                        self.classes[best],
                        row[best],
                        *(column[i] for column in further.values()),
                        *row,
                    ]
                )

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
            rows = list(csv.reader(file))
        header, rows = rows[0], rows[1:]
        classes = tuple(name[2:] for name in header if name.startswith("p:"))
        first = len(header) - len(classes)
        known = {name: [row[place] for row in rows] for place, name in enumerate(header[:first])}
        label_codes = {name: code for code, name in enumerate(classes)} | {"": UNLABELLED}
        split_codes = {name: code for code, name in enumerate(SPLITS)} | {"": UNASSIGNED}
        probabilities = np.array([row[first:] for row in rows], dtype=np.float64).reshape(-1, len(classes))
        far, seen = known.get("unfamiliarity"), known.get("in_training")
        return cls(
            paths=known["path"],
            sha256=known["sha256"],
            labels=np.array([label_codes[name] for name in known["label"]], dtype=np.int32),
            splits=np.array([split_codes[name] for name in known["split"]], dtype=np.int8),
            logits=np.log(np.maximum(probabilities, 1e-300)).astype(np.float32),
            classes=classes,
            groups=known.get("group"),
            unfamiliarity=None if far is None else np.array([text or "nan" for text in far], dtype=np.float32),
            in_training=None if seen is None else np.array([IN_TRAINING.index(name) for name in seen], dtype=np.int8),
        )
