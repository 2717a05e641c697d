"""The words of the report that depend on the task: one row for each task."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tlkit.evaluation.results import IMAGE, SplitResult
from tlkit.report.gallery import Dealer, LabelDealer, NumberDealer
from tlkit.report.headline import quantity, said_of, where_of
from tlkit.report.page import ModelSection
from tlkit.tasks.multi import MULTI
from tlkit.tasks.number import NUMBER
from tlkit.tasks.ordinal import ORDINAL
from tlkit.tasks.registry import row_of
from tlkit.tasks.single import SINGLE

NAMED = 12  # classes listed by name


def _in_classes(count: int) -> str:
    return f"in {count} {'class' if count == 1 else 'classes'}"


def _with_numbers(count: int) -> str:
    return "with a number each" if count == 1 else f"with {count} numbers each"


def _probabilities(model: ModelSection, activation: str) -> tuple[str, ...]:
    return (
        "a probability for each class",
        f"Its probabilities are calibrated: logits are divided by a temperature of {model.temperature:.3f}."
        if model.temperature != 1
        else f"Its probabilities are the {activation} of its logits, not calibrated further.",
    )


def _numbers(model: ModelSection, activation: str) -> tuple[str, ...]:
    return (
        "numbers in the units of the table",
        "The interval around each is as wide as the errors on held-out images were."
        if model.intervals
        else "They have no intervals: too few images were held out of training.",
    )


@dataclass(frozen=True, kw_only=True)
class TaskWords:
    """The words for one task; sentences are plain text, which the templates escape.

    Args:
        dealer: sorts the images of a split for the galleries.
        tiles: metrics beside the first one.
        matrix: whether there is a confusion matrix.
        activation: the function that turns logits into probabilities.
        purpose: sentences of the model card on what it is for, from the model and its classes.
        measured: sentences of the model card on how well it does.
        exact: the words before the share of images whose answer is entirely correct.
        answers: what a reliability diagram counts, as a function of the number of answers and of images.
        score, scored, score_note: the score of training, in a sentence, in a chart and below a table.
        bins: headings of the table of the reliability diagram: count, confidence, accuracy.
        calibrated: what a reliability diagram of a calibrated classifier looks like.
        slices: what is compared between slices.
        errors, evidence, unsure: of the galleries.
        classes, glossary: further paragraphs, "" for none.
        holding: what follows the number of images, "in 4 classes", given the number of classes.
        noun: what an entry of `classes` names.
        outputs: sentences of the model card on the output, from the model.
    """

    dealer: type[Dealer]
    tiles: tuple[str, ...]
    matrix: bool
    activation: str
    purpose: Callable[[ModelSection, tuple[str, ...]], tuple[str, ...]]
    measured: Callable[[SplitResult], tuple[str, ...]]
    exact: str
    answers: Callable[[int, int], str]
    score: str
    scored: str
    score_note: str
    bins: tuple[str, str, str]
    calibrated: str
    slices: str
    errors: str
    evidence: str
    unsure: str
    classes: str
    glossary: str
    holding: Callable[[int], str] = _in_classes
    noun: str = "Class"
    outputs: Callable[[ModelSection, str], tuple[str, ...]] = _probabilities


def words_of(result: SplitResult | None) -> TaskWords:
    """The row for a result; that of one class per image where nothing was measured."""
    return said_of(result.sample if result else IMAGE, row_of(WORDS, result.task if result else SINGLE))


def _named(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:NAMED]) + (f" and {len(classes) - NAMED} more" if len(classes) > NAMED else "")


def _purpose(model: ModelSection, classes: tuple[str, ...]) -> tuple[str, ...]:
    unsure = (
        f"Below a confidence of {model.threshold:.2f} it abstains."
        if model.threshold is not None
        else "It answers for every image, even one of something else: it has no threshold."
    )
    named = _named(classes)
    return (f"Assigning one of {len(classes)} classes to images like those it was trained on: {named}.", unsure)


def _purpose_of_labels(model: ModelSection, classes: tuple[str, ...]) -> tuple[str, ...]:
    return (
        f"Assigning any number of {len(classes)} labels to images like those it was trained on: {_named(classes)}.",
        "It gives every label whose probability is 50 % or more, and so may give none.",
    )


def _measured(result: SplitResult) -> tuple[str, ...]:
    accuracy = result.metrics.get("accuracy")
    if accuracy is None or accuracy.value is None:
        return ()
    interval = (
        ""
        if accuracy.low is None or accuracy.high is None
        else f" (95 % interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
    )
    sentences = [f"Accuracy {100 * accuracy.value:.1f} %{interval} on {result.n:,} {where_of(result)}."]
    rows = [row for row in result.classes if row.recall is not None]
    if len(rows) > 1:
        low, high = min(rows, key=lambda row: row.recall or 0), max(rows, key=lambda row: row.recall or 0)
        sentences.append(
            f"Recall by class: from {100 * (low.recall or 0):.0f} % ({low.name}) to {100 * (high.recall or 0):.0f} % ({high.name})."
        )
    return tuple(sentences)


def _measured_of_labels(result: SplitResult) -> tuple[str, ...]:
    precision, exact = result.metrics["mean_average_precision"], result.metrics["subset_accuracy"]
    if precision.value is None or exact.value is None:
        return ()
    interval = (
        ""
        if precision.low is None or precision.high is None
        else f" (95 % interval {precision.low:.3f} to {precision.high:.3f})"
    )
    where = where_of(result)
    rows = [row for row in result.classes if row.average_precision is not None]
    low, high = (pick(rows, key=lambda row: row.average_precision or 0.0) for pick in (min, max))
    return (
        f"Mean average precision {precision.value:.3f}{interval} on {result.n:,} {where}; "
        f"every label correct on {100 * exact.value:.1f} % of them.",
        f"Average precision by label: from {low.average_precision:.2f} ({low.name}) to {high.average_precision:.2f} "
        f"({high.name}).",
    )


def _purpose_of_numbers(model: ModelSection, classes: tuple[str, ...]) -> tuple[str, ...]:
    return (
        f"Predicting {_named(classes)} of images like those it was trained on.",
        "It answers for every image, even one of something else; numbers beyond those of the training images are guesses.",
    )


def _measured_of_numbers(result: SplitResult) -> tuple[str, ...]:
    found, shares = quantity(result), result.metrics.get("r2")
    if found is None or found.error.value is None:
        return ()
    error, of = found.error, f" of {found.name}" if found.name else ""
    interval = (
        "" if error.low is None or error.high is None else f" (95 % interval {error.low:.4g} to {error.high:.4g})"
    )
    unexplained = "" if shares is None or shares.value is None else f"; R² {shares.value:.3f}"
    return (
        f"Mean absolute error{of} {error.value:.4g}{interval} on {result.n:,} {found.where}{unexplained}; always answering "
        f"their mean would give {found.baseline:.4g}.",
    )


_SINGLE = TaskWords(
    dealer=Dealer,
    tiles=("balanced_accuracy", "macro_f1", "roc_auc", "log_loss"),
    matrix=True,
    activation="softmax",
    purpose=_purpose,
    measured=_measured,
    exact="accuracy is",
    answers=lambda answers, images: f"{answers} images",
    score="accuracy",
    scored="Accuracy",
    score_note="",
    bins=("Images", "Confidence", "Correct"),
    calibrated="Of the predictions that a calibrated classifier makes with 80 % confidence, 80 % are correct: its points lie on the "
    "dashed line. Points below the line mean overconfidence, above it underconfidence.",
    slices="Accuracy",
    errors="Errors of the highest confidence",
    evidence="predicted class",
    unsure="Images whose two most probable classes are closest in probability, correct or not.",
    classes="",
    glossary="",
)
WORDS = {
    SINGLE.name: _SINGLE,
    MULTI.name: TaskWords(
        dealer=LabelDealer,
        tiles=("micro_f1", "macro_f1", "subset_accuracy", "roc_auc"),
        matrix=False,
        activation="sigmoids",
        purpose=_purpose_of_labels,
        measured=_measured_of_labels,
        exact="every label is correct on",
        answers=lambda answers, images: f"{answers} answers about {images} images",
        score="F1",
        scored="F1 of the images’ labels",
        score_note="; accuracy is the mean F1 of the images’ labels",
        bins=("Answers", "Probability", "Present"),
        calibrated="Of the labels to which a calibrated classifier gives a probability of 80 %, 80 % are present: its points lie on the "
        "dashed line. Below the line probabilities are too high, above it too low. Every label of every image counts, "
        "given or not.",
        slices="The share of images with every label correct, called accuracy here,",
        errors="Images with a wrong label of the highest confidence",
        evidence="most probable label",
        unsure="Images with a label probability nearest to 50 %, correct or not.",
        classes="An image may have several labels, so every class is decided on its own: a label is predicted at a "
        "probability of 50 % or more. Confusion matrix, top-k accuracy and risk-coverage curve are not defined, as they need one "
        "predicted class for each image.",
        glossary="Log loss, Brier score and calibration error are over all yes-or-no answers, one for each label of each "
        "image; a probability is that of the label being present.",
    ),
    ORDINAL.name: replace(
        _SINGLE,
        tiles=(
            "mean_absolute_error",
            "within_one_accuracy",
            "quadratic_weighted_kappa",
            "balanced_accuracy",
            "log_loss",
        ),
        score="closeness",
        scored="Closeness of the grade",
        score_note="; accuracy is the closeness of the grade, 1 − error in grades over the largest possible",
        evidence="predicted grade",
        unsure="Images whose two most probable grades are closest in probability, correct or not.",
        classes="Classes have an order, the lowest first. The answer is the median of the probabilities, which has the smallest "
        "expected error in grades; it need not be the most probable grade.",
        noun="Grade",
    ),
    NUMBER.name: TaskWords(
        dealer=NumberDealer,
        tiles=("r2", "root_mean_squared_error", "spearman", "interval_coverage", "interval_width"),
        matrix=False,
        activation="",
        purpose=_purpose_of_numbers,
        measured=_measured_of_numbers,
        exact="R² is",
        answers=lambda answers, images: f"{images} images",
        score="skill",
        scored="Skill",
        score_note="; accuracy is the skill, 1 − mean absolute error in standard deviations of the training images, and the loss "
        "is in these units too",
        bins=("Images", "", ""),
        calibrated="",
        slices="",
        errors="Images whose predicted number is farthest from the true one",
        evidence="number: what raises it",
        unsure="",
        classes="",
        glossary="",
        holding=_with_numbers,
        noun="Number",
        outputs=_numbers,
    ),
}
"""One row for each task."""
