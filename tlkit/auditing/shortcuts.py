"""Shortcuts: whether the class can be predicted without looking at the object.

A small decision tree is given facts about the picture and nothing of what is in it, and tested on images
that it was not fitted on. Two kinds of columns are judged separately. How a *file* was made (size in
pixels, format, JPEG quality, camera) should not determine the class: if it does, a model can score
by recognising the source of an image, and will fail on images from elsewhere. How a picture looks *overall*
(mean colour, border, bytes) is often part of what a class is: that is only worth knowing.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tlkit.auditing.evidence import Evidence, named
from tlkit.auditing.findings import Finding
from tlkit.base.story import percent
from tlkit.data.folds import FOLDS, in_turn
from tlkit.data.look import Looks

SAMPLE = 20_000
LEAVES = 16
TELLS = 0.8  # area under the ROC curve from which one column gives a class away
GAIN = 0.1  # accuracy above always answering the largest class ...
CERTAIN = 4.0  # ... and in standard errors of it
_MOST_KINDS = 30  # distinct values of a column of names; rarer ones count as one


class ColumnSet(NamedTuple):
    """A set of columns that is judged as one.

    Args:
        severity: of a finding.
        what: names them in the sentence.
        remedy: what to do.
        columns: name as shown -> values, float (N,), NaN where there is none, from facts and sizes in bytes.
    """

    severity: str
    what: str
    remedy: str
    columns: dict[str, Callable[[Looks, np.ndarray], np.ndarray]]


KINDS = (
    ColumnSet(
        "serious",
        "from how the files were made",
        "Make every class the same way: same source, same size, same format and quality (for instance convert all); "
        "otherwise the results hold for images from these sources alone.",
        {
            "width": lambda looks, _: looks.width.astype(float),
            "height": lambda looks, _: looks.height.astype(float),
            "aspect": lambda looks, _: looks.aspect,
            "format": lambda looks, _: _numbered(looks.format),
            "mode": lambda looks, _: _numbered(looks.mode),
            "JPEG quality": lambda looks, _: looks.quality.astype(float),
            "camera": lambda looks, _: _numbered(looks.camera),
            "EXIF orientation": lambda looks, _: looks.orientation.astype(float),
        },
    ),
    ColumnSet(
        "note",
        "from mean colour, border and bytes",
        "Check whether this belongs to the classes (flowers have colours) or to how they were photographed "
        "(a background for each class); if the latter, vary it.",
        {
            "file size": lambda looks, sizes: sizes.astype(float),
            "mean red": lambda looks, _: looks.colour[:, 0],
            "mean green": lambda looks, _: looks.colour[:, 1],
            "mean blue": lambda looks, _: looks.colour[:, 2],
            "border red": lambda looks, _: looks.border[:, 0],
            "border green": lambda looks, _: looks.border[:, 1],
            "border blue": lambda looks, _: looks.border[:, 2],
            "evenness of the outermost pixels": lambda looks, _: looks.frame,
        },
    ),
)


def check(evidence: Evidence) -> Iterator[Finding]:
    """One finding for each set of columns that predicts the class."""
    rows = evidence.labelled
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(evidence.seed).choice(rows, SAMPLE, replace=False))
    looks, sizes = evidence.looks.select(rows), evidence.dataset.sizes[rows]
    classes, labels = np.unique(evidence.dataset.labels[rows], return_inverse=True)
    fold = in_turn(labels, evidence.units[rows], evidence.seed)
    names = [evidence.dataset.classes[label] for label in classes]
    for kind in KINDS:
        columns = {name: values(looks, sizes) for name, values in kind.columns.items()}
        predictable = Predictability.by(columns, labels, fold)
        if predictable is not None and predictable.is_much:
            yield _finding(kind, predictable, names)


class Predictability(NamedTuple):
    """How well columns predict the class, out of fold.

    Args:
        accuracy: of a tree on all columns.
        majority: of always answering the largest class.
        error: standard error of the accuracy under the majority.
        areas: column -> area under the ROC curve of each class, from that column alone.
        whole: the same from all columns together.
        errors: standard error of those areas under independence of columns and class.
    """

    accuracy: float
    majority: float
    error: float
    areas: dict[str, np.ndarray]
    whole: np.ndarray
    errors: np.ndarray

    @classmethod
    def by(cls, columns: dict[str, np.ndarray], labels: np.ndarray, fold: np.ndarray) -> "Predictability | None":
        """Fit and predict; None where no column varies."""
        varied = {
            name: values
            for name, values in columns.items()
            if len(np.unique(values[~np.isnan(values)])) > 1 or 0 < np.isnan(values).sum() < len(values)
        }
        if not varied:
            return None
        probabilities = _out_of_fold(np.stack(list(varied.values()), axis=1), labels, fold)
        majority = np.bincount(labels).max() / len(labels)
        return cls(
            accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
            majority=float(majority),
            error=float(np.sqrt(majority * (1 - majority) / len(labels))),
            areas={
                name: _areas(_out_of_fold(values[:, None], labels, fold), labels) for name, values in varied.items()
            },
            whole=_areas(probabilities, labels),
            errors=_errors(labels),
        )

    @property
    def is_much(self) -> bool:
        """Whether a class is predictable, or many images are."""
        gain = self.accuracy - self.majority
        return bool(self.given_away.any()) or gain > max(GAIN, CERTAIN * self.error)

    @property
    def given_away(self) -> np.ndarray:
        """Bool (K,): classes that the columns predict better than chance does for so few images."""
        return (self.whole >= TELLS) & (self.whole - 0.5 > CERTAIN * self.errors)

    def predictive(self) -> list[str]:
        """The columns that predict most by themselves, the strongest first."""
        best = {name: float(areas.max()) for name, areas in self.areas.items()}
        strongest = max(best.values())
        return [name for name in sorted(best, key=lambda name: -best[name]) if best[name] >= strongest - 0.1][:4]


def _finding(kind: ColumnSet, predictable: Predictability, names: list[str]) -> Finding:
    predictive = predictable.predictive()
    away = [names[label] for label in np.argsort(-predictable.whole, kind="stable") if predictable.given_away[label]]
    who = f"; {named(away)} {'is' if len(away) == 1 else 'are'} given away" if away else ""
    return Finding(
        check="shortcuts",
        severity=kind.severity,
        sentence=(
            f"The class can be predicted {kind.what}, without looking at the object: accuracy {percent(predictable.accuracy)}, where "
            f"always predicting the largest class gives {percent(predictable.majority)}; mostly from {', '.join(predictive)}{who}."
        ),
        remedy=kind.remedy,
        facts={
            "accuracy": predictable.accuracy,
            "majority": predictable.majority,
            "columns": predictive,
            "areas": {name: dict(zip(names, areas, strict=True)) for name, areas in predictable.areas.items()},
            "given_away": away,
        },
    )


def _out_of_fold(columns: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """float64 (n, K) probabilities of a small tree for images that it was not fitted on."""
    from sklearn.tree import DecisionTreeClassifier

    least = max(5, len(labels) // 200)
    probabilities = np.zeros((len(labels), labels.max() + 1))
    for number in range(FOLDS):
        held = fold == number
        if not held.any() or held.all():
            continue
        tree = DecisionTreeClassifier(max_leaf_nodes=LEAVES, min_samples_leaf=least, random_state=0)
        tree.fit(columns[~held], labels[~held])
        probabilities[np.ix_(held, tree.classes_)] = tree.predict_proba(columns[held])
    return probabilities


def _areas(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, 0..1; by ranks (Mann and Whitney 1947)."""
    from scipy.stats import rankdata

    ranks = rankdata(probabilities, axis=0)
    own = labels[:, None] == np.arange(probabilities.shape[1])
    n = own.sum(axis=0)
    return ((ranks * own).sum(axis=0) - n * (n + 1) / 2) / np.maximum(n * (len(labels) - n), 1)


def _errors(labels: np.ndarray) -> np.ndarray:
    """Standard error of each class's area under independence of columns and classes."""
    own = np.bincount(labels).astype(float)
    other = len(labels) - own
    return np.sqrt((own + other + 1) / (12 * np.maximum(own * other, 1)))


def _numbered(values: np.ndarray) -> np.ndarray:
    """Names as numbers, the frequent ones first; rare ones share a number."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts))
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.minimum(rank, _MOST_KINDS)[inverse.ravel()]
