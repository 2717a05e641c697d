"""`tlkit finetune`: a folder of images in, a run folder with a classifier and a report out.

    tlkit finetune images --backbone resnet50 --out run
    tlkit finetune --resume run

Every step writes its result to the run folder, whole or not at all, and is skipped if that result exists. Resuming is
therefore simply running the same steps again.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

from tlkit.auditing import audit
from tlkit.auditing.evidence import Evidence
from tlkit.backbones import runtime
from tlkit.backbones.runtime import shared
from tlkit.base.errors import TlkitError
from tlkit.base.story import Phase, Silence, Story
from tlkit.data.clips import Sampling, holds_clips, scan_clips
from tlkit.data.dataset import Dataset, Splits
from tlkit.data.decode import set_aside
from tlkit.data.scan import labelling, scan
from tlkit.data.split import fixing, split
from tlkit.evaluation.judgement import refuse_hopeless
from tlkit.extraction.source import FeatureSource, Tap
from tlkit.options.commands import FinetuneConfig
from tlkit.report import outcome
from tlkit.report.headline import said_of
from tlkit.report.run_page import finish
from tlkit.runs import record, tracking
from tlkit.runs.folder import RunDir
from tlkit.training import crossing, minutes
from tlkit.training.costs import AUDITING, CHOOSING, EVALUATING
from tlkit.training.crossing import PHASE as CROSSING
from tlkit.training.plan import Plan
from tlkit.training.settle import refuse_for_clips, refuse_several_labels, reopened, settle
from tlkit.training.stages import Material, Parts, build_parts
from tlkit.training.train import train

BUILDING = "building the network"  # a phase without a count


def run(config: FinetuneConfig, story: Story | None = None) -> dict[str, Any]:
    """Train, evaluate and report; with `dry_run`, print the plan and stop; with `resume`, resume a run.

    Returns:
        `out`, `images`, `classes`, `set_aside`, `metrics`, `report`, `model`, `seconds`; for a dry
        run the `plan` instead of what was not produced.

    Raises:
        TlkitError: for wrong options, no usable images, missing weights, an occupied `out`.
    """
    story = story or Silence()
    tracking.refuse_missing(config.log)
    if config.resume:
        if config.moved_to:
            record.move_images(RunDir(Path(config.resume)), config.moved_to, story)
        return record.finished(config, story) or _walk(*record.reopen(config), story)
    if config.dry_run:
        return _dry_run(config, story)
    run_dir = record.begin(config)
    try:
        return _walk(config, run_dir, story)
    except (TlkitError, OSError):
        record.discard_empty(run_dir)
        raise
    except KeyboardInterrupt:
        record.give_back(run_dir)
        raise


def _dry_run(config: FinetuneConfig, story: Story) -> dict[str, Any]:
    """Return the plan without writing anything; no weights are read and nothing is measured."""
    runtime.seed_everything(config.seed)
    dataset, splits = _looked_at(config, story)
    with shared(config.devices):
        parts = build_parts(config, dataset, story, structure_only=True)
        plan = settle(config, parts, dataset, splits, budget=minutes.budget(config), measure=False)
    _tell(dataset, splits, plan, story)
    return {"images": len(dataset), "classes": list(dataset.classes), "plan": plan.as_json()}


def _walk(config: FinetuneConfig, run_dir: RunDir, story: Story) -> dict[str, Any]:
    """Run all steps on the requested devices."""
    with shared(config.devices):
        return _walked(config, run_dir, story)


def _walked(config: FinetuneConfig, run_dir: RunDir, story: Story) -> dict[str, Any]:
    """Run all steps from the images to the report, skipping those already done."""
    started, budget = time.monotonic(), minutes.budget(config)
    runtime.seed_everything(config.seed)
    known = record.read_images(run_dir)
    story.expect(*_phases())
    dataset, splits = known or _looked_at(config, story)
    story.begin(BUILDING)
    parts = build_parts(config, dataset, story, contract=record.read_contract(run_dir))
    if known:
        record.refuse_moved(run_dir, dataset)
        record.refuse_changed_images(run_dir, dataset)
        plan = reopened(run_dir.read_record()["plan"], config, dataset, splits)
        if budget:
            story.say(f"minutes: {budget.minutes:g} again, counted from here")
    else:
        plan = settle(config, parts, dataset, splits, budget=budget)
        record.write_images(run_dir, dataset, splits, **parts.facts(), plan=plan.as_json())
    _tell(dataset, splits, plan, story)
    story.expect(*_phases(plan))

    evidence: list[Evidence] = []
    sink = record.RunSink(run_dir, lambda material: evidence.extend(_audited(config, parts, material, run_dir, story)))
    trained = train(dataset, splits, parts, config, sink, plan=plan, budget=budget, story=story)
    story.begin(EVALUATING)
    metrics = finish(run_dir, trained, evidence[0] if evidence else None, story)
    story.say(outcome.describe_metrics(metrics))
    record.finish(run_dir, time.monotonic() - started)
    story.say(f"report: {run_dir.report}")
    if budget:
        story.say(budget.summary())
        record.update(run_dir, minutes={"promised": budget.minutes, "taken": round(budget.spent / 60, 3)})
    tracking.tell(config.log, run_dir, run_dir.path, story)
    return run_dir.result()


def _phases(plan: Plan | None = None) -> tuple[Phase, ...]:
    """The phases of a run with the seconds of its plan, or of a typical run if there is no plan yet."""
    first = (Phase("reading files", 0.2, 1e-3), Phase(BUILDING, 5.0))
    if plan is None:
        return (*first, Phase("extracting", 2.0, 0.03), Phase("training", 10.0, 0.1), Phase(EVALUATING, 6.0, 2e-3))
    besides = dict(plan.besides)
    before, after = [AUDITING, CROSSING], [CHOOSING, EVALUATING]
    stages = [Phase(stage.doing, stage.seconds) for stage in plan.stages]
    return (
        *first,
        Phase("extracting", plan.extraction_seconds),
        *(Phase(name, besides[name]) for name in before if name in besides),
        *stages,
        *(Phase(name, besides.get(name, 1.0)) for name in after),
    )


def _looked_at(config: FinetuneConfig, story: Story) -> tuple[Dataset, Splits]:
    """The inspected images and their split; raises if the options do not fit them."""
    scanned = _scanned(config, story)
    dataset = set_aside(scanned, scanned.unreadable(), config.on_bad)
    splits = _split(config, dataset)
    outcome.refuse_unknown_columns(dataset, config.slice_by)
    refuse_several_labels(config, dataset)
    refuse_hopeless(config.target_precision, splits)
    return dataset, splits


def _scanned(config: FinetuneConfig, story: Story) -> Dataset:
    images, asked = config.images or "", labelling(config)
    sampling = Sampling(config.most_frames, config.stride or 1, config.samples_are_clips)
    if holds_clips(images, sampling, config.group_by):
        refuse_for_clips(config)
        config.refuse_idle(config.over_time)
        return scan_clips(images, sampling, **asked, group_by=config.group_by, story=story)
    config.refuse_idle(None)
    fixes = fixing(config, partial(_split, config))
    return scan(images, **asked, group_by=config.group_by, fixes=fixes, look=True, story=story)


def _split(config: FinetuneConfig, dataset: Dataset) -> Splits:
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)
    if not len(splits.indices("train")):
        raise TlkitError(
            f"none of the {len(dataset)} {dataset.samples} is for training: {splits.rule}",
            "name the folder (or the value in the column `split`) of the training images train; to evaluate a "
            "classifier on these images: `tlkit evaluate RUN IMAGES`.",
        )
    return crossing.join_few(config, dataset, splits)


def _tell(dataset: Dataset, splits: Splits, plan: Plan, story: Story) -> None:
    """Report the images, their split and the plan."""
    for sentence in (_described(dataset), f"split {splits.rule}", plan.text()):
        story.say(said_of(dataset.sample, sentence, dataset.classes))


def _described(dataset: Dataset) -> str:
    shown = dataset.task.summary(dataset.truth, dataset.classes)
    bad = f"; {len(dataset.set_aside)} files set aside" if dataset.set_aside else ""
    known = int(dataset.labelled.sum())
    told = dataset.task.described(dataset.class_counts(), len(dataset), known, shown) + bad
    return told if dataset.clips is None else f"{told}; their frames are not audited"


def _audited(config: FinetuneConfig, parts: Parts, material: Material, run_dir: RunDir, story: Story) -> list[Evidence]:
    """The audit's findings, if an audit is requested and was not done before."""
    if not config.audit or run_dir.audit.exists() or material.dataset.clips is not None:
        return []
    story.begin(AUDITING)
    pooling = parts.head.pooling if parts.head.reads == "pooled" else "avg"
    tap = Tap(parts.backbone.model.layers[-1].name, pooling)
    source, rows = FeatureSource.of_backbone(parts.backbone, parts.contract, tap).asked(config), material.stored
    dataset, splits = material.dataset, material.splits
    return [audit.quick(config, dataset, splits, source, rows.get("features"), run_dir.audit, story)]
