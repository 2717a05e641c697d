"""Every automatic choice of a run, settled in one list before anything is computed.

A run does what its plan says. For what can only be decided once features are computed (how classes are balanced, in which
precision to compute, what ships), the list says how it will be decided.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tlkit.backbones.build import Backbone
from tlkit.backbones.runtime import chosen
from tlkit.base.errors import TlkitError
from tlkit.base.machine import budget as disk_budget
from tlkit.classifier.heads.build import TIME_MEAN
from tlkit.classifier.model import Classifier
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.decode import batches
from tlkit.evaluation.judgement import refuse_target
from tlkit.extraction.engine import choose_engine, spared_by, worth_from
from tlkit.extraction.executors import opened
from tlkit.extraction.room import list_spaces
from tlkit.extraction.store import store_dir
from tlkit.options.catalog import PRESETS, TIMES
from tlkit.options.commands import FinetuneConfig
from tlkit.options.training import STAGES
from tlkit.training import balance, crossing
from tlkit.training.costs import AUDITING, CHOOSING, EVALUATING, HEAD_EPOCHS, is_convex, nth, parts
from tlkit.training.minutes import Budget, fit_into, slowness
from tlkit.training.plan import (
    NUMBER_BYTES,
    PACING,
    TRAINING_PASSES,
    Decision,
    Plan,
    Sizes,
    Stage,
    parameters,
    planned_epochs,
    seconds_per_operation,
    work,
)
from tlkit.training.planner import COMPILING, RATES, SOLVER_PASSES, build_plan
from tlkit.training.stages import Parts

CANDIDATES = 8  # measured for the choice of what ships: the probe, what was trained, interpolations, means of epochs
READYING = 2.0  # seconds: tracing their forward pass, reading their weights
TIMED = 32  # images that are decoded to time it


def settle(
    config: FinetuneConfig,
    source: Parts,
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
        source: the network.
        dataset: the images, every one of them readable.
        splits: of them.
        budget: of `--minutes`.
        measure: whether the network may be timed and inspected; if not, what would be measured is estimated.
        why_blocks: the reason for the number of blocks in `config`.

    Raises:
        TlkitError: options that are impossible with these images, this network or this time.
    """
    clips, config = dataset.clips, _possible(config, dataset, splits)
    asked, (config, decided) = config, preset(config, len(splits.indices("train")))
    counts = (len(splits.indices("train")), len(splits.indices("val")), len(splits.codes))
    sizes = Sizes(*counts, *disk_budget(store_dir(), sum(space.bytes for space in list_spaces())))
    decode = _decoding(dataset, source.contract) if measure and clips is None else None
    sizes = sizes if decode is None else replace(sizes, reading=decode)
    network, pace = (source.backbone, source.classifier, source.head.reads), None
    if budget:
        why_blocks = "asked for" if config.blocks else "as many as there is time for"
        fitted = fit_into(budget, config, *network, sizes, decode)
        _refuse_other_stages(asked, fitted.options, fitted.decision.reason)
        config, pace = fitted.options, fitted.pace
        decided.append(fitted.decision)

    def build(options: FinetuneConfig) -> Plan:
        if clips is not None:
            pacing = 0.0 if measure and source.is_stored(dataset, options) else PACING
            return clip_plan(options, source.backbone, source.classifier, sizes, len(clips.frames), pacing)
        return build_plan(options, *network, sizes, pace=pace, measure=measure, why_blocks=why_blocks)

    plan = build(config)
    why = crossing.unchecked(plan, asked, dataset, splits)
    if why:
        _refuse_other_stages(asked, config := _head_alone(config), why)
        plan = build(config).deciding(Decision("stages", "head", why))
    if asked.stages is None and config.stages is None and clips is None:
        why = "fine-tuning starts from the solved head, and ships only where it is better"
        decided.append(Decision("stages", ",".join(STAGES), why))
    balance.refuse_synthesis(config, plan)
    plan = replace(plan, decisions=(*decided, *plan.decisions), unfreeze=config.third)
    plan = plan.deciding(crossing.validation(plan, asked, dataset, splits), *_later(asked, source, dataset, splits))
    return replace(plan, besides=_besides(asked, plan, dataset, splits))


def _besides(config: FinetuneConfig, plan: Plan, dataset: Dataset, splits: Splits) -> tuple[tuple[str, float], ...]:
    """What the run does besides extraction and its stages."""
    audited = [AUDITING] * (config.audit and dataset.clips is None)
    found = parts((*audited, CHOOSING, EVALUATING), len(dataset), len(dataset.classes), slowness())
    judged = _judging(plan, len(splits.indices("train")), len(splits.indices("val")), len(splits.codes))
    found = tuple((name, seconds + judged * (name == CHOOSING)) for name, seconds in found)
    crossed = crossing.seconds(plan, config, dataset, splits)
    return (*found, (crossing.PHASE, crossed)) if crossed else found


def _judging(plan: Plan, train: int, val: int, total: int) -> float:
    """Seconds of predicting the `val` held-out images with every candidate, and all with the one that ships, at the stage's pace."""
    last = plan.stages[-1]
    if last.name not in ("top", "all"):
        return 0.0
    passes = (CANDIDATES * val + total) / (TRAINING_PASSES * max(train, 1))
    return READYING + passes * last.seconds / last.epochs


def _possible(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> FinetuneConfig:
    """The options, with those implied for clips; raises for options that do not apply to these samples."""
    refuse_several_labels(config, dataset)
    if dataset.clips is None:
        return config
    refuse_for_clips(config)
    return replace(config, preset=None, augment="none", mix="none")


# -- The plan of clips ---

TIME_PACE = 40  # about the least updates of an epoch: it goes through few clips several times

# Options for single images only, with the values allowed for clips: their frames are stored, and the backbone stays frozen.
FOR_IMAGES: dict[str, tuple[object, ...]] = {
    "stages": (None, ("head",)),
    "preset": (None, "default"),
    "blocks": (None,),
    "unfreeze": (None,),
    "minutes": (None,),
    "views": (None, 1),
    "augment": ("auto", "none"),
    "mix": ("auto", "none"),
    "head": ("linear",),
    "fixes": (None,),
    "keras_split": (None,),
}


def refuse_for_clips(options: FinetuneConfig) -> None:
    """Raise for options that do not apply to clips.

    Raises:
        TlkitError: naming the option.
    """
    for name, allowed in FOR_IMAGES.items():
        value = getattr(options, name)
        if value not in allowed:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise TlkitError(
                f"--{name.replace('_', '-')} {shown} is for single images, but the samples are clips.",
                "drop it: frames are computed once by the frozen backbone, and --time says what is trained on them.",
            )


def clip_plan(
    options: FinetuneConfig,
    backbone: Backbone,
    classifier: Classifier,
    sizes: Sizes,
    frames: int,
    pacing: float = PACING,
) -> Plan:
    """The plan for clips: the head on the mean over time is solved; then, unless only that was asked for, the order is learned.

    Args:
        options: what was asked for.
        backbone: the network.
        classifier: with a head over time.
        sizes: in clips.
        frames: of all clips together.
        pacing: seconds for which this machine is timed: hardly any where only small heads are computed.
    """
    task, clip = classifier.facts.task, classifier.facts.clip
    own = {layer.name for layer in backbone.model.layers}
    head = [layer for layer in classifier.model.layers if layer.name not in own]
    mean = [layer for layer in head if layer.name in (TIME_MEAN, "logits")]
    learns = {"head": mean, "time": [layer for layer in head if layer not in mean]}
    solved, speed = is_convex(replace(options, dropout=0.0)), seconds_per_operation(pacing)
    updates = TIMES[options.over_time].updates
    planned = planned_epochs(sizes.train, options.batch_size * options.accumulate, updates)
    step = {name: TRAINING_PASSES * work(layers) * speed for name, layers in learns.items()}
    held = frames * backbone.grid_shape[-1] * NUMBER_BYTES[options.stored_as]
    stages = []
    for number, name in enumerate(("head", "time")[: 1 + (options.stages is None and options.over_time != "mean")]):
        epochs = int(nth(options.epochs, number, HEAD_EPOCHS if name == "head" else min(planned, updates // TIME_PACE)))
        passes = max(1, round(planned / epochs)) if name == "time" and options.epochs is None else 1
        exactly = name == "head" and solved
        seen = (SOLVER_PASSES if exactly else epochs * passes) * sizes.train
        stage = Stage(
            name=name,
            method=task.solver if exactly else "gradient",
            source="features",
            blocks=0,
            cut="",
            views=1,
            epochs=epochs,
            learning_rate=float(nth(options.learning_rate, number, RATES[name])),
            parameters=parameters(learns[name]),
            stored_bytes=held,
            seconds=COMPILING + seen * step[name],
            passes=passes,
            reason="on the mean over time of stored features of frames"
            if name == "head"
            else f"{options.over_time} over up to {clip.frames if clip else 0} frames, on stored features, from the solved mean on"
            + f", each epoch {passes} times through the clips" * (passes > 1),
        )
        stages.append(stage)
    extraction = frames * (work(backbone.model.layers) - spared_by(backbone.model, frames)) * speed
    decisions = (_over_time(options, len(stages)),)
    return Plan(stages=tuple(stages), extraction_seconds=extraction, decisions=decisions, augment="none")


def _over_time(options: FinetuneConfig, stages: int) -> Decision:
    """How frames are read, and why."""
    why = "asked for" if options.time else "for a table of clips; the mean over time ships unless the order adds to it"
    if stages == 1 and options.over_time != "mean":
        why = "not trained: the mean over time is all that learns"
    return Decision("time", options.over_time, why)


def preset(config: FinetuneConfig, train: int) -> tuple[FinetuneConfig, list[Decision]]:
    """The options, with those not given taken from their preset, and the decision that says so.

    Args:
        config: as asked for.
        train: training images.
    """
    if config.preset is None:
        return config, []
    row, said = PRESETS[config.preset], config.of_preset()
    stages = said.get("stages") or config.in_stages
    if row.longer > 1 and config.epochs is None and len(stages) > 1:
        planned = row.longer * planned_epochs(train, config.batch_size * config.accumulate)
        said["epochs"] = tuple(HEAD_EPOCHS if stage == "head" else planned for stage in stages)
    open_depth = config.blocks is None and config.unfreeze is None and "top" in stages
    afresh = config.views is None and config.augment != "none"
    if row.every_from is not None and train >= row.every_from and open_depth and afresh:
        said["unfreeze"] = "all"
    mine = {"stages": row.stages, "views": row.views, "epochs": row.longer > 1 or None}
    given = [f"--{name}" for name, value in mine.items() if value is not None and getattr(config, name) is not None]
    after_head = said | ({"epochs": said["epochs"][-1]} if "epochs" in said else {})
    shown = ", ".join(f"{name} {_listed(value)}" for name, value in after_head.items()) or "nothing else than planned"
    why = row.words + f"; {', '.join(given)} as given" * bool(given)
    return replace(config, preset=None, **said), [Decision("preset", f"{row.name} ({shown})", why)]


def _listed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def reopened(content: dict[str, Any], config: FinetuneConfig, dataset: Dataset, splits: Splits) -> Plan:
    """The plan that a run was started with; one from before plans named their validation is completed."""
    plan = Plan.from_json(content)
    if plan.decision("validate"):
        return plan
    why = crossing.unchecked(plan, config, dataset, splits)
    if why:
        plan = replace(plan, stages=plan.stages[:1]).deciding(Decision("stages", "head", why))
    return plan.deciding(crossing.validation(plan, config, dataset, splits))


def refuse_several_labels(config: FinetuneConfig, dataset: Dataset) -> None:
    """Raise for options that do not apply to the task of the images, and for a truth that cannot be learned.

    Raises:
        TlkitError: saying what to use instead.
    """
    refuse_target(config.target_precision, dataset.task)
    if config.balance not in ("none", "auto"):
        dataset.task.refuse("balance", f"--balance {config.balance}")
    losses = dataset.task.trained_by
    if config.loss is not None and config.loss not in losses:
        raise TlkitError(
            f"--loss {config.loss} is for another kind of target; these images are of --task {dataset.task.name}.",
            f"use one of {', '.join(losses)}.",
        )
    if config.label_smoothing and "crossentropy" not in losses:
        raise TlkitError(
            f"--label-smoothing {config.label_smoothing} is for classes, and these are numbers.", "drop it."
        )
    if fault := dataset.task.unlearnable(dataset.truth, dataset.classes):
        raise fault


def _refuse_other_stages(asked: FinetuneConfig, planned: FinetuneConfig, why: str) -> None:
    """Raise where stages other than the default ones were asked for and are not planned."""
    if asked.stages is not None and planned.stages != asked.stages:
        raise TlkitError(
            f"--stages {','.join(asked.stages)} cannot be done here. {why}",
            "--stages head trains the head alone, and so does the plan without --stages.",
        )


def _head_alone(config: FinetuneConfig) -> FinetuneConfig:
    """The options of a run whose backbone stays frozen."""
    first = {name: getattr(config, name) and getattr(config, name)[:1] for name in ("epochs", "learning_rate")}
    return replace(config, stages=("head",), blocks=None, unfreeze="last", **first)


def _decoding(dataset: Dataset, contract: InputContract) -> float:
    """Seconds for each image, from the file to pixels, on some of them; starting threads and decoders is not timed."""
    rows = np.linspace(0, len(dataset) - 1, min(TIMED, len(dataset))).astype(int)
    files = [dataset.file(row) for row in rows]
    for few in (files[:1], files):
        started = time.perf_counter()
        for _ in batches(few, contract, 32):
            pass
    return (time.perf_counter() - started) / len(files)


def _later(config: FinetuneConfig, source: Parts, dataset: Dataset, splits: Splits) -> Iterator[Decision]:
    """The precision and devices of the computation, and what is decided once features are computed."""
    name, why = choose_engine(source.backbone.model)
    if config.engine == "auto":
        least = worth_from(source.backbone.model)
        many = f"; for {least:,} images and more the network as ONNX, with fewer multiplications" if least else ""
        yield Decision("engine", name, why + many)
    if config.devices is not None and len(names := chosen(config.devices)) > 1:
        how = f"asked for: rows of every batch are divided among them, and its last one is padded to a multiple of {len(names)}"
        yield Decision("devices", f"{len(names)} ({', '.join(names)})", f"{how}; seconds are those of one")
    if config.executor != "here":
        with opened(config.executor) as executor:
            who = executor.describe(name if config.engine == "auto" else config.engine)
        yield Decision(
            "executor", who, "features, and the folds of a cross-validation; all other training is done here"
        )
    if config.precision == "auto":
        how = "for features bfloat16 where the store holds most rows in it, or a trial on up to 64 images finds it faster and as good"
        yield Decision("precision", "by trial", how)
    if config.balance == "auto":
        yield balance.foreseen(dataset, splits)
    if config.balance == "post-hoc":
        yield Decision(
            "balance", "post-hoc", "its strength by cross-validation of a linear head, once features are computed"
        )
