"""From predictions and truth to metrics with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from tlkit.classifier.answers import IN_TRAINING, Predictions
from tlkit.data.dataset import SPLITS, UNASSIGNED
from tlkit.evaluation.class_measures import Column, measure_single
from tlkit.evaluation.label_measures import measure_multi
from tlkit.evaluation.number_measures import measure_number, measure_ordinal
from tlkit.evaluation.results import EvaluationResult, Leak, SplitRequest, SplitResult
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import row_of
from tlkit.tasks.single import SINGLE

WITHOUT_SPLIT = "images"
MEASURES = {
    SINGLE.name: measure_single,
    MULTI.name: measure_multi,
    ORDINAL.name: measure_ordinal,
    NUMBER.name: measure_number,
}
"""One row for each task."""


def evaluate(
    predictions: Predictions,
    *,
    top_k: int = 5,
    columns: Mapping[str, Column] | None = None,
    target_precision: float | None = None,
) -> EvaluationResult:
    """Measure every split that has labelled images, and under "images" those that are in no split.

    Metrics, each with n and a 95 % interval where there is a sound one; where the predictions have groups,
    groups instead of images are the sampling units (see `intervals`):

    - accuracy, top_5_accuracy (the name follows k; with `top_k` classes or fewer k is 3 or 2, with two
      classes it is left out): share of images, Wilson interval.
    - balanced_accuracy: mean recall of the classes that have an image. macro_precision, macro_recall, macro_f1: means of
      the classes that have one or are predicted, 0 where undefined, as in scikit-learn. Their interval, and that of
      kappa: the spread of a bootstrap over images (Efron 1979), on the logit scale.
    - cohen_kappa: agreement beyond chance (Cohen 1960), -1..1.
    - log_loss: mean of -log p(truth), natural logarithm; interval normal on the logarithmic scale.
    - roc_auc, mean_average_precision: macro one-versus-rest over the classes that have an image, class 1 where
      there are two classes; intervals of DeLong et al. (1988) and by the infinitesimal jackknife.
    - brier: mean squared error of the probabilities (Brier 1950), summed over classes (0..2), and halved
      where there are two classes (0..1), as scikit-learn has it; interval as of log_loss.
    - expected_calibration_error: 15 bins of equal width on the confidence of the predicted class; interval by
      test inversion.
    - log_loss, brier and expected_calibration_error also with `_uncalibrated` at the end, without the
      temperature, where there is one.
    - area_under_risk_coverage: see `RiskCoverage`.
    - coverage, selective_precision: of the threshold, where there is one.

    Images that are known to be training images, or near-duplicates of one, are counted in `leak`; the others are
    then measured again, as test_unseen (as unseen where there is no split).

    Where an image may have several labels, each class is a separate question, answered yes at a probability of 0.5 or
    more, and the metrics are: mean_average_precision and roc_auc, means over the classes that some images have and others
    have not; micro_ and macro_ precision, recall and f1, over all questions together and as means over the classes that
    have an image or are predicted; samples_f1, the mean over images of F1 of its labels; subset_accuracy, the share of
    images with every label right; hamming_loss, the share of wrong answers; log_loss, brier (0..1) and
    expected_calibration_error over all questions. There is no confusion matrix, no risk-coverage curve, no threshold.

    Grades and numbers: see `number_measures`. A metric that is not defined (no second class, logits not finite) is None.

    Args:
        predictions: of labelled images; unlabelled ones are only mentioned.
        top_k: see above.
        columns: name -> a value for each row of the predictions, "" or NaN where there is none; see `slices`.
            Slices by class are always included; training images are not sliced.
        target_precision: what the threshold of the predictions was chosen for.
    """
    measured: dict[str, SplitResult] = {}
    notes: list[str] = []
    for name, inside in _named(predictions):
        rows = np.flatnonzero(inside & predictions.labelled)
        given = {} if name == "train" else {column: _picked(values, rows) for column, values in (columns or {}).items()}
        own = predictions.select(rows)
        leak = None if own.in_training is None or name == "train" else _leak(own.in_training)
        wanted = SplitRequest(split=name, columns=given, top_k=top_k, target_precision=target_precision, leak=leak)
        measured[name] = row_of(MEASURES, own.task)(own, wanted, group_codes(own.groups))
        notes += _notes(measured[name], int(inside.sum()), own)
    return EvaluationResult(splits=measured, notes=tuple(notes))


def _named(predictions: Predictions) -> list[tuple[str, np.ndarray]]:
    """(name, bool (N,)) of the splits with labelled images, then of those of their images that training has not seen."""
    named = [(name, predictions.splits == code) for code, name in enumerate(SPLITS)]
    named.append((WITHOUT_SPLIT, predictions.splits == UNASSIGNED))
    seen = np.zeros(len(predictions.splits), bool) if predictions.in_training is None else predictions.in_training > 0
    named += [
        ("unseen" if name == WITHOUT_SPLIT else f"{name}_unseen", inside & ~seen)
        for name, inside in named
        if name != "train" and (inside & seen).any()
    ]
    return [(name, inside) for name, inside in named if (inside & predictions.labelled).any()]


def _picked(values: Column, rows: np.ndarray) -> Column:
    return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]


def group_codes(groups: Sequence[str] | None) -> np.ndarray | None:
    """int64 (n,) of group names; an image without one is a group of its own."""
    if groups is None:
        return None
    _, codes = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    alone = np.array([not name for name in groups])
    return np.where(alone, len(groups) + np.arange(len(groups)), codes)


def _leak(in_training: np.ndarray) -> Leak:
    near, exact = (int((in_training == IN_TRAINING.index(kind)).sum()) for kind in ("near", "exact"))
    return Leak(exact=exact, near=near, n=len(in_training))


def _notes(result: SplitResult, images: int, rows: Predictions) -> list[str]:
    """What a reader of the results must know about the split."""
    notes = []
    if images > result.n:
        notes.append(f"{result.split}: {images - result.n} of {images} images have no label and were not counted.")
    missing = [row.name for row in result.classes if not row.support]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        notes.append(
            f"{result.split}: no image of {shown}; balanced accuracy leaves out classes without an image; so do macro averages, "
            "but where such a class is predicted, it counts as 0, as in scikit-learn."
        )
    broken = int((~np.isfinite(rows.logits)).any(axis=1).sum())
    if broken:
        notes.append(f"{result.split}: {broken} images have outputs that are not finite; training may have diverged.")
    return notes + (
        [_leak_note(result.split, result.leak)] if result.leak and result.leak.exact + result.leak.near else []
    )


def _leak_note(split: str, leak: Leak) -> str:
    """How many images were trained on, and which results leave them out."""
    found = [f"{leak.exact} {'was' if leak.exact == 1 else 'were'} in the training set"] * (leak.exact > 0)
    found += [f"{leak.near} {'looks' if leak.near == 1 else 'look'} like an image in the training set"] * (
        leak.near > 0
    )
    known = f"{split}: of {leak.n} images, {' and '.join(found)}"
    if leak.exact + leak.near == leak.n:
        return f"{known}: these results say nothing about new images."
    apart = "unseen" if split == WITHOUT_SPLIT else f"{split}_unseen"
    return f"{known}: the results are too optimistic; those under '{apart}' leave these images out."
