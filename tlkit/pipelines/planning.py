"""The plan of a run, from its options, its images and the time it may take."""

import time
from dataclasses import replace
from typing import Protocol

import numpy as np

from tlkit.backbones.build import Backbone
from tlkit.classifier import Classifier
from tlkit.core import own_process
from tlkit.core.cache_budget import budget as disk_budget
from tlkit.core.config import FinetuneConfig
from tlkit.core.errors import TlkitError
from tlkit.core.input_contract import InputContract
from tlkit.core.manifest import Manifest
from tlkit.core.run_dir import RunDir
from tlkit.core.splits import Splits
from tlkit.core.story import Story
from tlkit.data.images import batches
from tlkit.extraction.room import list_spaces
from tlkit.extraction.store import store_dir
from tlkit.heads.build import Head
from tlkit.pipelines import run_record, unfreezing
from tlkit.pipelines.judgement import refuse_target
from tlkit.training.budget import PASSES_BACK, Budget, slowness
from tlkit.training.minutes import fit_into
from tlkit.training.plan import Plan
from tlkit.training.planner import build_plan

TIMED = 32  # images


class Parts(Protocol):
    """The network and how images meet it."""

    @property
    def backbone(self) -> Backbone:
        """What computes features."""

    @property
    def head(self) -> Head:
        """What reads them."""

    @property
    def classifier(self) -> Classifier:
        """The two composed."""

    @property
    def contract(self) -> InputContract:
        """What turns a file into pixels."""


def refuse_several_labels(config: FinetuneConfig, manifest: Manifest) -> None:
    """Raise for what knows images of one label alone.

    Raises:
        TlkitError: saying what to use instead.
    """
    if not manifest.multi:
        return
    refuse_target(config.target_precision, multi=True)
    if config.balance not in ("none", "auto"):
        raise TlkitError(
            f"--balance {config.balance} is for images of one label each, and these may have several.",
            "drop it: every class is a question of its own.",
        )
    if config.unfreeze == "auto":
        raise TlkitError(
            "--unfreeze auto measures with images of one label each, and these may have several.",
            "say which third: first, middle, last or all.",
        )


def planned(
    config: FinetuneConfig,
    parts: Parts,
    manifest: Manifest,
    splits: Splits,
    budget: Budget | None,
    why_blocks: str = "asked for",
) -> Plan:
    """The plan: what was asked for is kept, what was left open is chosen, and every choice has its reason."""
    config, notes = unfreezing.settled(config, parts.backbone, parts.contract, manifest, splits)
    network = parts.backbone, parts.classifier, parts.head.reads
    train, val = (len(splits.indices(name)) for name in ("train", "val"))
    disk, total = disk_budget(store_dir(), sum(space.bytes for space in list_spaces())), len(splits.codes)
    pace = None
    if budget:
        decode = _decoding(manifest, parts.contract)
        fitted = fit_into(budget, config, *network, train=train, val=val, total=total, decode=decode, disk=disk)
        why_blocks = "asked for" if config.blocks else "as many as there is time for"
        config, pace, notes = fitted.options, fitted.pace, (*notes, *fitted.notes)
    plan = build_plan(config, *network, train=train, total=total, disk=disk, pace=pace, why_blocks=why_blocks)
    return replace(plan, notes=(*notes, *plan.notes), unfreeze=config.unfreeze)


def _decoding(manifest: Manifest, contract: InputContract) -> float:
    """Seconds for each image, from the file to pixels, on some of them."""
    rows = np.linspace(0, len(manifest) - 1, min(TIMED, len(manifest))).astype(int)
    files = [manifest.file(row) for row in rows]
    started = time.perf_counter()
    for _ in batches(files, contract, 32):
        pass
    return (time.perf_counter() - started) / len(files)


def budget(config: FinetuneConfig) -> Budget | None:
    """The promise of `--minutes`, counted from the start of this process; None without one.

    A run that is gone on with has all its minutes again.
    """
    return None if config.minutes is None else Budget(config.minutes, time.monotonic() - own_process.age())


def set_aside(budget: Budget, plan: Plan, splits: Splits) -> None:
    """Keep what follows training, as the plan expects it."""
    train, val, total = len(splits.indices("train")), len(splits.indices("val")), len(splits.codes)
    last = plan.stages[-1]
    step = last.seconds / (last.epochs * max(train, 1)) if last.name != "head" else 0.0
    viewed = total + train * (max(stage.views for stage in plan.stages) - 1)
    forward = plan.extraction_seconds / viewed if plan.extraction_seconds else step / (1 + PASSES_BACK)
    budget.set_aside(step=step, forward=forward, val=val, total=total, pace=slowness())


def tell_again(budget: Budget | None, story: Story) -> None:
    """Say of a run that is gone on with how long it may take."""
    if budget:
        story.say(f"minutes: {budget.minutes:g} again, from here on")


def tell(budget: Budget, run_dir: RunDir, story: Story) -> None:
    """Say, and record, what was promised and what it took."""
    story.say(budget.told())
    run_record.update(run_dir, minutes={"promised": budget.minutes, "taken": round(budget.spent / 60, 3)})
