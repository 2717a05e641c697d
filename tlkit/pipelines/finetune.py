"""`tlkit finetune`: a folder of images in, a run folder with a classifier and a report out.

    tlkit finetune images --backbone resnet50 --out run
    tlkit finetune --resume run

Every step leaves its result in the run folder, whole or not at all, and is skipped where that
result already is. Resuming is therefore nothing but walking the same path again.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from tlkit.backbones import runtime
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.base.errors import TlkitError
from tlkit.base.story import Silence, Story
from tlkit.classifier.heads.build import Head, build_head, pool
from tlkit.classifier.model import Classifier, compose
from tlkit.data.dataset import Dataset, InputContract, Problem, Splits
from tlkit.data.decode import batches, set_aside
from tlkit.data.scan import scan
from tlkit.data.split import split
from tlkit.data.views import CENTRE, Augmentation
from tlkit.evaluation.judgement import refuse_hopeless
from tlkit.extraction.extract import Extraction, Network
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines import audit
from tlkit.pipelines.features import extracted, told
from tlkit.report import outcome
from tlkit.report.run_page import finish
from tlkit.runs import record, tracking
from tlkit.runs.folder import RunDir
from tlkit.runs.history import write_event_files, write_history
from tlkit.training import balancing, choosing, crossing, minutes, search
from tlkit.training.checkpoint import Checkpoint, State
from tlkit.training.minutes import Budget
from tlkit.training.plan import Plan, Stage
from tlkit.training.stages import Material, logits, run_stage


def run(config: FinetuneConfig, story: Story | None = None) -> dict[str, Any]:
    """Train, evaluate and report; with `dry_run`, print the plan and stop; with `resume`, go on.

    Returns:
        `out`, `images`, `classes`, `set_aside`, `metrics`, `report`, `model`, `seconds`; of a dry
        run the `plan` instead of what was not made.

    Raises:
        TlkitError: wrong options, no usable images, missing weights, occupied `out`.
    """
    story = story or Silence()
    tracking.refuse_missing(config.log)
    search.refuse_missing(config)
    if config.resume:
        return record.finished(config, story) or _walk(*record.reopen(config), story)
    if config.dry_run:
        return _dry_run(config, story)
    run_dir = record.begin(config)
    try:
        return _walk(config, run_dir, story)
    except TlkitError:
        record.discard_empty(run_dir)
        raise


def _dry_run(config: FinetuneConfig, story: Story) -> dict[str, Any]:
    """The plan, and nothing on disk."""
    runtime.seed_everything(config.seed)
    dataset, splits = _scanned(config, story)
    network = _network(config, dataset, story)
    plan = minutes.planned(config, network, dataset, splits, minutes.budget(config))
    story.say(_described(dataset) + "\n" + plan.text())
    return {"images": len(dataset), "classes": list(dataset.classes), "plan": plan.as_json()}


def _walk(config: FinetuneConfig, run_dir: RunDir, story: Story) -> dict[str, Any]:
    """From the images to the report, past every step that is already done."""
    started, budget = time.monotonic(), minutes.budget(config)
    runtime.seed_everything(config.seed)
    known = record.read_images(run_dir)
    if known:
        record.refuse_changed_images(run_dir, known[0])
        minutes.tell_again(budget, story)
    dataset, splits = known or _scanned(config, story)
    network = _network(config, dataset, story)
    plan = record.read_plan(run_dir) or minutes.planned(config, network, dataset, splits, budget)
    config = replace(config, augment=plan.augment or config.augment, unfreeze=plan.unfreeze or config.unfreeze)
    story.say(_described(dataset) + "\n" + plan.text())

    frozen = _frozen(plan, network)
    extraction = _extract(config, network.contract, frozen, plan, dataset, splits, story)
    if not known:
        bad = extraction.problems
        dataset = set_aside(dataset, bad, config.on_bad)
        splits = _split(config, dataset)
        record.write_images(run_dir, dataset, splits, plan, network.backbone, network.contract)
        story.say(f"split {splits.rule}")
        if bad:  # what was set aside moves the split a little
            extraction = _extract(config, network.contract, frozen, plan, dataset, splits, story)
    material = _material(config, network, _stored(plan, network), dataset, splits, extraction)
    del frozen  # its engine holds a second copy of the weights
    material = balancing.settled(material, run_dir, story)
    evidence = None
    if config.audit and not run_dir.audit.exists():
        evidence = audit.quick(config, material, network.contract, run_dir.audit, story)

    plan, crossed = crossing.cross_validated(plan, run_dir, material, story)
    if budget:
        minutes.set_aside(budget, plan, splits)
    states: list[State] = []
    for number in range(len(plan.stages)):
        if config.search and number == len(plan.stages) - 1:
            prepare = partial(_prepared, network=network, dataset=dataset, splits=splits, story=story)
            plan, material = search.searched(plan, material, run_dir, prepare, story)
        states.append(_stage(plan.stages[number], material, run_dir, budget, story))
        _write_history(run_dir, states)
    made = choosing.choose(run_dir, plan, material, states, story, crossed.choice if crossed else None)
    scores = logits(choosing.ships_from(plan, made), material, story)
    if made is not None:
        choosing.record_gain(made, run_dir, plan, material, scores, story)
    metrics = finish(config, run_dir, material, states, scores, evidence, story, crossed)
    story.say(outcome.told(metrics))
    seconds = record.finish(run_dir, time.monotonic() - started)
    story.say(f"report: {run_dir.report}")
    if budget:
        minutes.tell(budget, run_dir, story)
    tracking.tell(config.log, run_dir, run_dir.path, story)
    return record.result(run_dir, dataset, metrics, seconds)


def _stage(stage: Stage, material: Material, run_dir: RunDir, budget: Budget | None, story: Story) -> State:
    """Run a stage, and say what came of it."""
    story.say(f"stage {stage.name}: {stage.learns}")
    state = run_stage(stage, material, Checkpoint(run_dir.checkpoints / stage.name), story, budget)
    story.say(f"  {state.note}")
    return state


# -- images ------------------------------------------------------------------------------------


def _scanned(config: FinetuneConfig, story: Story) -> tuple[Dataset, Splits]:
    """The images and their split as far as file headers tell; extraction may set more aside."""
    dataset = scan(
        config.images or "", classes=config.classes, group_by=config.group_by, fixes=config.fixes, story=story
    )
    splits = _split(config, dataset)
    outcome.refuse_unknown_columns(dataset, config.slice_by)
    minutes.refuse_several_labels(config, dataset)
    refuse_hopeless(config.target_precision, splits)
    return dataset, splits


def _split(config: FinetuneConfig, dataset: Dataset) -> Splits:
    splits = split(dataset, val=config.val, test=config.test, seed=config.seed, keras_split=config.keras_split)
    return crossing.join_few(config, dataset, splits)


def _described(dataset: Dataset) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in zip(dataset.classes, dataset.class_counts(), strict=True))
    shown = (
        counts
        if len(dataset.classes) <= 12
        else f"{dataset.class_counts().min()} to {dataset.class_counts().max()} each"
    )
    bad = f"; {len(dataset.set_aside)} files set aside" if dataset.set_aside else ""
    if dataset.multi:
        mean = dataset.class_counts().sum() / max(1, dataset.labelled.sum())
        return f"{len(dataset)} images with any of {len(dataset.classes)} labels ({shown}), {mean:.1f} an image{bad}"
    return f"{len(dataset)} images in {len(dataset.classes)} classes ({shown}){bad}"


# -- network -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """The network and how images meet it."""

    backbone: Backbone
    head: Head
    classifier: Classifier
    contract: InputContract

    @property
    def feature(self) -> str:
        """Name of the stored input of the head."""
        grid = self.classifier.facts.grid_layer
        return f"{grid}:{self.head.pooling}" if self.head.reads == "pooled" else grid


def _network(config: FinetuneConfig, dataset: Dataset, story: Story) -> _Parts:
    backbone = build_backbone(
        config.backbone, weights=config.weights, image_size=config.image_size, seed=config.seed, story=story
    )
    height, width = backbone.image_size
    contract = InputContract(height=height, width=width, fit=config.fit)
    head = build_head(config, backbone.grid_shape, len(dataset.classes), seed=config.seed)
    return _Parts(backbone, head, compose(backbone, head, dataset.classes, contract, dataset.task), contract)


def _stored(plan: Plan, parts: _Parts) -> dict[str, str]:
    """What the plan keeps on disk, `features` and `cut`, and the name of the output that is stored for it."""
    names = {"features": lambda stage: parts.feature, "cut": lambda stage: stage.cut}
    return {stage.source: names[stage.source](stage) for stage in plan.stages if stage.source in names}


def _frozen(plan: Plan, parts: _Parts) -> Network:
    """What is computed once: the input of the head and, for the top stage, the output at the cut; in one pass."""
    model, stored = parts.backbone.model, _stored(plan, parts)
    outputs = {name: model.get_layer(layer).output for name, layer in stored.items() if name == "cut"}
    if "features" in stored:
        features = pool(model.output, parts.head.pooling) if parts.head.reads == "pooled" else model.output
        outputs = {"features": features, **outputs}
    built = keras.Model(model.input, list(outputs.values())) if outputs else model
    return Network(built, tuple(stored[name] for name in outputs), parts.backbone.weights_sha256, parts.backbone.name)


def _augmentation(config: FinetuneConfig) -> Augmentation:
    return Augmentation(strength=config.augment, flip=config.flip, seed=config.seed)


def _extract(
    config: FinetuneConfig,
    contract: InputContract,
    frozen: Network,
    plan: Plan,
    dataset: Dataset,
    splits: Splits,
    story: Story,
) -> Extraction:
    """Everything the stages read that is frozen: of every image, and of as many views of training images as planned."""
    if not frozen.outputs:
        return Extraction(problems=_unreadable(dataset, contract, story))
    train, views = splits.indices("train"), range(max(1, *(stage.views for stage in plan.stages)))
    found = extracted(
        config, frozen, dataset, contract, story, views=views, viewed=train, augmentation=_augmentation(config)
    )
    more = f" and {len(views) - 1} more of each of {len(train)} training images" if len(views) > 1 else ""
    story.say(f"a view of each of {len(dataset)} images{more}: {told(found)}")
    return found


def _unreadable(dataset: Dataset, contract: InputContract, story: Story) -> list[Problem]:
    """Files that cannot be decoded, where nothing is extracted that would have found them."""
    files = [dataset.file(i) for i in range(len(dataset))]
    read = story.track(batches(files, contract, 32), "checking", len(files))
    return [Problem(dataset.paths[i], reason) for batch in read for i, reason in batch.problems]


def _material(
    config: FinetuneConfig,
    parts: _Parts,
    stored: dict[str, str],
    dataset: Dataset,
    splits: Splits,
    extraction: Extraction,
) -> Material:
    """Everything the stages read."""
    train, features = splits.indices("train"), extraction.features
    numbers = sorted({number for _, number in features})
    names = dataset.groups or [row.tobytes() for row in dataset.sha256]
    return Material(
        config=config,
        backbone=parts.backbone,
        head=parts.head,
        classifier=parts.classifier,
        dataset=dataset,
        splits=splits,
        stored={name: features[output, CENTRE] for name, output in stored.items()},
        augmentation=_augmentation(config),
        views={name: [features[output, view].select(train) for view in numbers] for name, output in stored.items()},
        groups=np.unique(names, return_inverse=True)[1],
    )


def _prepared(
    config: FinetuneConfig, *, network: _Parts, dataset: Dataset, splits: Splits, story: Story
) -> tuple[Plan, Material]:
    """The plan of other options, and what its stages read."""
    plan = minutes.planned(config, network, dataset, splits, None, why_blocks="as this trial has it")
    extraction = _extract(config, network.contract, _frozen(plan, network), plan, dataset, splits, story)
    return plan, _material(config, network, _stored(plan, network), dataset, splits, extraction)


# -- results -----------------------------------------------------------------------------------


def _write_history(run_dir: RunDir, states: list[State]) -> None:
    rows = [row for state in states for row in state.history]
    write_history(run_dir.history, rows)
    write_event_files(run_dir.logs, rows)
