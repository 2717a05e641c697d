"""Metrics in words: what each is called, how it is written, what it means."""

import math
import re
from typing import NamedTuple

from markupsafe import Markup, escape

from tlkit.evaluation.class_measures import SHARES
from tlkit.evaluation.results import Metric


class MetricWords(NamedTuple):
    """One metric.

    Args:
        name: as displayed.
        percent: shown as a percentage, else as a number with three decimals.
        meaning: one or two plain sentences.
    """

    name: str
    percent: bool
    meaning: str


ENTRIES = {
    "accuracy_of_mean": MetricWords(
        "Accuracy of the mean over time",
        True,
        "For clips: accuracy of the solved linear head on the mean of the frames, which ignores their order.",
    ),
    "accuracy_shuffled": MetricWords(
        "Accuracy with frames shuffled",
        True,
        "For clips: accuracy of the classifier when the frames of each clip are shuffled.",
    ),
    "balanced_accuracy": MetricWords(
        "Balanced accuracy",
        True,
        "Mean recall over classes. Rare classes weigh as much as common ones.",
    ),
    "macro_f1": MetricWords(
        "Macro F1", True, "Mean over classes of F1, the harmonic mean of precision and recall; 100 % is perfect."
    ),
    "macro_precision": MetricWords(
        "Macro precision",
        True,
        "Mean precision over classes: the share of images predicted as a class that belong to it.",
    ),
    "macro_recall": MetricWords(
        "Macro recall", True, "Mean recall over classes: the share of images of a class that are predicted as it."
    ),
    "micro_f1": MetricWords(
        "Micro F1",
        True,
        "F1 over all labels of all images together: common labels weigh more. Precision and recall likewise.",
    ),
    "micro_precision": MetricWords("Micro precision", True, "Share of the predicted labels that are correct."),
    "micro_recall": MetricWords("Micro recall", True, "Share of the labels that images have which are predicted."),
    "samples_f1": MetricWords(
        "Samples F1",
        True,
        "F1 of the labels of each image, averaged over images; training ranks epochs by it. With one label per image it is "
        "accuracy.",
    ),
    "subset_accuracy": MetricWords(
        "Subset accuracy", True, "Share of images whose labels are all correct, none missing (exact match)."
    ),
    "hamming_loss": MetricWords(
        "Hamming loss", True, "Share of wrong decisions among those on every label of every image."
    ),
    "cohen_kappa": MetricWords(
        "Cohen’s kappa",
        False,
        "Agreement with the truth beyond chance: 0 is guessing by class frequency, 1 is perfect agreement.",
    ),
    "log_loss": MetricWords(
        "Log loss",
        False,
        "Mean negative logarithm of the probability given to the true class. 0 is perfect; confident errors cost most.",
    ),
    "roc_auc": MetricWords(
        "ROC AUC",
        False,
        "Probability that an image of a class gets a higher score for it than an image of another class, averaged over classes; "
        "0.5 is guessing. Interval after DeLong (1988).",
    ),
    "brier": MetricWords(
        "Brier score",
        False,
        "Mean squared error of the probabilities, summed over classes (halved for two classes). 0 is perfect.",
    ),
    "expected_calibration_error": MetricWords(
        "Expected calibration error (ECE)",
        True,
        "Mean difference between confidence and accuracy, in 15 bins of equal width on the confidence (ECE). 0 is perfect.",
    ),
    "mean_average_precision": MetricWords(
        "Mean average precision (mAP)",
        False,
        "Area under the precision-recall curve of each class against the rest, averaged over classes; 1 is perfect.",
    ),
    "mean_absolute_error": MetricWords(
        "Mean absolute error (MAE)",
        False,
        "Mean distance of the prediction from the truth, in the unit of the number, or in grades. 0 is perfect.",
    ),
    "mean_absolute_error_of_mean": MetricWords(
        "MAE of the mean", False, "MAE of always predicting the mean of these images, which any model must beat."
    ),
    "root_mean_squared_error": MetricWords(
        "Root mean squared error (RMSE)",
        False,
        "Square root of the mean squared error: in the same unit, but large errors weigh more.",
    ),
    "r2": MetricWords(
        "R²",
        False,
        "Share of the variance of the truth that is predicted: 1 is perfect, 0 is that of always predicting the mean of these images.",
    ),
    "spearman": MetricWords(
        "Spearman’s rank correlation",
        False,
        "Agreement of the order of the predictions with that of the truth: 1 is the same order, 0 is no relation.",
    ),
    "interval_coverage": MetricWords(
        "Coverage of intervals", True, "Share of images whose 95 % prediction interval holds the truth."
    ),
    "interval_width": MetricWords(
        "Width of intervals", False, "Width of the prediction intervals, in the unit of the number."
    ),
    "within_one_accuracy": MetricWords(
        "Within one grade", True, "Share of images whose predicted grade is the true one or next to it."
    ),
    "quadratic_weighted_kappa": MetricWords(
        "Quadratic weighted kappa",
        False,
        "Agreement with the truth beyond chance, with disagreements weighted by the square of the grades between; 1 is perfect.",
    ),
    "coverage": MetricWords("Coverage", True, "Share of images whose confidence reaches the threshold."),
    "selective_precision": MetricWords(
        "Selective precision", True, "Share of correct answers among the images it answers."
    ),
    "area_under_risk_coverage": MetricWords(
        "Area under the risk–coverage curve (AURC)",
        True,
        "Mean error rate over all coverages, the highest confidence first (AURC). 0 is perfect.",
    ),
}


def entry(metric: str) -> MetricWords:
    """The entry of a metric by its name in metrics.json; a plain one where it is unknown."""
    if top := re.fullmatch(r"top_(\d+)_accuracy", metric):
        k = top[1]
        return MetricWords(
            f"Top-{k} accuracy", True, f"Share of images whose true class is among the {k} most probable ones."
        )
    if metric.endswith("_uncalibrated"):
        calibrated = entry(metric.removesuffix("_uncalibrated"))
        return MetricWords(f"{calibrated.name}, before temperature", calibrated.percent, "")
    if ":" in metric:  # of one of several numbers
        kind, _, number = metric.partition(":")
        return entry(kind)._replace(name=f"{entry(kind).name}: {number}", meaning="")
    if share := SHARES.get(metric):
        return MetricWords(share.name, True, share.meaning)
    return ENTRIES.get(metric, MetricWords(metric.replace("_", " ").capitalize(), False, ""))


# -- How values are written in a report: names, shares, numbers, times -------------------------

# Control characters as their Unicode pictures; bidirectional overrides as their code points, since they disguise names.
_VISIBLE: dict[int, str] = {code: chr(0x2400 + code) for code in range(32)} | {127: "\u2421"}
_VISIBLE |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def plain(text: object) -> str:
    """Text with control characters and bidirectional overrides made visible; not yet escaped."""
    return str(text).translate(_VISIBLE)


def name(text: object) -> Markup:
    """A class or file name, or a sentence that holds one: made visible, its direction isolated, escaped."""
    return Markup("<bdi>{}</bdi>").format(plain(text))


def percent(share: float | None, digits: int = 1) -> str:
    """0.9412 as 94.1 %; a dash where there is none."""
    return f"{100 * share:.{digits}f}\u202f%" if share is not None and math.isfinite(share) else number(share)


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals and a true minus; a dash where there is none, words where training diverged."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "not finite"


def duration(seconds: float | None) -> str:
    """75 as 1 min 15 s; a dash where there is none."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def shown(metric: str, found: Metric | None, interval: bool = False) -> Markup:
    """A metric in its own unit; with `interval` its two limits instead, "" where there are none."""
    shares = entry(metric).percent
    if interval:
        if found is None or found.low is None or found.high is None:
            return Markup("")
        low, high = (f"{100 * v:.1f}" if shares else number(v) for v in (found.low, found.high))
        return escape(f"{low} to {high}")
    value = found.value if found else None
    return escape(percent(value) if shares else number(value))


def split_name(split: str) -> str:
    """`test_unseen` as "test, unseen"."""
    first, mark, _ = split.partition("_unseen")
    return f"{first}, unseen" if mark else split
