"""Which images to show, and their thumbnails within a budget."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from tlkit.core.predictions import Predictions
from tlkit.core.results import SplitResult
from tlkit.core.splits import SPLITS
from tlkit.report.page import Thumbnail

WORST, LEAST_SURE = 24, 12
CELLS, PER_CELL = 60, 8
BYTES = 5_000_000  # of thumbnails, as base64, in one page


@dataclass
class Album:
    """Thumbnails as data URIs: each made once, none once the budget of the page is spent."""

    thumbnail: Thumbnail | None
    spent: int = 0
    known: dict[str, str | None] = field(default_factory=dict)

    def uri(self, path: str) -> str | None:
        """`data:image/jpeg;base64,...`, or None."""
        if path not in self.known:
            self.known[path] = self._make(path)
        found = self.known[path]
        if found is None or self.spent + len(found) > BYTES:
            return None
        self.spent += len(found)  # once for every use: the page repeats the bytes
        return found

    def _make(self, path: str) -> str | None:
        if self.thumbnail is None or self.spent >= BYTES:
            return None
        jpeg = self.thumbnail(path)
        return None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


@dataclass(frozen=True)
class Card:
    """One image in a gallery.

    Args:
        path: as in the predictions.
        truth: name of its class.
        predicted: name of the class it was given.
        probability: of the predicted class.
        of_truth: probability of the true class.
        image: data URI, or None.
    """

    path: str
    truth: str
    predicted: str
    probability: float
    of_truth: float
    image: str | None


@dataclass(frozen=True)
class Cell:
    """The images of one cell of the confusion matrix; `cards` holds the first `PER_CELL` of `count`."""

    row: int
    column: int
    truth: str
    predicted: str
    count: int
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Galleries:
    """Errors by confidence in the wrong class, images by how close the two best classes are, and cells."""

    worst: tuple[Card, ...]
    least_sure: tuple[Card, ...]
    cells: tuple[Cell, ...]


def galleries(predictions: Predictions | None, result: SplitResult | None, thumbnail: Thumbnail | None) -> Galleries:
    """Choose the images of the split of `result`; empty galleries where there is nothing to choose from."""
    if predictions is None or result is None:
        return Galleries((), (), ())
    code = SPLITS.index(result.split) if result.split in SPLITS else -1
    rows = predictions.select(np.flatnonzero((predictions.splits == code) & (predictions.labels >= 0)))
    if not len(rows) or not np.isfinite(rows.logits).all():
        return Galleries((), (), ())
    dealer = _Dealer(rows, Album(thumbnail))
    return Galleries(
        worst=dealer.cards(dealer.errors[:WORST]),
        least_sure=dealer.cards(dealer.by_margin[:LEAST_SURE]) if rows.logits.shape[1] > 1 else (),
        cells=tuple(dealer.cells()),
    )


class _Dealer:
    """The images of one split, sorted in the ways galleries need."""

    def __init__(self, rows: Predictions, album: Album) -> None:
        self.rows, self.album = rows, album
        self.predicted = rows.predicted
        probabilities = rows.probabilities
        everyone = np.arange(len(rows))
        self.best = probabilities[everyone, self.predicted]
        self.of_truth = probabilities[everyone, rows.labels]
        wrong = np.flatnonzero(self.predicted != rows.labels)
        self.errors = wrong[np.argsort(-self.best[wrong], kind="stable")]
        probabilities[everyone, self.predicted] = -1  # a copy of our own; what is left is the second best
        self.by_margin = np.argsort(self.best - probabilities.max(axis=1), kind="stable")

    def cards(self, indices: Iterable[int]) -> tuple[Card, ...]:
        return tuple(
            Card(
                path=self.rows.paths[i],
                truth=self.rows.classes[self.rows.labels[i]],
                predicted=self.rows.classes[self.predicted[i]],
                probability=float(self.best[i]),
                of_truth=float(self.of_truth[i]),
                image=self.album.uri(self.rows.paths[i]),
            )
            for i in indices
        )

    def cells(self) -> Iterable[Cell]:
        """The fullest cells of errors, their surest errors first."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i in self.errors:
            groups.setdefault((int(self.rows.labels[i]), int(self.predicted[i])), []).append(int(i))
        fullest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        for (row, column), members in fullest[:CELLS]:
            names = self.rows.classes[row], self.rows.classes[column]
            yield Cell(row, column, *names, len(members), self.cards(members[:PER_CELL]))
