"""The model card: the classifier, its intended use and its limitations (Mitchell et al. 2019)."""

from typing import NamedTuple

from tlkit.evaluation.results import SplitResult
from tlkit.report.page import ModelSection, Page
from tlkit.report.tasks import words_of
from tlkit.report.verdict import Remark


class CardPart(NamedTuple):
    """One part of the card: a heading and plain sentences; names of classes stand in them as they are."""

    heading: str
    sentences: tuple[str, ...]


def model_card(page: Page, result: SplitResult | None, found: tuple[Remark, ...]) -> tuple[CardPart, ...]:
    """The parts that are not empty; none without a model."""
    if page.model is None:
        return ()
    words, classes = words_of(result), page.data.classes if page.data else ()
    parts = (
        CardPart("Model", _what(page.model, words.activation)),
        CardPart("Intended use", words.purpose(page.model, classes) if classes else ()),
        CardPart("Training data", _learned(page)),
        CardPart("Performance", words.measured(result) if result else ()),
        CardPart("Limitations", _limits(page, found)),
        CardPart("Licences", _licences(page.model)),
    )
    return tuple(part for part in parts if part.sentences)


def _what(model: ModelSection, activation: str) -> tuple[str, ...]:
    size = f" of {model.parameters:,} parameters" if model.parameters else ""
    height, width = model.image_size
    return (
        f"An image classifier{size}: backbone {model.backbone}, pretrained weights {model.weights}, with {model.head}.",
        f"It takes RGB images, 0 to 255, resized to {height}×{width} pixels ({model.fit}), and gives a probability for "
        "each class; its preprocessing is inside the file.",
        f"Its probabilities are calibrated: logits are divided by a temperature of {model.temperature:.3f}."
        if model.temperature != 1
        else f"Its probabilities are the {activation} of its logits, not calibrated further.",
    )


def _learned(page: Page) -> tuple[str, ...]:
    if page.data is None:
        return ()
    counts = {split: sum(numbers) for split, numbers in page.data.counts.items()}
    by_split = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    train = page.data.counts.get("train")
    spread = f"A class has {min(train):,} to {max(train):,} training images." if train and len(train) > 1 else ""
    return tuple(filter(None, (f"Images by split: {page.data.rule or by_split}.".replace("..", "."), spread)))


def _limits(page: Page, found: tuple[Remark, ...]) -> tuple[str, ...]:
    remarks = tuple(remark.text for remark in found if remark.tone != "good")
    return (
        *remarks,
        "Its performance on images from another camera, place, time or way of collecting is unknown.",
    )


def _licences(model: ModelSection) -> tuple[str, ...]:
    if not model.licence:
        return ("The licence of the pretrained weights is not known to tlkit.",)
    sentences = [f"Pretrained weights: {model.licence}."]
    if "imagenet" in model.weights.lower():
        sentences.append(
            "They were trained on ImageNet, whose terms of access name non-commercial research and education."
        )
    return (*sentences, "The licence of the images it was trained on is not known to tlkit.")
