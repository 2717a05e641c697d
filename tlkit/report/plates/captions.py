"""The captions of the figures: one for each, with the numbers that it shows."""

from tlkit.evaluation.results import Metric
from tlkit.report.plates.depicted import ERRORS, NAMED, Depicted, area_of, lowest, worst


def _interval(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "not defined"
    ends = "" if metric.low is None else f" (95 % interval {metric.low:.3f} to {metric.high:.3f})"
    return f"{metric.value:.3f}{ends}"


def of_confusion(depicted: Depicted) -> str:
    """Of `draw_confusion`."""
    every = -(-len(depicted.result.classes) // NAMED)
    named = "" if every == 1 else f" One class in {every} is named."
    return (
        f"Confusion matrix of {depicted.where}: rows are true classes, columns predicted ones. Accuracy "
        f"{_interval(depicted.result.metrics.get('accuracy'))}.{named}"
    )


def of_normalised(depicted: Depicted) -> str:
    """Of `draw_normalised`."""
    return of_confusion(depicted) + " Each row is divided by its sum, so that the diagonal shows recall."


def of_learning(depicted: Depicted) -> str:
    """Of `draw_learning_curves`."""
    names = list(dict.fromkeys(row["stage"] for row in depicted.history))
    stages = f"stage {names[0]}" if len(names) == 1 else f"stages {', then '.join(names)}, whose names stand above"
    return (
        f"Loss and accuracy on training images (solid, circles) and validation images (dashed, squares) in the {stages}. "
        "Epoch 0 is the start of a stage; a head that is solved exactly has one point."
    )


def of_reliability(depicted: Depicted) -> str:
    """Of `draw_reliability`."""
    error = depicted.result.reliability.expected_calibration_error  # type: ignore[union-attr]
    return (
        f"Reliability diagram of {depicted.where}: accuracy against mean confidence in bins of equal width; below, the images of "
        f"each bin. The grey band holds 95 % of the points of a perfectly calibrated classifier. Expected calibration error {error:.3f}."
    )


def _of_curves(depicted: Depicted, kind: str, name: str, area: str) -> str:
    areas = ", ".join(f"{row.name} {_interval(area_of(row, kind))}" for row in worst(depicted, kind))
    drawn, known = len(depicted.result.curves), len(depicted.result.classes)
    some = "" if drawn == known else f"; {drawn} of {known} classes are drawn, those of the lowest average precision"
    return f"{name} of each class against the rest on {depicted.where}, by its probability{some}. {area} of the lowest: {areas}."


def of_roc(depicted: Depicted) -> str:
    """Of `draw_roc`."""
    return _of_curves(depicted, "roc", "Receiver operating characteristic", "Area under the curve")


def of_precision_recall(depicted: Depicted) -> str:
    """Of `draw_precision_recall`."""
    return _of_curves(depicted, "precision_recall", "Precision-recall curves", "Average precision")


def of_risk(depicted: Depicted) -> str:
    """Of `draw_risk_coverage`."""
    area = depicted.result.risk_coverage.area  # type: ignore[union-attr]
    return (
        f"Risk-coverage curve of {depicted.where}: share of wrong answers where only the images of highest confidence are "
        f"answered. Area under the curve {_interval(area)}; 0 is perfect."
    )


def of_per_class(depicted: Depicted) -> str:
    """Of `draw_per_class`."""
    shown, known = len(lowest(depicted)), sum(row.support > 0 for row in depicted.result.classes)
    which = "all classes" if shown == known else f"the {shown} of {known} classes of lowest recall"
    return f"Recall and precision of {which} on {depicted.where}, lowest recall first; whiskers are 95 % intervals."


def of_errors(depicted: Depicted) -> str:
    """Of `draw_errors`."""
    wrong = len(depicted.errors)
    which = (
        f"The {ERRORS} wrong answers of highest confidence, of {wrong}, on"
        if wrong > ERRORS
        else "All wrong answers on"
    )
    which = "The only wrong answer on" if wrong == 1 else which
    return f"{which} {depicted.where}: true class, predicted class, probability of the latter."
