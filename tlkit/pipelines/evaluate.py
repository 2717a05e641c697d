"""`tlkit evaluate`: a run, and perhaps other images, in; metrics and a report out.

tlkit evaluate run
tlkit evaluate run other-images
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkit import runtime
from tlkit.classifier import Facts, load, read_facts
from tlkit.core.config import EvaluateConfig
from tlkit.core.errors import TlkitError
from tlkit.core.fingerprint import sha256_file
from tlkit.core.manifest import Manifest
from tlkit.core.predictions import Predictions
from tlkit.core.results import EvaluationResult
from tlkit.core.run_dir import RunDir, refuse_occupied
from tlkit.core.splits import UNASSIGNED, Splits
from tlkit.core.story import Silence, Story
from tlkit.data.augment import CENTRE
from tlkit.data.contents import read_contents
from tlkit.data.problems import set_aside
from tlkit.data.scan import scan
from tlkit.evaluation.evaluate import evaluate
from tlkit.extraction.extract import Network, extract
from tlkit.pipelines import outcome, run_record
from tlkit.pipelines.features import told
from tlkit.report.build import Page


def run(config: EvaluateConfig, story: Story | None = None) -> dict[str, Any]:
    """Predict with the finished classifier and measure.

    Without images: the run's own, split as the run was; its predictions, metrics and report are
    written anew. With images: those, in a folder of their own, and those of them that the classifier
    was trained on are recognised by content, said, and measured apart.

    Returns:
        `out`, `images`, `set_aside`, `trained_on` (images recognised), `metrics`, `report`.

    Raises:
        TlkitError: not a run, classes the classifier does not know, occupied `out`.
    """
    story, run_dir = story or Silence(), RunDir(Path(config.run))
    record = run_dir.read_record()
    facts = read_facts(run_dir.model)
    out = _out(config, run_dir)
    manifest, splits = _images(config, run_dir, facts, story)

    network = Network(lambda: load(run_dir.model).model, ("logits",), sha256_file(run_dir.model), facts.backbone)
    extraction = extract(network, manifest, facts.contract, batch_size=config.batch_size, story=story)
    story.say(told(extraction, "predictions"))
    logits = extraction.features["logits", CENTRE]
    good = np.flatnonzero(~logits.lacking)
    splits = splits.select(good)
    manifest = set_aside(manifest, extraction.problems, config.on_bad)

    predictions = outcome.build_predictions(manifest, splits, logits[good], facts.temperature, facts.classes)
    seen = np.isin(np.array(predictions.sha256), np.array(facts.trained_on or ("",)))
    evaluation = _measured(predictions, seen, own=config.images is None)
    for note in evaluation.notes:
        story.say(note)
    page = Page(
        title=f"{Path(config.images or record['images']).name}: {facts.backbone}",
        command=runtime.command_line(),
        created=run_record.now(),
        versions=runtime.versions(),
        hardware={name: str(value) for name, value in runtime.hardware().items() if value},
        data=outcome.data_section(manifest, splits, evaluation.notes),
        evaluation=evaluation,
        predictions=predictions,
        thumbnail=outcome.thumbnails(manifest.root),
        fingerprints={"images and labels": manifest.fingerprint(), "backbone weights": record["backbone"]["sha256"]},
    )
    metrics = outcome.write_outcome(out, predictions, evaluation, page)
    story.say(outcome.told(metrics))
    story.say(f"report: {out / 'report.html'}")
    return {
        "out": str(out),
        "images": len(manifest),
        "set_aside": [problem.as_json() for problem in manifest.set_aside],
        "trained_on": int(seen.sum()),
        "metrics": metrics,
        "report": str(out / "report.html"),
    }


def _out(config: EvaluateConfig, run_dir: RunDir) -> Path:
    """Where the results go: the run itself for its own images, a folder in it for others."""
    if config.images is None and config.out is None:
        return run_dir.path
    out = Path(config.out) if config.out else run_dir.path / f"evaluate-{Path(config.images or '').resolve().name}"
    refuse_occupied(out, overwrite=config.overwrite)
    return out


def _images(config: EvaluateConfig, run_dir: RunDir, facts: Facts, story: Story) -> tuple[Manifest, Splits]:
    """The images to predict, labelled in the order of the classifier's classes."""
    if config.images is None:
        known = run_record.read_images(run_dir)
        if known is None:
            raise TlkitError(f"{config.run} is not finished.", f"tlkit finetune --resume {config.run}")
        return _as_they_are(*known, config.on_bad, story)
    manifest = scan(config.images, story=story)
    classes = facts.classes
    strangers = sorted(set(manifest.classes) - set(classes))
    if strangers:
        raise TlkitError(
            f"{config.images} has classes that the classifier does not know: {', '.join(map(repr, strangers))}.",
            f"it knows {', '.join(map(repr, classes[:20]))}; rename or remove the folders.",
        )
    codes = np.array([classes.index(name) for name in manifest.classes], np.int32)
    relabelled = replace(manifest, classes=classes, labels=codes[manifest.labels])
    return relabelled, Splits(np.full(len(manifest), UNASSIGNED, np.int8), "all images are evaluated together")


def _as_they_are(manifest: Manifest, splits: Splits, on_bad: str, story: Story) -> tuple[Manifest, Splits]:
    """The run's own images with the content that their files have now."""
    contents = read_contents(manifest.root, manifest.paths, story, all_meant=True)
    kept = set_aside(manifest, contents.problems, on_bad)
    changed = (kept.sha256 != contents.sha256).any(axis=1).sum()
    if changed:
        story.say(f"{changed} images have changed since the run; they are measured as they are now")
    return replace(kept, sha256=contents.sha256, sizes=contents.sizes), splits.select(contents.images)


def _measured(predictions: Predictions, seen: np.ndarray, *, own: bool) -> EvaluationResult:
    """The metrics; for other images also those without what the classifier was trained on."""
    whole = evaluate(predictions)
    if own or not seen.any():
        return whole
    note = (
        f"{seen.sum()} of these {len(seen)} images were in the training set: the results under 'images' are flattered, "
        "those under 'unseen' leave them out."
    )
    if seen.all():
        return replace(
            whole, notes=(*whole.notes, note.partition(":")[0] + ": these results say nothing about new images.")
        )
    unseen = evaluate(predictions.select(np.flatnonzero(~seen))).splits["images"]
    return EvaluationResult({**whole.splits, "unseen": replace(unseen, split="unseen")}, (*whole.notes, note))
