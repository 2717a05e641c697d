"""Likely wrong labels: confident learning on out-of-fold probabilities (Northcutt, Jiang and Chuang 2021)."""

import warnings
from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import Evidence, counted, named, share
from tlkit.auditing.findings import Finding
from tlkit.base.story import percent

MANY = 0.1  # of the images: so many doubts say more about the probe than about the labels
SURE = 0.5  # probability of another class from which a label is called doubtful
ABLE = 0.85  # accuracy from which the probe's doubts are mostly right


def check(evidence: Evidence) -> Iterator[Finding]:
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
