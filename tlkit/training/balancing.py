"""`--balance auto`: settled once features are there, and kept in the record of the run."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tlkit.base.story import Story
from tlkit.data.dataset import Dataset, Splits
from tlkit.extraction.store import StoredFeatures, pooled
from tlkit.training.balance import Choice, choose, near_enough
from tlkit.training.plan import Decision
from tlkit.training.sink import Sink
from tlkit.training.stages import Material


def foreseen(dataset: Dataset, splits: Splits) -> Decision:
    """What the plan says of it, before there are features."""
    reason = _needless(dataset, splits.indices("train"))
    if reason:
        return Decision("balance", "none", reason)
    how = "the best macro-F1 of a linear head among none, weights and logit-adjust, once features are there"
    return Decision("balance", "by cross-validation", how)


def settled(material: Material, sink: Sink, story: Story) -> Material:
    """The material with a balance that stages know: measured where `auto` asks for it, recalled when resuming."""
    if material.config.balance != "auto":
        return material
    known = sink.read("balance")
    choice = Choice(**known) if known else _measured(material)
    sink.write("balance", asdict(choice))
    story.say(told(choice))
    return replace(material, config=replace(material.config, balance=choice.balance))


def notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What the record of a run says about it, for the report; nothing where there was nothing to settle."""
    return (told(Choice(**record["balance"])),) if "balance" in record else ()


def told(choice: Choice) -> str:
    """The choice in a sentence."""
    return f"balance {choice.balance}: {choice.reason}"


def _measured(material: Material) -> Choice:
    rows, labels = material.rows("train"), material.labels("train")
    reason = _needless(material.dataset, rows)
    if reason:
        return Choice("none", reason, {})
    stored = next(iter(material.views.get("features", ())), None)  # view 0: the images themselves
    if not isinstance(stored, StoredFeatures):
        return Choice("none", "no features are stored to measure it on", {})
    units = material.groups[rows]
    return choose(pooled(stored), labels, classes=material.classes, units=units, seed=material.config.seed)


def _needless(dataset: Dataset, train: np.ndarray) -> str:
    """Why there is nothing to measure, "" where there may be."""
    if dataset.multi:
        return "an image may have several labels, and every class is a question of its own"
    counts = np.bincount(dataset.labels[train], minlength=len(dataset.classes))
    if not counts.all():
        return "a class has no training images"
    return near_enough(counts)
