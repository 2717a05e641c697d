"""`--balance auto`: settled once features are there, and kept in the record of the run."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tlkit.base.story import Story
from tlkit.runs import record as run_record
from tlkit.runs.folder import RunDir
from tlkit.training.balance import BalanceChoice, choose
from tlkit.training.stages import Material


def settled(material: Material, run_dir: RunDir, story: Story) -> Material:
    """The material with a balance that stages know: measured where `auto` asks for it, recalled when resuming."""
    if material.config.balance != "auto":
        return material
    known = run_dir.read_record().get("balance")
    choice = BalanceChoice(**known) if known else _measured(material)
    run_record.update(run_dir, balance=asdict(choice))
    story.say(told(choice))
    return replace(material, config=replace(material.config, balance=choice.balance))


def notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What the record of a run says about it, for the report; nothing where there was nothing to settle."""
    return (told(BalanceChoice(**record["balance"])),) if "balance" in record else ()


def told(choice: BalanceChoice) -> str:
    """The choice in a sentence."""
    return f"balance {choice.balance}: {choice.reason}"


def _measured(material: Material) -> BalanceChoice:
    if not material.dataset.task.can("balance"):
        return BalanceChoice("none", "an image may have several labels, and every class is a question of its own", {})
    rows, labels = material.rows("train"), material.labels("train")
    stored = next(iter(material.views.get("features", ())), None)  # view 0: the images themselves
    if stored is None:
        return BalanceChoice("none", "no features are stored to measure it on", {})
    if len(np.unique(labels)) < material.classes:
        return BalanceChoice("none", "a class has no training images", {})
    units = material.groups[rows]
    return choose(stored.pooled(), labels, classes=material.classes, units=units, seed=material.config.seed)
