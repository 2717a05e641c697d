"""The report of a run, from the files in its folder: the same page whether it is written first or again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.auditing import duplicates
from tlkit.auditing.evidence import Evidence
from tlkit.auditing.findings import AUDIT_FORMAT, AuditResult
from tlkit.backbones import runtime
from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json, reading, sha256_file, write_json, write_text
from tlkit.base.story import Story
from tlkit.classifier.answers import Answers, Predictions
from tlkit.classifier.facts import read_facts
from tlkit.classifier.model import Classifier, save
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.look import looks_of
from tlkit.evaluation.choice import Choice
from tlkit.evaluation.compare import with_order
from tlkit.evaluation.evaluate import evaluate
from tlkit.evaluation.judgement import ClipReader, by_classifier, find_threshold, learn_familiarity, said_otherwise
from tlkit.evaluation.portrait import Portrait
from tlkit.evaluation.results import EvaluationResult
from tlkit.exporting.answer import write_answer
from tlkit.extraction.source import FeatureSource, Tap
from tlkit.options.catalog import BACKBONES, head_reads
from tlkit.options.commands import FinetuneConfig
from tlkit.report import outcome, overlays
from tlkit.report.build import EpochRow, ModelSection, Page, PlanRow
from tlkit.report.headline import said_of
from tlkit.runs import record as run_record
from tlkit.runs.folder import RunDir
from tlkit.runs.history import read_history
from tlkit.tasks.labels import as_lines
from tlkit.training import balance
from tlkit.training.choosing import solved_mean
from tlkit.training.plan import Plan
from tlkit.training.stages import Material
from tlkit.training.train import Trained

IN_WORDS = {"imagenet": "trained on ImageNet", "none": "random"}
OF_NANO = "distilled from a network trained on ImageNet"


def of_run(
    run_dir: RunDir,
    dataset: Dataset,
    splits: Splits,
    predictions: Predictions,
    evaluation: EvaluationResult,
    classifier: Callable[[], Classifier],
    command: str = "",
) -> Page:
    """The page of a run evaluated on its own images.

    Args:
        run_dir: with its record, options, history and model.
        dataset: its images, as they are now.
        splits: of them.
        predictions: of them.
        evaluation: of the predictions.
        classifier: loads it, where overlays have to be computed.
        command: that evaluated it again; "" where the run itself did.
    """
    record, config = run_dir.read_record(), run_record.begun_with(run_dir)[0]
    with reading(run_dir.history, f"`tlkit finetune --resume {run_dir.path}` recreates it."):
        history = read_history(run_dir.intact(run_dir.history))
    with reading(run_dir.record, run_record.AGAIN):
        plan = Plan.from_json(record["plan"])
    page = _page(run_dir, record, config, dataset, splits, predictions, evaluation, classifier)
    data = outcome.data_section(dataset, splits)
    return replace(
        page,
        title=f"{Path(record['images']).name}: {Path(record['backbone']['name']).name}",
        command="\n".join(filter(None, (record["command"], command))),
        created=record["created"],
        versions=record["versions"],
        hardware=_shown(record["hardware"]),
        data=replace(data, notes=(*data.notes, *balance.notes(record))),
        plan=_plan_rows(plan, record.get("stages", ()), history),
        decisions=[(one.option, one.value, one.reason) for one in plan.decisions],
        history=[EpochRow(**{name: row[name] for name in EpochRow.__dataclass_fields__}) for row in history],
        choice=read_choice(run_dir),
        audit=read_audit(run_dir.path / "audit.json"),
        synthesis=Portrait.from_json(record["synthesis"]) if "synthesis" in record else None,
        seeds={"everything": config.seed},
        config=run_dir.config.read_text(encoding="utf-8"),
    )


def of_others(
    run_dir: RunDir,
    images: str,
    dataset: Dataset,
    splits: Splits,
    predictions: Predictions,
    evaluation: EvaluationResult,
    classifier: Callable[[], Classifier],
) -> Page:
    """The page of a run evaluated on other images; arguments as for `of_run`, `images` as the user named them."""
    record, config = run_dir.read_record(), run_record.begun_with(run_dir)[0]
    page = _page(run_dir, record, config, dataset, splits, predictions, evaluation, classifier)
    return replace(
        page,
        title=f"{Path(images).resolve().name}: {Path(record['backbone']['name']).name} of {run_dir.path.resolve().name}",
        command=runtime.command_line(),
        created=run_record.now(),
        versions=runtime.versions(),
        hardware=_shown(runtime.hardware()),
    )


def _page(
    run_dir: RunDir,
    record: Mapping[str, Any],
    config: FinetuneConfig,
    dataset: Dataset,
    splits: Splits,
    predictions: Predictions,
    evaluation: EvaluationResult,
    classifier: Callable[[], Classifier],
) -> Page:
    """The content that both kinds of page share."""
    facts, model_sha256 = read_facts(run_dir.model), sha256_file(run_dir.model)
    contract: InputContract = facts.contract
    known = run_record.read_images(run_dir)
    neighbours = None
    if known is not None and facts.clip is None:
        train = known[0].select(known[1].indices("train"))
        tap = Tap.for_head(facts.grid_layer, head_reads(config.head, config.pooling), config.pooling)
        weights = record["backbone"]["sha256"]
        source = FeatureSource(model=None, outputs=(tap.name,), weights_sha256=weights, contract=contract)
        neighbours = overlays.neighbours(source.asked(config), train, dataset)
    return Page(
        title="",
        data=outcome.data_section(dataset, splits),
        evaluation=evaluation,
        predictions=predictions,
        model=_model(record, config, predictions, contract),
        thumbnail=outcome.thumbnails(dataset),
        overlays=overlays.overlays(classifier, model_sha256, contract, dataset, predictions)
        if facts.clip is None
        else overlays.frame_bars(classifier, facts, dataset, predictions),
        neighbours=neighbours,
        fingerprints={
            f"{dataset.samples} and labels": dataset.fingerprint(),
            "backbone weights": record["backbone"]["sha256"],
            "model.keras": model_sha256,
        },
    )


def _shown(hardware: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in hardware.items() if value}


def _model(
    record: Mapping[str, Any],
    config: FinetuneConfig,
    predictions: Predictions,
    contract: InputContract,
) -> ModelSection:
    """The classifier, for its card."""
    backbone = record["backbone"]
    row = BACKBONES.get(backbone["name"].partition(":")[0].lower())
    pretrained = config.weights == "imagenet" and row is not None
    words = IN_WORDS.get(config.weights, f"from {Path(config.weights).name}")
    if config.weights == "imagenet" and row is None:
        words = f"from {Path(config.backbone).name}"
    return ModelSection(
        backbone=backbone["name"],
        weights=OF_NANO if pretrained and row and row.name == "nano" else words,
        licence=row.licence if pretrained and row else "",
        head=_head(config, record.get("clips")),
        image_size=(contract.height, contract.width),
        fit=contract.fit,
        parameters=record.get("parameters"),
        temperature=predictions.temperature,
        threshold=predictions.threshold,
        intervals=predictions.margins is not None,
    )


def _head(config: FinetuneConfig, clips: Mapping[str, Any] | None) -> str:
    """The head in words."""
    if clips:
        beside = "" if config.over_time == "mean" else f"a {config.over_time} head beside "
        return f"{beside}the mean over time, of up to {clips['frames']} frames a clip"
    read = {"pooled": f" on {config.pooling} pooling", "grid": " on the flattened grid" * (config.pooling == "flatten")}
    return f"a {config.head} head" + read[head_reads(config.head, config.pooling)]


def read_choice(run_dir: RunDir) -> Choice | None:
    """Which weights the run ships; None where there was nothing to choose from."""
    if not run_dir.intact(run_dir.choice).is_file():
        return None
    with reading(run_dir.choice, f"`tlkit finetune --resume {run_dir.path}` recreates it."):
        return Choice.from_json(read_json(run_dir.choice))


def read_audit(path: Path) -> AuditResult | None:
    """The audit of a run's images; None where there was none.

    Raises:
        TlkitError: for a file that is not an audit of this format version.
    """
    if not path.is_file():
        return None
    again = "delete it, or write it again with tlkit audit."
    with reading(path, again):
        found = read_json(path)
        if found.get("format") != AUDIT_FORMAT:
            raise TlkitError(f"{path} has format {found.get('format')!r}, this tlkit reads {AUDIT_FORMAT}.", again)
        return AuditResult.from_json(found)


def _plan_rows(plan: Plan, ended: Any, history: list[dict[str, Any]]) -> list[PlanRow]:
    """Each stage with what it took and what it gained on validation.

    Args:
        plan: the stages.
        ended: `stages` of run.json: epochs, best_epoch and note of each.
        history: rows of all stages.
    """
    rows: list[PlanRow] = []
    before: float | None = None
    for stage, end in zip(plan.stages, ended, strict=False):
        own = [row for row in history if row["stage"] == stage.name]
        best = next((row["val_accuracy"] for row in own if row["epoch"] == end["best_epoch"]), None)
        rows.append(
            PlanRow(
                stage=stage.name,
                learns=stage.learns,
                epochs=end["epochs"],
                learning_rate=stage.learning_rate if stage.method == "gradient" else None,
                seconds=sum(row["seconds"] or 0.0 for row in own) if own else None,
                reason=f"{stage.reason}; {end['note']}",
                val_accuracy=best,
                gained=best - before if best is not None and before is not None else None,
            )
        )
        before = best
    return rows


# -- The end of a training run: calibration, the saved classifier, its evaluation and its report ---


def finish(run_dir: RunDir, result: Trained, evidence: Evidence | None, story: Story) -> dict[str, Any]:
    """Calibrate, choose when to abstain, save the classifier, evaluate, report.

    Args:
        run_dir: where everything goes.
        result: the images, the trained network, and its output for every image.
        evidence: of the audit before training; None where there was none.
        story: reports what was chosen.

    Returns:
        The content of metrics.json.
    """
    material, scores, crossed = result.material, result.logits, result.crossed
    config = material.config
    dataset, splits = material.dataset, material.splits
    classifier = result.calibrated().with_facts(target_precision=config.target_precision)
    source = replace(FeatureSource.of_classifier(classifier), batch_size=config.batch_size)
    reference, unfamiliarity = learn_familiarity(source, dataset, splits, scores, story)
    evidence = evidence or _looked_at(material, story)
    predictions = outcome.build_predictions(
        dataset,
        splits,
        Answers(scores, None if reference is None else unfamiliarity),
        classifier.facts,
        in_training=_kin(dataset, splits.codes == 0, evidence),
    )
    notes: tuple[str, ...] = (crossed.note,) if crossed else ()
    if config.target_precision is not None:
        threshold, sentence = find_threshold(predictions, config.target_precision)
        notes = (*notes, sentence)
        classifier = classifier.with_facts(threshold=threshold)
        predictions = outcome.judged_by(predictions, classifier.facts)
    classifier = classifier.knowing(reference)
    save(classifier, run_dir.model)
    write_answer(classifier, run_dir.model, story, source)
    write_json(run_dir.class_indices, {name: index for index, name in enumerate(dataset.classes)})
    write_text(run_dir.labels, as_lines(dataset.classes))
    columns = outcome.slice_columns(dataset, config.slice_by, np.arange(len(dataset)), evidence.looks)
    evaluation = evaluate(predictions, columns=columns, target_precision=config.target_precision)
    evaluation = replace(evaluation, notes=(*notes, *evaluation.notes))
    if dataset.clips is not None:
        reader = by_classifier(classifier, len(dataset), source)
        evaluation = _with_order(run_dir, result, reader, predictions, evaluation)
    for note in said_of(dataset.sample, evaluation.notes, dataset.classes):
        story.say(note)
    ended = [{"epochs": state.epoch, "best_epoch": state.best_epoch, "note": state.note} for state in result.states]
    run_record.update(run_dir, stages=ended, parameters=classifier.model.count_params())
    page = of_run(run_dir, dataset, splits, predictions, evaluation, lambda: classifier)
    return outcome.write_outcome(run_dir.path, predictions, evaluation, page)


def _kin(dataset: Dataset, trained: np.ndarray, evidence: Evidence) -> np.ndarray | None:
    """Which held-out images are copies of training images, or look like one; for clips, copies only."""
    if dataset.clips is not None:
        return duplicates.copied_clips(dataset.sha256, dataset.sha256[trained], trained)
    return duplicates.in_training(evidence.pictures, dataset.sha256, trained)


def _with_order(
    run_dir: RunDir, result: Trained, reader: ClipReader, predictions: Predictions, evaluation: EvaluationResult
) -> EvaluationResult:
    """Add the measures of whether the order of frames matters; the solved head on the mean is kept for later evaluations."""
    material, stage = result.material, result.plan.stages[0]
    mean = solved_mean(stage, material, run_dir.checkpoints / stage.name)
    mean.write(run_dir.mean)
    others = said_otherwise(reader, material.stored["features"], mean)
    return with_order(evaluation, predictions, others, material.classifier.facts.clip)


def _looked_at(material: Material, story: Story) -> Evidence:
    """The evidence that an audit would have gathered."""
    dataset = material.dataset
    looks, rows = looks_of(dataset, story), material.stored.get("features")
    features = duplicates.flat(looks.small) if rows is None else rows.pooled()
    return Evidence(dataset=dataset, codes=material.splits.codes, features=features, looks=looks, images="")
