"""The end of a training run: what the classifier learns about itself, its file, its measures, its report."""

from dataclasses import replace
from typing import Any

import numpy as np

from tlkit.auditing.evidence import Evidence
from tlkit.auditing.look import look
from tlkit.classifier import save
from tlkit.core.atomic import write_json, write_text
from tlkit.core.config import FinetuneConfig
from tlkit.core.run_dir import RunDir
from tlkit.core.story import Story
from tlkit.evaluation.calibration import fit_temperature
from tlkit.evaluation.evaluate import evaluate
from tlkit.extraction.store import StoredFeatures
from tlkit.pipelines import kinship, outcome, run_page, run_record
from tlkit.pipelines.crossing import Crossed
from tlkit.pipelines.judgement import find_threshold, learn_familiarity
from tlkit.training.checkpoint import State
from tlkit.training.stages import Material


def finish(
    config: FinetuneConfig,
    run_dir: RunDir,
    material: Material,
    states: list[State],
    scores: np.ndarray,
    evidence: Evidence | None,
    story: Story,
    crossed: Crossed | None = None,
) -> dict[str, Any]:
    """Calibrate, choose when to abstain, save the classifier, evaluate, report.

    Args:
        config: of the run.
        run_dir: where everything goes.
        material: the images and the trained network.
        states: what became of each stage.
        scores: float32 (N, K), logits of every image.
        evidence: of the audit before training; None where there was none, then the files are looked at now.
        story: hears what was chosen.
        crossed: what cross-validation found, where it took the place of validation images.

    Returns:
        The content of metrics.json.
    """
    manifest, splits = material.manifest, material.splits
    held, trained = splits.indices("val"), splits.codes == 0
    judged, truth = (crossed.logits, crossed.labels) if crossed else (scores[held], manifest.truth[held])
    classifier = material.classifier.with_facts(
        temperature=float(fit_temperature(judged, truth)) if len(truth) else 1.0,
        trained_on=tuple(sorted(row.tobytes().hex() for row in manifest.sha256[trained])),
        target_precision=config.target_precision,
        flip=config.flip,
    )
    reference, unfamiliarity = learn_familiarity(classifier, manifest, splits, config.batch_size, story)
    evidence = evidence or _looked_at(material, story)
    predictions = outcome.build_predictions(
        manifest,
        splits,
        scores,
        classifier.facts,
        unfamiliarity=None if reference is None else unfamiliarity,
        in_training=kinship.in_training(evidence.pictures, manifest.sha256, trained),
    )
    notes: tuple[str, ...] = (crossed.note,) if crossed else ()
    if config.target_precision is not None:
        threshold, told = find_threshold(predictions, config.target_precision)
        notes = (*notes, told)
        classifier = classifier.with_facts(threshold=threshold)
        predictions = outcome.judged_by(predictions, classifier.facts)
    save(classifier.knowing(reference), run_dir.model)
    write_json(run_dir.class_indices, {name: index for index, name in enumerate(manifest.classes)})
    write_text(run_dir.labels, "".join(f"{name}\n" for name in manifest.classes))
    columns = outcome.slice_columns(manifest, config.slice_by, np.arange(len(manifest)), evidence.looks)
    evaluation = evaluate(predictions, columns=columns, target_precision=config.target_precision)
    evaluation = replace(evaluation, notes=(*notes, *evaluation.notes))
    for note in evaluation.notes:
        story.say(note)
    run_record.write_stages(run_dir, states, classifier.model.count_params())
    page = run_page.of_run(run_dir, manifest, splits, predictions, evaluation, lambda: classifier)
    return outcome.write_outcome(run_dir.path, predictions, evaluation, page)


def _looked_at(material: Material, story: Story) -> Evidence:
    """What the audit would have gathered."""
    manifest = material.manifest
    looks = look([manifest.file(i) for i in range(len(manifest))], story=story)
    stored = material.stored.get("features")
    features = kinship.flat(looks.small) if not isinstance(stored, StoredFeatures) else kinship.pooled(stored)
    return Evidence(manifest=manifest, codes=material.splits.codes, features=features, looks=looks, images="")
