"""Every automatic choice of a run, settled in one list before anything is computed.

A run does what its plan says. What can only be decided once features are there (how classes are balanced, in which
precision to compute, what ships) is in the list with how it will be decided.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.machine import budget as disk_budget
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.decode import batches
from tlkit.evaluation.judgement import refuse_target
from tlkit.extraction.engine import choose_engine
from tlkit.extraction.room import list_spaces
from tlkit.extraction.store import store_dir
from tlkit.options.commands import FinetuneConfig
from tlkit.training import balance, crossing
from tlkit.training.minutes import Budget, fit_into
from tlkit.training.parts import Parts
from tlkit.training.plan import Decision, Plan
from tlkit.training.planner import build_plan

TIMED = 32  # images that are decoded to see how long that takes


def settle(
    config: FinetuneConfig,
    parts: Parts,
    dataset: Dataset,
    splits: Splits,
    *,
    budget: Budget | None = None,
    measure: bool = True,
    why_blocks: str = "asked for",
) -> Plan:
    """The plan: what was asked for is kept, what was left open is chosen, and every choice has its reason.

    Args:
        config: the options.
        parts: the network; its weights matter for `--unfreeze auto` alone.
        dataset: the images, every one of them readable.
        splits: of them.
        budget: of `--minutes`.
        measure: whether the network may be timed and looked at; without, what would be measured is estimated.
        why_blocks: why as many blocks as `config` says.

    Raises:
        TlkitError: options that these images, this network or this time cannot do.
    """
    refuse_several_labels(config, dataset)
    asked, decided = config, []
    if config.unfreeze == "auto":
        config, decision = _third(config, parts, dataset, splits, measure=measure)
        decided.append(decision)
    sizes: dict[str, Any] = {"train": len(splits.indices("train")), "total": len(splits.codes)}
    sizes["disk"] = disk_budget(store_dir(), sum(space.bytes for space in list_spaces()))
    network, pace = (parts.backbone, parts.classifier, parts.head.reads), None
    if budget:
        why_blocks = "asked for" if config.blocks else "as many as there is time for"
        decode = _decoding(dataset, parts.contract) if measure else None
        fitted = fit_into(budget, config, *network, **sizes, val=len(splits.indices("val")), decode=decode)
        _refuse_other_stages(asked, fitted.options, fitted.decision.reason)
        config, pace = fitted.options, fitted.pace
        decided.append(fitted.decision)

    def build(options: FinetuneConfig) -> Plan:
        return build_plan(options, *network, **sizes, pace=pace, measure=measure, why_blocks=why_blocks)

    plan = build(config)
    why = crossing.unchecked(plan, asked, dataset, splits)
    if why:
        _refuse_other_stages(asked, config := _head_alone(config), why)
        plan = build(config).deciding(Decision("stages", "head", why))
    plan = replace(plan, decisions=(*decided, *plan.decisions), unfreeze=config.unfreeze)
    return plan.deciding(crossing.validation(plan, asked, dataset, splits), *_later(asked, parts, dataset, splits))


def reopened(content: dict[str, Any], config: FinetuneConfig, dataset: Dataset, splits: Splits) -> Plan:
    """The plan that a run was begun with; one from before plans said how they are checked is completed."""
    plan = Plan.from_json(content)
    if plan.decision("validate"):
        return plan
    why = crossing.unchecked(plan, config, dataset, splits)
    if why:
        plan = replace(plan, stages=plan.stages[:1]).deciding(Decision("stages", "head", why))
    return plan.deciding(crossing.validation(plan, config, dataset, splits))


def refuse_several_labels(config: FinetuneConfig, dataset: Dataset) -> None:
    """Raise for what knows images of one label alone.

    Raises:
        TlkitError: saying what to use instead.
    """
    if not dataset.multi:
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


def _refuse_other_stages(asked: FinetuneConfig, planned: FinetuneConfig, why: str) -> None:
    """Stages other than the default ones were asked for, and are trained or refused."""
    if asked.stages != FinetuneConfig.stages and planned.stages != asked.stages:
        raise TlkitError(
            f"--stages {','.join(asked.stages)} cannot be done here. {why}",
            "--stages head trains the head alone, and so does the plan without --stages.",
        )


def _head_alone(config: FinetuneConfig) -> FinetuneConfig:
    """The options of a run whose backbone stays as it is."""
    first = {name: getattr(config, name) and getattr(config, name)[:1] for name in ("epochs", "learning_rate")}
    return replace(config, stages=("head",), blocks=None, unfreeze="last", lora=None, **first)


def _third(
    config: FinetuneConfig, parts: Parts, dataset: Dataset, splits: Splits, *, measure: bool
) -> tuple[FinetuneConfig, Decision]:
    """Which third of the network learns, where that is left open."""
    if measure:
        from tlkit.training import relative  # of this option alone

        return relative.settled(config, parts.backbone, parts.contract, dataset, splits)
    how = "the largest gradients against the weights, measured before anything is trained; planned here as if it were the last"
    return replace(config, unfreeze="last"), Decision("unfreeze", "a third, by measurement", how)


def _decoding(dataset: Dataset, contract: InputContract) -> float:
    """Seconds for each image, from the file to pixels, on some of them."""
    rows = np.linspace(0, len(dataset) - 1, min(TIMED, len(dataset))).astype(int)
    files = [dataset.file(row) for row in rows]
    started = time.perf_counter()
    for _ in batches(files, contract, 32):
        pass
    return (time.perf_counter() - started) / len(files)


def _later(config: FinetuneConfig, parts: Parts, dataset: Dataset, splits: Splits) -> Iterator[Decision]:
    """What is computed in, and what waits for features."""
    if config.engine == "auto":
        yield Decision("engine", *choose_engine(parts.backbone.model))
    if config.precision == "auto":
        how = "bfloat16 where the store holds most rows in it, or where a trial on up to 64 images finds it faster and as good"
        yield Decision("precision", "by trial", how)
    if config.balance == "auto":
        yield balance.foreseen(dataset, splits)
    if config.search:
        how = "rate, decay, smoothing and, unless asked for, depth and augmentation of the last stage, by validation"
        yield Decision("search", f"the best of {config.search} trials", how)
