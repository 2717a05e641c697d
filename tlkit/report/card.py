"""The model card: what the classifier is, what it is for and where it ends (Mitchell et al. 2019)."""

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
    """The parts that have something to say; none without a model."""
    if page.model is None:
        return ()
    words, classes = words_of(result), page.data.classes if page.data else ()
    parts = (
        CardPart("What it is", _what(page.model, words.activation)),
        CardPart("What it is for", words.purpose(page.model, classes) if classes else ()),
        CardPart("What it learned from", _learned(page)),
        CardPart("How well it does", words.measured(result) if result else ()),
        CardPart("Where it ends", _limits(page, found)),
        CardPart("Licences", _licences(page.model)),
    )
    return tuple(part for part in parts if part.sentences)


def _what(model: ModelSection, activation: str) -> tuple[str, ...]:
    size = f" of {model.parameters:,} numbers" if model.parameters else ""
    height, width = model.image_size
    return (
        f"An image classifier{size}: the backbone {model.backbone}, first weights {model.weights}, with {model.head}.",
        f"It takes RGB images, 0 to 255, brought to {height}×{width} pixels ({model.fit}), and gives a probability for "
        "each class; its preprocessing is inside the file.",
        f"Its probabilities are calibrated: logits are divided by a temperature of {model.temperature:.3f}."
        if model.temperature != 1
        else f"Its probabilities are the {activation} of its logits, not calibrated further.",
    )


def _learned(page: Page) -> tuple[str, ...]:
    if page.data is None:
        return ()
    counts = {split: sum(numbers) for split, numbers in page.data.counts.items()}
    told = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    train = page.data.counts.get("train")
    spread = f"A class has {min(train):,} to {max(train):,} training images." if train and len(train) > 1 else ""
    return tuple(filter(None, (f"Images by split: {page.data.rule or told}.".replace("..", "."), spread)))


def _limits(page: Page, found: tuple[Remark, ...]) -> tuple[str, ...]:
    told = tuple(remark.text for remark in found if remark.tone != "good")
    return (
        *told,
        "Nothing here says how it does on images from another camera, place, time or way of collecting.",
    )


def _licences(model: ModelSection) -> tuple[str, ...]:
    if not model.licence:
        return ("The licence of the first weights is not known to tlkit.",)
    sentences = [f"First weights: {model.licence}."]
    if "imagenet" in model.weights.lower():
        sentences.append(
            "They go back to ImageNet, whose terms of access speak of non-commercial research and education."
        )
    return (*sentences, "The licence of the images it was trained on is not known to tlkit.")
