"""What a classifier said about images: logits in, probabilities out. The only place with a softmax."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkit.core.atomic import replacing
from tlkit.core.manifest import UNLABELLED
from tlkit.core.splits import SPLITS, UNASSIGNED


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
    """

    paths: list[str]
    sha256: list[str]
    labels: np.ndarray
    splits: np.ndarray
    logits: np.ndarray
    classes: tuple[str, ...]
    temperature: float = 1.0

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

    def select(self, indices: np.ndarray) -> "Predictions":
        """Some of the rows."""
        rows = np.asarray(indices, dtype=np.int64)
        return Predictions(
            paths=[self.paths[i] for i in rows],
            sha256=[self.sha256[i] for i in rows],
            labels=self.labels[rows],
            splits=self.splits[rows],
            logits=self.logits[rows],
            classes=self.classes,
            temperature=self.temperature,
        )

    def of_split(self, name: str) -> "Predictions":
        """The rows of one split."""
        return self.select(np.flatnonzero(self.splits == SPLITS.index(name)))

    def write_csv(self, path: Path) -> None:
        """Columns path, sha256, split, label, predicted, probability, then `p:CLASS` for each class; atomic."""
        split_names = (*SPLITS, "")
        label_names = (*self.classes, "")
        probabilities, predicted = self.probabilities, self.predicted
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(
                [
                    "path",
                    "sha256",
                    "split",
                    "label",
                    "predicted",
                    "probability",
                    *(f"p:{name}" for name in self.classes),
                ]
            )
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
                        *row,
                    ]
                )

    @classmethod
    def read_csv(cls, path: Path) -> "Predictions":
        """Read what `write_csv` wrote.

        The logits come back as log-probabilities: the same up to a constant per row, with the
        temperature already applied, which no metric can tell apart.
        """
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file))
        header, rows = rows[0], rows[1:]
        classes = tuple(name[2:] for name in header if name.startswith("p:"))
        first = len(header) - len(classes)
        label_codes = {name: code for code, name in enumerate(classes)} | {"": UNLABELLED}
        split_codes = {name: code for code, name in enumerate(SPLITS)} | {"": UNASSIGNED}
        probabilities = np.array([row[first:] for row in rows], dtype=np.float64).reshape(-1, len(classes))
        return cls(
            paths=[row[0] for row in rows],
            sha256=[row[1] for row in rows],
            labels=np.array([label_codes[row[3]] for row in rows], dtype=np.int32),
            splits=np.array([split_codes[row[2]] for row in rows], dtype=np.int8),
            logits=np.log(np.maximum(probabilities, 1e-300)).astype(np.float32),
            classes=classes,
        )
