"""Metrics in words: what each is called, how it is written, what it means."""

import re
from typing import NamedTuple


class Entry(NamedTuple):
    """One metric.

    Args:
        name: for people.
        percent: shown as a percentage, else as a number with three decimals.
        meaning: one or two plain sentences.
    """

    name: str
    percent: bool
    meaning: str


ENTRIES = {
    "accuracy": Entry(
        "Accuracy",
        True,
        "Share of images whose most probable class is the true one. Its interval is Wilson's (1927): the accuracies "
        "that this many images cannot rule out.",
    ),
    "balanced_accuracy": Entry(
        "Balanced accuracy",
        True,
        "Mean over classes of the share found (recall). Rare classes weigh as much as common ones.",
    ),
    "macro_f1": Entry(
        "Macro F1", True, "Mean over classes of F1, the harmonic mean of precision and recall; 100 % is perfect."
    ),
    "macro_precision": Entry(
        "Macro precision", True, "Mean over classes of: of the images called this class, how many are."
    ),
    "macro_recall": Entry(
        "Macro recall", True, "Mean over classes of: of the images of this class, how many were found."
    ),
    "micro_f1": Entry(
        "Micro F1",
        True,
        "F1 of all labels of all images together: common labels weigh more. Precision and recall likewise.",
    ),
    "micro_precision": Entry("Micro precision", True, "Of all labels given, how many are true."),
    "micro_recall": Entry("Micro recall", True, "Of all labels that images have, how many were given."),
    "samples_f1": Entry(
        "F1 of images",
        True,
        "F1 of the labels of each image, averaged over images; what training ranks its epochs by. Of one label each it is "
        "accuracy.",
    ),
    "subset_accuracy": Entry("Every label right", True, "Share of images whose labels are all right, none missing."),
    "hamming_loss": Entry("Wrong labels", True, "Share of wrong answers among all yes-or-no answers (Hamming loss)."),
    "cohen_kappa": Entry(
        "Cohen’s kappa",
        False,
        "Agreement with the truth beyond chance: 0 is guessing by class frequency, 1 is perfect.",
    ),
    "log_loss": Entry(
        "Log loss",
        False,
        "Mean of −ln of the probability given to the true class. 0 is perfect; being sure and wrong costs most.",
    ),
    "roc_auc": Entry(
        "ROC-AUC",
        False,
        "Chance that an image of a class scores higher for it than an image of another class, averaged over classes; "
        "0.5 is guessing. Interval after DeLong (1988).",
    ),
    "brier": Entry(
        "Brier score",
        False,
        "Mean squared error of the probabilities, summed over classes (halved for two classes). 0 is perfect.",
    ),
    "expected_calibration_error": Entry(
        "Calibration error",
        True,
        "Mean gap between how sure the classifier is and how often it is right, in 15 bins of equal width on the "
        "confidence of its answer (ECE). 0 is perfect.",
    ),
    "mean_average_precision": Entry(
        "Mean average precision",
        False,
        "Area under precision and recall of each class against the rest, averaged over classes; 1 is perfect.",
    ),
    "coverage": Entry("Answered", True, "Share of images on which the confidence reaches the threshold."),
    "selective_precision": Entry("Right among them", True, "Share of right answers among the images it answers."),
    "area_under_risk_coverage": Entry(
        "Risk over coverage",
        True,
        "Mean share of wrong answers over all shares of images answered, the surest first (AURC). 0 is perfect.",
    ),
}


def entry(metric: str) -> Entry:
    """The entry of a metric by its name in metrics.json; a plain one where it is unknown."""
    if top := re.fullmatch(r"top_(\d+)_accuracy", metric):
        k = top[1]
        return Entry(
            f"Top-{k} accuracy", True, f"Share of images whose true class is among the {k} most probable ones."
        )
    if metric.endswith("_uncalibrated"):
        calibrated = entry(metric.removesuffix("_uncalibrated"))
        return Entry(f"{calibrated.name}, before temperature", calibrated.percent, "")
    return ENTRIES.get(metric, Entry(metric.replace("_", " ").capitalize(), False, ""))
