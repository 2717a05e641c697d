"""Likely wrong numbers: targets far from what ridge regression predicts of an image that it has not seen."""

from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import LEAST_IMAGES, Evidence, counted, share
from tlkit.auditing.findings import Finding
from tlkit.data.folds import deals
from tlkit.ranking.ridge import out_of_fold, spectrum
from tlkit.tasks.number import NUMBER

FOLDS = 5
FAR = 5.0  # robust standard deviations of the residuals; a normal one is there once in two million
WINSORISED = 4.0  # robust standard deviations from the median that numbers are cut at before they are learned from
ROBUST = 1.4826  # times the median absolute residual is the standard deviation of normal ones
MANY = 0.1  # of the images: so many doubts say more about the probe than about the numbers
LEAST_SKILL = (
    0.2  # by how much the median error is below that of the median; below, residuals are about what it cannot see
)


def lacks(evidence: Evidence) -> str:
    """Why the numbers cannot be judged, "" where they can."""
    known = int(evidence.dataset.labelled.sum())
    return f"needs {LEAST_IMAGES} images with numbers" if known < LEAST_IMAGES else ""


def check(evidence: Evidence) -> Iterator[Finding]:
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
    )  # a wrong number far off would bend the regression to itself
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
            f"farther than {FAR:g} robust standard deviations from what ridge regression predicts of images it has not seen "
            f"(its median error is {100 * float(1 - skill.max()):.0f} % of that of always answering the median)."
        ),
        remedy="Review them from the top; correct the file of fixes and apply it. A rare kind of image is no error.",
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
