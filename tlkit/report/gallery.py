"""The images that a page shows, errors and findings of the audit, with thumbnails within a budget of bytes."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tlkit.auditing.findings import SEVERITIES, AuditResult, Finding, ImageGroup
from tlkit.classifier.answers import Predictions
from tlkit.data.dataset import SPLITS
from tlkit.evaluation.results import SplitResult
from tlkit.report.page import Neighbours, Overlays, Page, Thumbnail
from tlkit.tasks.labels import SEPARATOR

WORST, OTHERS = 12, 12  # images in the gallery of errors, and in each of the others
CELLS, PER_CELL = 60, 8
NEIGHBOURS = 4  # training images shown beside an error
CLASSES, PER_CLASS = 12, 4  # classes that examples are shown of, and how many of each
BYTES = 6_000_000  # of pictures, as base64, in one page


@dataclass
class Album:
    """Images as data URIs: each encoded once, none after the budget of the page is spent.

    Args:
        thumbnail: path -> JPEG bytes.
        spent: characters used so far.
        refused: pictures left out because the budget was spent.
    """

    thumbnail: Thumbnail | None
    spent: int = 0
    refused: int = 0
    known: dict[str, str | None] = field(default_factory=dict)

    def uri(self, path: str) -> str | None:
        """`data:image/jpeg;base64,...` of the thumbnail of a path, or None."""
        if path not in self.known:
            self.known[path] = self._make(path)
        return self._within(self.known[path])

    def picture(self, content: bytes | None) -> str | None:
        """A data URI of JPEG or PNG bytes, or None."""
        return self._within(None if content is None else _uri(content))

    def _make(self, path: str) -> str | None:
        if self.thumbnail is None:
            return None
        if self.spent >= BYTES:
            self.refused += 1
            return None
        jpeg = self.thumbnail(path)
        return None if jpeg is None else _uri(jpeg)

    def _within(self, uri: str | None) -> str | None:
        """The URI where the budget has room for it; counted at every use, since the page repeats the bytes."""
        if uri is None or self.spent + len(uri) > BYTES:
            self.refused += uri is not None
            return None
        self.spent += len(uri)
        return uri


def _uri(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Alike:
    """A training image beside a card: its class, its similarity (-1..1), its data URI or None."""

    path: str
    label: str
    similarity: float
    image: str | None


@dataclass(frozen=True)
class Card:
    """One image in a gallery.

    Args:
        path: as in the predictions.
        truth: name of its class, "" where it has none.
        predicted: name of the predicted class.
        probability: of the predicted class; for several labels, that of the wrong label of highest confidence, or the
            lowest confidence where all are correct.
        of_truth: probability of the true class, or answer.
        image: data URI, or None.
        unfamiliarity: above 1 is unlike anything in training; None where it was not measured.
        overlay: data URI of the evidence for the predicted class, or None.
        alike: the training images most like it.
        note: shown in place of the probability; "" to show the probability.
    """

    path: str
    truth: str
    predicted: str
    probability: float
    of_truth: float
    image: str | None
    unfamiliarity: float | None = None
    overlay: str | None = None
    alike: tuple[Alike, ...] = ()
    note: str = ""


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
    """The chosen images, and how many there were to choose from.

    Args:
        worst: errors, highest confidence first; `errors` of them in all.
        least_sure: smallest margin between the two best classes first.
        abstained: below the threshold, highest confidence first; `held_back` of them in all.
        unfamiliar: unlike anything in training, farthest first; `strange` of them in all.
        cells: of the confusion matrix.
        looks: class -> a few of its images, as data URIs.
    """

    worst: tuple[Card, ...] = ()
    errors: int = 0
    least_sure: tuple[Card, ...] = ()
    abstained: tuple[Card, ...] = ()
    held_back: int = 0
    unfamiliar: tuple[Card, ...] = ()
    strange: int = 0
    cells: tuple[Cell, ...] = ()
    looks: Mapping[str, Sequence[str]] = field(default_factory=dict)


def galleries(page: Page, result: SplitResult | None, album: Album, dealer_of: type["Dealer"]) -> Galleries:
    """Choose the images of the split of `result`; empty galleries where there is nothing to choose from."""
    if page.predictions is None:
        return Galleries()
    looks = _looks(page.predictions, album)
    if result is None:
        return Galleries(looks=looks)
    code = SPLITS.index(result.split) if result.split in SPLITS else -1
    rows = page.predictions.select(np.flatnonzero((page.predictions.splits == code) & page.predictions.labelled))
    if not len(rows) or not np.isfinite(rows.logits).all():
        return Galleries(looks=looks)
    dealer = dealer_of(rows, album)
    worst = dealer.cards(dealer.errors[:WORST])
    return Galleries(
        worst=_explained(worst, album, page.overlays, page.neighbours),
        errors=len(dealer.errors),
        least_sure=dealer.cards(dealer.by_margin[:OTHERS]) if rows.logits.shape[1] > 1 else (),
        abstained=dealer.cards(dealer.abstained[:OTHERS]),
        held_back=len(dealer.abstained),
        unfamiliar=dealer.cards(dealer.unfamiliar[:OTHERS]),
        strange=len(dealer.unfamiliar),
        cells=tuple(dealer.cells()),
        looks=looks,
    )


def _looks(predictions: Predictions, album: Album) -> dict[str, list[str]]:
    """A few images of each class, the first by hash of their content; training images where there are any."""
    if len(predictions.classes) > CLASSES:
        return {}
    code = SPLITS.index("train")
    inside = predictions.splits == code if (predictions.splits == code).any() else predictions.labelled
    order = sorted(np.flatnonzero(inside).tolist(), key=lambda i: (predictions.sha256[i], predictions.paths[i]))
    looks = {}
    for label, name in enumerate(predictions.classes):
        own = predictions.of_class(label)
        chosen = [i for i in order if own[i]][:PER_CLASS]
        looks[name] = [uri for i in chosen if (uri := album.uri(predictions.paths[i]))]
    return looks if any(looks.values()) else {}


def _explained(
    cards: tuple[Card, ...], album: Album, overlays: Overlays | None, neighbours: Neighbours | None
) -> tuple[Card, ...]:
    """The cards with the evidence for the predicted class and the nearest training images."""
    paths = [card.path for card in cards]
    looked = overlays(paths) if overlays and paths else {}
    known = neighbours(paths) if neighbours and paths else {}
    return tuple(
        replace(
            card,
            overlay=album.picture(looked.get(card.path)),
            alike=tuple(
                Alike(near.path, near.label, near.similarity, album.uri(near.path))
                for near in known.get(card.path, ())[:NEIGHBOURS]
            ),
        )
        for card in cards
    )


def _odds(chances: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 (3, n): probability of the predicted class, of the true one, and the highest of all but the predicted one."""
    everyone = np.arange(len(chances))
    best, of_truth = chances[everyone, predicted], chances[everyone, labels]
    chances[everyone, predicted] = -1  # the array is not shared; its maximum is now that of the other classes
    return np.stack([best, of_truth, chances.max(axis=1)])


class Dealer:
    """The images of one split, sorted in the ways galleries need."""

    def __init__(self, rows: Predictions, album: Album) -> None:
        self.rows, self.album = rows, album
        self.predicted = rows.predicted
        parts = [_odds(chances, self.predicted[some], rows.labels[some]) for some, chances in rows.in_turn()]
        self.best, self.of_truth, second = np.concatenate(parts, axis=1)
        wrong = np.flatnonzero(self.predicted != rows.labels)
        self.errors = wrong[np.argsort(-self.best[wrong], kind="stable")]
        self.by_margin = np.argsort(self.best - second, kind="stable")

    @property
    def abstained(self) -> np.ndarray:
        """Rows below the threshold, the highest confidence first."""
        held = self.rows.abstained
        below = np.flatnonzero(held) if held is not None else np.empty(0, np.int64)
        return below[np.argsort(-self.best[below], kind="stable")]

    @property
    def unfamiliar(self) -> np.ndarray:
        """Unfamiliar rows, the farthest first."""
        far = self.rows.unfamiliarity
        if far is None:
            return np.empty(0, np.int64)
        beyond = np.flatnonzero(far > 1)
        return beyond[np.argsort(-far[beyond], kind="stable")]

    def cards(self, indices: Iterable[int]) -> tuple[Card, ...]:
        """The cards of these rows."""
        return tuple(map(self._card, indices))

    def truth_name(self, i: int) -> str:
        """The ground truth of a row, as text."""
        return self.rows.label_name(i)

    def predicted_name(self, i: int) -> str:
        """The prediction for a row, as text."""
        return self.rows.predicted_name(i)

    def _card(self, i: int) -> Card:
        far = self.rows.unfamiliarity
        return Card(
            path=self.rows.paths[i],
            truth=self.truth_name(i),
            predicted=self.predicted_name(i),
            probability=float(self.best[i]),
            of_truth=float(self.of_truth[i]),
            image=self.album.uri(self.rows.paths[i]),
            unfamiliarity=None if far is None or np.isnan(far[i]) else float(far[i]),
        )

    def cells(self) -> Iterable[Cell]:
        """The off-diagonal cells with most images, errors of the highest confidence first."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i in self.errors:
            groups.setdefault((int(self.rows.labels[i]), int(self.predicted[i])), []).append(int(i))
        fullest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        for (row, column), members in fullest[:CELLS]:
            names = self.rows.classes[row], self.rows.classes[column]
            yield Cell(row, column, *names, len(members), self.cards(members[:PER_CELL]))


class LabelDealer(Dealer):
    """The same for several labels per image: an image with any wrong label is an error."""

    def __init__(self, rows: Predictions, album: Album) -> None:
        self.rows, self.album = rows, album
        given, truth, chances = rows.task.decide(rows.logits), rows.truth == 1, rows.probabilities
        sure, wrong = np.where(given, chances, 1 - chances), given != truth
        surest, least, mistaken = np.where(wrong, sure, -1.0).max(axis=1), sure.min(axis=1), wrong.any(axis=1)
        self.best = np.where(mistaken, surest, least)
        self.of_truth = np.where(mistaken, 1 - surest, least)
        errors = np.flatnonzero(mistaken)
        self.errors = errors[np.argsort(-surest[errors], kind="stable")]
        self.by_margin = np.argsort(least, kind="stable")

    def truth_name(self, i: int) -> str:
        """Its true labels, separated by commas."""
        return super().truth_name(i).strip(SEPARATOR).replace(SEPARATOR, ", ") or "no label"

    def predicted_name(self, i: int) -> str:
        """Its predicted labels."""
        return super().predicted_name(i).strip(SEPARATOR).replace(SEPARATOR, ", ") or "no label"

    def cells(self) -> Iterable[Cell]:
        """There is no confusion matrix."""
        return ()


class NumberDealer(Dealer):
    """The same for numbers: every image counts as an error, the largest first, in standard deviations of the truth."""

    def __init__(self, rows: Predictions, album: Album) -> None:
        self.rows, self.album = rows, album
        self.apart = np.abs(rows.logits - rows.truth)
        self.best = self.of_truth = np.full(len(rows), np.nan)
        unit = np.maximum(rows.truth.std(axis=0), 1e-12)
        self.errors = np.argsort(-(self.apart / unit).max(axis=1), kind="stable")
        self.by_margin = np.empty(0, np.int64)

    def truth_name(self, i: int) -> str:
        """Its true numbers, to four digits."""
        return self._written(self.rows.truth[i])

    def predicted_name(self, i: int) -> str:
        """Its predicted numbers."""
        return self._written(self.rows.logits[i])

    def _card(self, i: int) -> Card:
        return replace(super()._card(i), note=f"off by {self._written(self.apart[i])}")

    def _written(self, numbers: np.ndarray) -> str:
        return ", ".join(f"{number:.4g}" for number in numbers)

    def cells(self) -> Iterable[Cell]:
        """There is no confusion matrix."""
        return ()


# -- The findings of an audit as a page shows them: a few cases of each, with their images side by side ---

GROUPS = {"serious": 6, "warning": 4, "note": 3}  # cases of a finding that are shown
SIDE_BY_SIDE = 4  # images of one case
MISLABELLED = 12  # images in the gallery of doubtful labels
SEVERITY_WORDS = {"serious": "Serious", "warning": "Warning", "note": "Note"}


@dataclass(frozen=True)
class ShownImage:
    """One image of a case; `image` is a data URI or None."""

    path: str
    label: str
    split: str
    image: str | None


@dataclass(frozen=True)
class Case:
    """Images that belong side by side, `more` of them not shown."""

    images: tuple[ShownImage, ...]
    caption: str
    suggested: str
    more: int

    @property
    def paired(self) -> bool:
        """Whether there is something to compare."""
        return len(self.images) > 1


@dataclass(frozen=True)
class ShownFinding:
    """A finding with the cases that are shown, `more` of them not; `doubtful` where it is about labels."""

    finding: Finding
    severity: str
    cases: tuple[Case, ...]
    more: int
    doubtful: bool


def evidence(audit: AuditResult | None, album: Album, times: int = 1) -> tuple[ShownFinding, ...]:
    """Every finding, serious ones first, with a few of its cases, or `times` as many."""
    findings = audit.findings if audit else ()
    return tuple(
        _evidence(found, album, times) for severity in SEVERITIES for found in findings if found.severity == severity
    )


def _evidence(finding: Finding, album: Album, times: int) -> ShownFinding:
    doubtful = any(group.suggested for group in finding.groups)
    shown = finding.groups[: times * (MISLABELLED if doubtful else GROUPS[finding.severity])]
    return ShownFinding(
        finding=finding,
        severity=SEVERITY_WORDS[finding.severity],
        cases=tuple(_case(group, album) for group in shown),
        more=len(finding.groups) - len(shown),
        doubtful=doubtful,
    )


def _case(group: ImageGroup, album: Album) -> Case:
    splits = group.splits or ("",) * len(group.paths)
    images = [
        ShownImage(path, label, split, album.uri(path))
        for path, label, split in list(zip(group.paths, group.labels, splits, strict=True))[:SIDE_BY_SIDE]
    ]
    return Case(tuple(images), group.caption, group.suggested, len(group.paths) - len(images))
