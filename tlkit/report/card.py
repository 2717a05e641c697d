"""The model card: what the classifier is, what it is for and where it ends (Mitchell et al. 2019)."""

from typing import NamedTuple

from tlkit.evaluation.results import SplitResult
from tlkit.report.headline import WHERE
from tlkit.report.page import Model, Page
from tlkit.report.verdict import Remark

NAMED = 12  # classes listed by name


class CardPart(NamedTuple):
    """One part of the card: a heading and plain sentences; names of classes stand in them as they are."""

    heading: str
    sentences: tuple[str, ...]


def model_card(page: Page, result: SplitResult | None, found: tuple[Remark, ...]) -> tuple[CardPart, ...]:
    """The parts that have something to say; none without a model."""
    if page.model is None:
        return ()
    multi = bool(result and result.multi)
    parts = (
        CardPart("What it is", _what(page.model, multi=multi)),
        CardPart("What it is for", _purpose(page, page.model, multi=multi)),
        CardPart("What it learned from", _learned(page)),
        CardPart("How well it does", _measured(result)),
        CardPart("Where it ends", _limits(page, found)),
        CardPart("Licences", _licences(page.model)),
    )
    return tuple(part for part in parts if part.sentences)


def _what(model: Model, *, multi: bool) -> tuple[str, ...]:
    size = f" of {model.parameters:,} numbers" if model.parameters else ""
    height, width = model.image_size
    return (
        f"An image classifier{size}: the backbone {model.backbone}, first weights {model.weights}, with {model.head}.",
        f"It takes RGB images, 0 to 255, brought to {height}×{width} pixels ({model.fit}), and gives a probability for "
        "each class; its preprocessing is inside the file.",
        f"Its probabilities are calibrated: logits are divided by a temperature of {model.temperature:.3f}."
        if model.temperature != 1
        else f"Its probabilities are the {'sigmoids' if multi else 'softmax'} of its logits, not calibrated further.",
    )


def _purpose(page: Page, model: Model, *, multi: bool) -> tuple[str, ...]:
    classes = page.data.classes if page.data else ()
    if not classes:
        return ()
    names = ", ".join(classes[:NAMED]) + (f" and {len(classes) - NAMED} more" if len(classes) > NAMED else "")
    if multi:
        return (
            f"Saying which of {len(classes)} labels an image has, any number of them, in images like those it learned "
            f"from: {names}.",
            "It gives every label whose probability is 50 % or more, and so may give none.",
        )
    unsure = (
        f"Below a confidence of {model.threshold:.2f} it abstains."
        if model.threshold is not None
        else "It always answers, also for an image of something else: it has no threshold."
    )
    return (f"Telling {len(classes)} classes apart, in images like those it learned from: {names}.", unsure)


def _learned(page: Page) -> tuple[str, ...]:
    if page.data is None:
        return ()
    counts = {split: sum(numbers) for split, numbers in page.data.counts.items()}
    told = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    train = page.data.counts.get("train")
    spread = f"A class has {min(train):,} to {max(train):,} training images." if train and len(train) > 1 else ""
    return tuple(filter(None, (f"Images by split: {page.data.rule or told}.".replace("..", "."), spread)))


def _measured(result: SplitResult | None) -> tuple[str, ...]:
    if result is not None and result.multi:
        return _measured_several(result)
    accuracy = result.metrics.get("accuracy") if result else None
    if result is None or accuracy is None or accuracy.value is None:
        return ()
    interval = (
        ""
        if accuracy.low is None or accuracy.high is None
        else f" (95 % interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
    )
    sentences = [
        f"Accuracy {100 * accuracy.value:.1f} %{interval} on {result.n:,} {WHERE.get(result.split, 'images')}."
    ]
    rows = [row for row in result.classes if row.recall is not None]
    if len(rows) > 1:
        low, high = min(rows, key=lambda row: row.recall or 0), max(rows, key=lambda row: row.recall or 0)
        sentences.append(
            f"Share found by class: from {100 * (low.recall or 0):.0f} % ({low.name}) to {100 * (high.recall or 0):.0f} % ({high.name})."
        )
    return tuple(sentences)


def _measured_several(result: SplitResult) -> tuple[str, ...]:
    precision, exact = result.metrics["mean_average_precision"], result.metrics["subset_accuracy"]
    if precision.value is None or exact.value is None:
        return ()
    interval = (
        ""
        if precision.low is None or precision.high is None
        else f" (95 % interval {precision.low:.3f} to {precision.high:.3f})"
    )
    where = WHERE.get(result.split, "images")
    sentences = [
        f"Mean average precision {precision.value:.3f}{interval} on {result.n:,} {where}; "
        f"every label right on {100 * exact.value:.1f} % of them."
    ]
    rows = [row for row in result.classes if row.average_precision is not None]
    low, high = (pick(rows, key=lambda row: row.average_precision or 0.0) for pick in (min, max))
    sentences.append(
        f"Average precision by label: from {low.average_precision:.2f} ({low.name}) to {high.average_precision:.2f} "
        f"({high.name})."
    )
    return tuple(sentences)


def _limits(page: Page, found: tuple[Remark, ...]) -> tuple[str, ...]:
    told = tuple(remark.text for remark in found if remark.tone != "good")
    return (
        *told,
        "Nothing here says how it does on images from another camera, place, time or way of collecting.",
    )


def _licences(model: Model) -> tuple[str, ...]:
    if not model.licence:
        return ("The licence of the first weights is not known to tlkit.",)
    sentences = [f"First weights: {model.licence}."]
    if "imagenet" in model.weights.lower():
        sentences.append(
            "They go back to ImageNet, whose terms of access speak of non-commercial research and education."
        )
    return (*sentences, "The licence of the images it was trained on is not known to tlkit.")
