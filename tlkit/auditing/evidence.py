"""The input of the checks: images, features and file facts, and what is computed from them once, such as the probe."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.auditing.duplicates import Neighbours, connected, exact_duplicates, near_pairs, nearest
from tlkit.auditing.findings import ImageGroup
from tlkit.base.story import Heard, Silence, Story, percent, unheard
from tlkit.classifier.answers import too_many
from tlkit.classifier.familiarity import unit
from tlkit.data.dataset import SPLITS, Dataset
from tlkit.data.folds import FOLDS, in_turn
from tlkit.data.look import Looks
from tlkit.options import advice
from tlkit.options.option import Options

LEAST_IMAGES = 40  # labelled ones; nothing learned from fewer is meaningful

# -- the probe: out-of-fold predictions of classifiers of the features -----------------------------
#
# Two logistic regressions, averaged: one on principal components, one on a Gaussian kernel of them (Nyström
# approximation, Williams and Seeger 2001). They err on different images, so that together they find more wrong
# labels than either alone, and both take a second on thousands of images.

AXES = 256  # principal components: the rest costs time and adds noise
LANDMARKS = 500  # images that the kernel compares with
WIDTH = 1.0  # of the Gaussian: exp(-WIDTH * distance²) of components at length 1
TOLERANCE, ITERATIONS = 1e-3, 60  # an approximate solution is good enough here
# Inverse penalties; strong ones, since a classifier that fits wrong labels cannot find them.
_LINEAR, _CURVED = 0.1, 10.0
_UNKNOWN = -30.0  # logit of a class that a fold does not know
Lens = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Side:
    """One of the classifiers, fitted once for each fold.

    Args:
        lens: maps features float32 (m, C) to its inputs float32 (m, d).
        kernels: float32 (folds, d, K).
        biases: float32 (folds, K).
    """

    lens: Lens
    kernels: np.ndarray
    biases: np.ndarray

    def ask(self, seen: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """float64 (m, K) probabilities of `seen` (m, d), by the model that left out `fold` (m,)."""
        from scipy.special import softmax

        logits = np.empty((len(seen), self.biases.shape[1]))
        for number in np.unique(fold):
            rows = fold == number
            logits[rows] = seen[rows] @ self.kernels[number] + self.biases[number]
        return softmax(logits, axis=1)


@dataclass(frozen=True)
class HeldOutProbe:
    """Classifiers cross-validated on five folds.

    Args:
        classes: int64 (K,), the labels it knows, ascending.
        fold: int64 (n,), the fold of each image; the models of that fold never saw it.
        sides: the classifiers.
        probabilities: float64 (n, K), out of fold.
        targets: int64 (n,), place of each image's label in `classes`.
    """

    classes: np.ndarray
    fold: np.ndarray
    sides: tuple[Side, ...]
    probabilities: np.ndarray
    targets: np.ndarray

    def ask(self, features: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """float64 (m, K): probabilities of other views of images, by models that never saw the image.

        Args:
            features: float32 (m, C).
            positions: int (m,), which of the images each one is a view of.
        """
        return np.mean([side.ask(side.lens(features), self.fold[positions]) for side in self.sides], axis=0)

    @cached_property
    def judged(self) -> np.ndarray:
        """Bool (n,): images whose class the models of their fold have seen; the others cannot be judged.

        A class that is one unit (copies of one picture, one clip) is in one fold alone.
        """
        known = self.sides[0].biases > _UNKNOWN
        return known[self.fold, self.targets]

    @property
    def predicted(self) -> np.ndarray:
        """int64 (n,), most probable label of each image, out of fold."""
        return self.classes[self.probabilities.argmax(axis=1)]


def fit_probe(features: np.ndarray, labels: np.ndarray, units: np.ndarray, seed: int = 0) -> HeldOutProbe:
    """Fit, and predict out of fold.

    Args:
        features: float32 (n, C).
        labels: int (n,).
        units: int (n,); images of one unit share a fold.
        seed: of the folds and landmarks.
    """
    classes, targets = np.unique(labels, return_inverse=True)
    fold = in_turn(targets, units, seed)
    with threadpool_limits(1):  # on products this small, threads of BLAS wait for each other longer than they work
        linear = _components(features)
        curved = _compared(linear, features, seed)
        sides = tuple(
            _fitted(lens, features, targets, fold, strength)
            for lens, strength in ((linear, _LINEAR), (curved, _CURVED))
        )
        probe = HeldOutProbe(classes, fold, sides, np.empty(0), targets)
        return replace(probe, probabilities=probe.ask(features, np.arange(len(features))))


def _components(features: np.ndarray) -> Lens:
    """Standardised signed roots of the features on their leading principal components, the first at variance 1.

    Averages of rectified activations have long tails, which the signed root shortens.
    """
    features = _root(features)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    weights = 1 / np.where(deviation > 1e-6 * (np.abs(mean) + 1e-6), deviation, np.inf)
    standard = (features - mean) * weights
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    count = min(AXES, *standard.shape)
    leading = vectors[:, ::-1][:, :count] / np.sqrt(max(values[-1], 1e-12))
    axes = (weights[:, None] * leading).astype(np.float32)
    offset = (mean @ axes).astype(np.float32)
    return lambda found: _root(found) @ axes - offset


def _root(features: np.ndarray) -> np.ndarray:
    return np.sign(features) * np.sqrt(np.abs(features))


def _compared(linear: Lens, features: np.ndarray, seed: int) -> Lens:
    """Features whose products are a Gaussian kernel of the components' directions."""
    count = min(LANDMARKS, max(2, len(features) // 2))
    chosen = np.random.default_rng(seed).choice(len(features), count, replace=False)
    landmarks = _direction(linear(features[chosen]))
    values, vectors = np.linalg.eigh(_gaussian(landmarks, landmarks) + 1e-6 * np.eye(count))
    whitening = (vectors / np.sqrt(np.maximum(values, 1e-6))).astype(np.float32)
    return lambda found: _gaussian(_direction(linear(found)), landmarks) @ whitening


def _direction(points: np.ndarray) -> np.ndarray:
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)


def _gaussian(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float32 (n, m), of points at length 1."""
    return np.exp(-WIDTH * (2 - 2 * (left @ right.T)))


def _fitted(lens: Lens, features: np.ndarray, targets: np.ndarray, fold: np.ndarray, strength: float) -> Side:
    seen = lens(features)
    kernels = np.zeros((FOLDS, seen.shape[1], targets.max() + 1), np.float32)
    biases = np.full((FOLDS, targets.max() + 1), _UNKNOWN, np.float32)
    for number in np.unique(fold):
        rows = fold != number
        known, kernel, bias = _solve(seen[rows], targets[rows], strength)
        kernels[number][:, known], biases[number][known] = kernel, bias
    return Side(lens, kernels, biases)


def _solve(points: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels known, kernel (d, k) and bias (k,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(targets)
    if len(known) < 2:
        return known, np.zeros((points.shape[1], len(known))), np.zeros(len(known))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        solved = LogisticRegression(C=strength, max_iter=ITERATIONS, tol=TOLERANCE).fit(points, targets)
    if len(known) == 2:  # one row in scikit-learn
        return known, solved.coef_.T * [-0.5, 0.5], solved.intercept_ * [-0.5, 0.5]
    return known, solved.coef_.T, solved.intercept_


# -- the input of one audit ------------------------------------------------------------------------


@dataclass(frozen=True)
class Mirrored:
    """Features of the mirror images of some images.

    Args:
        rows: int64 (n,), which images.
        features: float32 (n, C), of their mirror images, as in the evidence.
    """

    rows: np.ndarray
    features: np.ndarray


@dataclass
class Evidence:
    """The input of one audit; derived values are computed on first use.

    Args:
        dataset: N images that can be decoded; those that cannot are in `set_aside`.
        codes: int8 (N,), index into `SPLITS`, -1 for none.
        features: float32 (N, C), pooled output of a backbone.
        looks: facts of the N files.
        images: what the user typed for the images, for commands.
        asked: the options of the audit, or of the run that it is part of; commands repeat them.
        given: whether the split was given by folders or a table, and not drawn.
        grouped: whether groups were already named (`--group-by`, or a column).
        mirrored: features of some mirror images, None where they were not computed.
        grouped_file: path of the table, written beside, that has a group for each picture; "" where there is none.
        seed: of everything random.
        levelled: whether `--levels` maps the sample values.
        story: reports what was left out.
        heard: called with the progress of a long computation, 0..1.
    """

    dataset: Dataset
    codes: np.ndarray
    features: np.ndarray
    looks: Looks
    images: str
    asked: Options | None = None
    given: bool = False
    mirrored: Mirrored | None = None
    grouped_file: str = ""
    seed: int = 0
    levelled: bool = False
    story: Story = field(default_factory=Silence)
    heard: Heard = field(default=unheard, repr=False)
    _splits: tuple[str, ...] = field(default=(*SPLITS, ""), repr=False)

    @cached_property
    def centre(self) -> np.ndarray:
        """float32 (C,), mean feature."""
        return self.features.mean(axis=0)

    @cached_property
    def points(self) -> np.ndarray:
        """float32 (N, C), features at length 1, for cosines."""
        return unit(self.features)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The nearest images of each."""
        return nearest(self.points, heard=lambda part: self.heard(part / 2))

    @cached_property
    def first_copy(self) -> np.ndarray:
        """int64 (N,), the first row with the same bytes as each row."""
        return exact_duplicates(self.dataset.sha256)

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Near-duplicate pairs: left, right, agreement."""
        return near_pairs(self.neighbours, self.looks.small, self.story, lambda part: self.heard(0.5 + part / 2))

    @cached_property
    def pictures(self) -> np.ndarray:
        """int64 (N,), equal for images that show the same picture, exactly or nearly; as `near_duplicates`."""
        left, right, _ = self.pairs
        copies = np.flatnonzero(self.first_copy != np.arange(len(self)))
        return connected(len(self), np.concatenate([left, copies]), np.concatenate([right, self.first_copy[copies]]))

    @cached_property
    def units(self) -> np.ndarray:
        """int64 (N,), equal for images that must not be in two folds: copies, and members of a group."""
        if self.dataset.groups is None:
            return self.pictures
        groups = np.unique(np.array(self.dataset.groups), return_inverse=True)[1].ravel()
        firsts = [np.unique(numbers, return_index=True, return_inverse=True) for numbers in (groups, self.pictures)]
        ends = [first[inverse.ravel()] for _, first, inverse in firsts]
        rows = np.arange(len(self))
        return connected(len(self), np.concatenate([rows, rows]), np.concatenate(ends))

    @cached_property
    def labelled(self) -> np.ndarray:
        """int64 (n,), rows with a label."""
        return np.flatnonzero(self.dataset.labels >= 0)

    @cached_property
    def probe(self) -> HeldOutProbe:
        """The classifiers of the features that predict each image out of fold."""
        rows = self.labelled
        return fit_probe(self.features[rows], self.dataset.labels[rows], self.units[rows], self.seed)

    @property
    def grouped_command(self) -> str:
        """The command that trains on the table keeping copies and bursts together, "" where none is written."""
        return advice.finetune(self.asked, self.grouped_file, own=False) if self.grouped_file else ""

    def finetune(self, *more: str) -> str:
        """The command that trains on the images with the options given and more flags."""
        return advice.finetune(self.asked, self.images, *more)

    def audit_into_fixes(self) -> str:
        """The command that writes proposed fixes, with the network that found the problems."""
        return advice.audit(self.asked, self.images, "--write-fixes", advice.free("fixes.csv"))

    def __len__(self) -> int:
        return len(self.dataset)

    def group(
        self, rows: Iterable[int], caption: str = "", suggested: str = "", score: float | None = None
    ) -> ImageGroup:
        """Some images as part of a finding."""
        rows = [int(row) for row in rows]
        return ImageGroup(
            paths=tuple(self.dataset.paths[row] for row in rows),
            labels=tuple(self.dataset.label_name(row) for row in rows),
            splits=tuple(self._splits[self.codes[row]] for row in rows),
            caption=caption,
            suggested=suggested,
            score=None if score is None else float(score),
        )


def unlearnable(evidence: Evidence) -> str:
    """Why no classifier can be fitted to these labels, "" where one can."""
    if not evidence.dataset.task.can("audit"):
        return evidence.dataset.task.lacks("audit")
    labels = evidence.dataset.labels[evidence.labelled]
    if len(np.unique(labels)) < 2:
        return "needs two classes"
    if len(labels) < LEAST_IMAGES:
        return f"needs {LEAST_IMAGES} labelled images"
    classes = len(evidence.dataset.classes)
    if too_many(len(labels), classes):
        return f"{len(labels):,} images in {classes:,} classes would take more than minutes; audit some of the classes"
    return ""


def named(names: Sequence[str], most: int = 3) -> str:
    """The first names, quoted, and how many more there are."""
    return ", ".join(repr(name) for name in names[:most]) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def share(part: int, whole: int) -> str:
    """`3 %`, with a decimal below ten."""
    of_whole = part / max(whole, 1)
    return percent(of_whole, 0 if of_whole >= 0.1 else 1)
