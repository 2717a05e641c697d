"""Labels: classes that are tiny, unequal or missing, classes that are likely wrong, and numbers that are.

Wrong classes are found by confident learning on out-of-fold probabilities (Northcutt, Jiang and Chuang 2021), wrong
numbers by their distance from the out-of-fold prediction of ridge regression.
"""

import warnings
from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import LEAST_IMAGES, Evidence, counted, named, share
from tlkit.auditing.findings import Finding
from tlkit.base.story import percent
from tlkit.data.dataset import SPLITS
from tlkit.data.folds import deals
from tlkit.ranking.ridge import out_of_fold, spectrum
from tlkit.tasks.number import NUMBER

# -- how many images each class has, and in which split --------------------------------------------

TINY = 10  # images of a class: fewer can neither be learned nor measured
UNEQUAL, VERY_UNEQUAL = 3.0, 10.0  # times as many images in the largest class as in the smallest


def check_sizes(evidence: Evidence) -> Iterator[Finding]:
    """Tiny classes, classes of unequal size, classes that a split lacks."""
    dataset = evidence.dataset
    counts = dataset.class_counts()
    sizes = dict(zip(dataset.classes, counts.tolist(), strict=True))
    tiny = [name for name, count in sizes.items() if count < TINY]
    if tiny:
        yield Finding(
            check="classes",
            severity="warning",
            sentence=f"{counted(len(tiny), 'class has', 'classes have')} fewer than {TINY} images: {named(tiny)}.",
            remedy="Collect more images of them, or merge or remove them: so few are not enough to train or to test on.",
            facts={"tiny": {name: sizes[name] for name in tiny}},
        )
    if dataset.task.can("balance"):
        yield from _unequal(evidence, counts, sizes)
    yield from _lacking(evidence)


def _unequal(evidence: Evidence, counts: np.ndarray, sizes: dict[str, int]) -> Iterator[Finding]:
    dataset, least, most = evidence.dataset, int(counts.min()), int(counts.max())
    if most >= UNEQUAL * max(least, 1):
        small, large = dataset.classes[int(counts.argmin())], dataset.classes[int(counts.argmax())]
        yield Finding(
            check="classes",
            severity="warning" if most >= VERY_UNEQUAL * max(least, 1) else "note",
            sentence=(
                f"Classes are of unequal size: {large!r} has {most:,} images and {small!r} {least:,}; "
                f"always predicting {large!r} has an accuracy of {percent(most / max(counts.sum(), 1))}."
            ),
            remedy="Read balanced accuracy and macro F1 instead of accuracy, and weight rare classes more in training.",
            command=evidence.finetune("--balance", "auto"),
            facts={"counts": sizes},
        )


def _lacking(evidence: Evidence) -> Iterator[Finding]:
    dataset = evidence.dataset
    for code, split in enumerate(SPLITS):
        rows = (evidence.codes == code) & dataset.labelled
        lacking = [dataset.classes[label] for label in np.flatnonzero(dataset.class_counts(rows) == 0)]
        if rows.any() and lacking:
            yield Finding(
                check="classes",
                severity="warning",
                sentence=f"{split} has no image of {counted(len(lacking), 'class', 'classes')}: {named(lacking)}.",
                remedy="Add images of them to it, or let tlkit draw the split, which gives every class its share.",
                facts={"split": split, "lacking": lacking},
            )


# -- classes that are likely wrong -----------------------------------------------------------------

MANY = 0.1  # of the images: so many doubts say more about the probe than about the labels or numbers
SURE = 0.5  # probability of another class from which a label is called doubtful
ABLE = 0.85  # accuracy from which the probe's doubts are mostly right


def check_classes(evidence: Evidence) -> Iterator[Finding]:
    """The labels of the lowest out-of-fold probability, with the predicted class."""
    probe, rows = evidence.probe, evidence.labelled
    quality = label_quality(evidence)
    doubtful = _doubtful(evidence, quality)
    if not len(doubtful):
        return
    names = evidence.dataset.classes
    asked = np.flatnonzero(probe.judged)
    accuracy = float((probe.predicted == evidence.dataset.labels[rows])[asked].mean())
    best = probe.probabilities.max(axis=1)
    shown = doubtful[: max(1, int(MANY * len(asked)))]
    more = f", the {len(shown):,} most doubtful of {len(doubtful):,}" if len(shown) < len(doubtful) else ""
    yield Finding(
        check="labels",
        severity="warning",
        sentence=(
            f"{counted(len(shown), 'label is', 'labels are')} {'likely wrong' if accuracy >= ABLE else 'doubtful'} "
            f"({share(len(shown), len(asked))} of the images{more}), by a probe that agrees with {percent(accuracy)} of all labels"
            f"{_unjudged(evidence)}."
        ),
        remedy=(
            "Review them from the top: the first are the most likely to be wrong; correct the file of fixes and apply it."
            if accuracy >= ABLE
            else "Review them from the top: this probe also doubts many correct labels; an ImageNet backbone of more parameters "
            "(--backbone) doubts fewer."
        ),
        command=evidence.audit_into_fixes(),
        groups=tuple(
            evidence.group(
                [rows[at]],
                f"probability of its label {quality[at]:.2f}, of the suggested one {best[at]:.2f}",
                suggested=names[probe.predicted[at]],
                score=1 - quality[at],
            )
            for at in shown
        ),
        facts={"doubtful": len(doubtful), "accuracy": accuracy},
    )


def label_quality(evidence: Evidence) -> np.ndarray:
    """float64 (n,), 0..1: out-of-fold probability of the given label of each labelled image; low is doubtful.

    NaN where the models that did not see the image have not seen its class either: they cannot judge it.
    """
    probe = evidence.probe
    quality = probe.probabilities[np.arange(len(probe.targets)), probe.targets]
    return np.where(probe.judged, quality, np.nan)


def _unjudged(evidence: Evidence) -> str:
    """Which classes were not judged, as the end of a sentence."""
    probe = evidence.probe
    codes = probe.classes[np.unique(probe.targets[~probe.judged])].tolist()
    what = named([evidence.dataset.classes[code] for code in codes])
    return (
        f"; labels of {what} are not judged, as all their images belong together (copies, one group)" if codes else ""
    )


def _doubtful(evidence: Evidence, quality: np.ndarray) -> np.ndarray:
    """Positions that confident learning counts as wrong and the probe is sure of, worst first."""
    from cleanlab.filter import find_label_issues

    probe = evidence.probe
    asked = np.flatnonzero(probe.judged)
    targets, chances = probe.targets[asked], probe.probabilities[asked]
    if len(np.unique(targets)) < 2:
        return asked[:0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab reports rounding of probabilities, tiny and missing classes
        issues = find_label_issues(targets, chances, filter_by="low_self_confidence", n_jobs=1)
    found = asked[issues & (chances.max(axis=1) >= SURE) & (chances.argmax(axis=1) != targets)]
    return found[np.argsort(quality[found], kind="stable")]


# -- numbers that are likely wrong -----------------------------------------------------------------

FOLDS = 5
FAR = 5.0  # robust standard deviations of the residuals; a normal one exceeds it once in two million
WINSORISED = 4.0  # robust standard deviations from the median at which numbers are clipped before the fit
ROBUST = 1.4826  # times the median absolute residual: the standard deviation of normal ones
LEAST_SKILL = 0.2  # least reduction of the median error of always predicting the median; below, residuals are what the regression misses


def numbers_lack(evidence: Evidence) -> str:
    """Why the numbers cannot be judged, "" where they can."""
    known = int(evidence.dataset.labelled.sum())
    return f"needs {LEAST_IMAGES} images with numbers" if known < LEAST_IMAGES else ""


def check_numbers(evidence: Evidence) -> Iterator[Finding]:
    """Images whose number lies more than `FAR` robust standard deviations from the prediction, the farthest first."""
    dataset = evidence.dataset
    rows = np.flatnonzero(dataset.labelled)
    truth, units = dataset.truth[rows], np.unique(evidence.units[rows], return_inverse=True)[1].ravel()
    if len(np.unique(units)) < FOLDS:
        return
    (folds,) = deals(truth, units, folds=FOLDS, repeats=1, seed=evidence.seed)
    middle = np.median(truth, axis=0)
    spread = np.median(np.abs(truth - middle), axis=0)
    reach = WINSORISED * ROBUST * spread
    learned = np.clip(
        truth, middle - reach, middle + reach
    )  # a wrong number far off would pull the regression towards itself
    said = NUMBER.of_ridge(out_of_fold(spectrum(evidence.features[rows]), learned, folds))
    residual = np.abs(said - truth)
    usual = np.median(residual, axis=0)
    skill = 1 - usual / np.maximum(spread, 1e-300)
    far = residual / np.maximum(ROBUST * usual, 1e-12)
    far[:, skill < LEAST_SKILL] = 0.0
    worst = far.max(axis=1)
    found = np.flatnonzero(worst > FAR)
    found = found[np.argsort(-worst[found], kind="stable")][: max(1, int(MANY * len(rows)))]
    if not len(found):
        return
    yield Finding(
        check="labels",
        severity="warning",
        sentence=(
            f"{counted(len(found), 'number is', 'numbers are')} likely wrong ({share(len(found), len(rows))} of the images): "
            f"more than {FAR:g} robust standard deviations from the prediction of a ridge regression that has not seen the image "
            f"(its median error is {100 * float(1 - skill.max()):.0f} % of that of always answering the median)."
        ),
        remedy="Review them from the top; correct the file of fixes and apply it. A rare kind of image is not an error.",
        command=evidence.audit_into_fixes(),
        groups=tuple(
            evidence.group(
                [rows[at]],
                f"predicted {NUMBER.called(said[at], ())}, {worst[at]:.1f} deviations away",
                suggested=NUMBER.called(said[at], ()),
                score=worst[at],
            )
            for at in found
        ),
        facts={"doubtful": len(found), "skill": skill.tolist()},
    )
