"""`tlkit evaluate`: a run and optionally other images in; metrics and a report out.

tlkit evaluate run
tlkit evaluate run other-images
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.auditing import duplicates
from tlkit.backbones import runtime
from tlkit.base.errors import TlkitError
from tlkit.base.files import reading, sha256_file
from tlkit.base.story import Phase, Silence, Story
from tlkit.classifier.answers import IN_TRAINING, Answers, Predictions
from tlkit.classifier.facts import Facts, read_facts, read_familiarity, refuse_clips, write_facts
from tlkit.classifier.model import load
from tlkit.data.clips import Sampling, scan_clips
from tlkit.data.dataset import SPLITS, UNASSIGNED, Dataset, Splits
from tlkit.data.decode import set_aside
from tlkit.data.fixes import Fixing
from tlkit.data.folders import refuse_inside
from tlkit.data.look import Looks, look, read_contents
from tlkit.data.scan import scan
from tlkit.evaluation import tta
from tlkit.evaluation.compare import with_order
from tlkit.evaluation.evaluate import evaluate
from tlkit.evaluation.judgement import (
    Mean,
    by_classifier,
    find_threshold,
    refuse_hopeless,
    refuse_target,
    said_otherwise,
)
from tlkit.evaluation.results import EvaluationResult
from tlkit.extraction.source import FEATURES, LOGITS, FeatureSource
from tlkit.options.commands import EvaluateConfig
from tlkit.report import outcome, run_page
from tlkit.report.headline import said_of
from tlkit.report.page import Page
from tlkit.runs import record, tracking
from tlkit.runs.folder import RunDir, refuse_occupied
from tlkit.tasks.single import SINGLE

PHASES = (  # with seconds of a small network on two cores
    Phase("reading files", 0.2, 1e-3),
    Phase("predicting", 4.0, 0.02, by="extracting"),
    Phase("looking at files", 0.1, 4e-3),
    Phase("measuring", 3.0, 1e-3),
)


def run(config: EvaluateConfig, story: Story | None = None) -> dict[str, Any]:
    """Predict with the finished classifier and measure.

    Without `images`, the run's own images are evaluated with its split, and its predictions, metrics and report are
    rewritten. With `images`, the results go to a folder of their own. Images that the classifier was trained on, and
    near copies of them, are recognised and reported, and the others are also measured separately. With
    `target_precision` the threshold is chosen on the run's validation images and stored in its model.keras.

    Returns:
        `out`, `images`, `set_aside`, `trained_on` (held-out images whose bytes were trained on), `metrics`, `report`.

    Raises:
        TlkitError: if it is not a run, for classes the classifier does not know, an occupied `out`.
    """
    story, run_dir = story or Silence(), RunDir(Path(config.run))
    tracking.refuse_missing(config.log)
    run_dir.read_record()  # raises if the run is damaged
    if config.moved_to:
        record.move_images(run_dir, config.moved_to, story)
    facts = read_facts(run_dir.intact(run_dir.model))
    refuse_target(config.target_precision, facts.task)
    _refuse_for_clips(config, facts)
    tta.views_of(config.tta, facts)  # raises if the classifier does not allow it
    out = _out(config, run_dir)
    story.expect(*PHASES)
    dataset, splits = _images(config, run_dir, facts, story)
    outcome.refuse_unknown_columns(dataset, config.slice_by)
    _refuse_hopeless(config, run_dir)

    story.begin("predicting")
    answered = _answered if facts.clip is None else _answered_clips
    dataset, splits, answers, others = answered(config, run_dir, facts, dataset, splits, story)
    held = np.flatnonzero(splits.codes != SPLITS.index("train"))
    looks = look([dataset.file(i) for i in held.tolist()], story=story)
    story.begin("measuring")
    kin = _kin(config, run_dir, dataset, splits, held, looks, story)
    predictions = outcome.build_predictions(dataset, splits, answers, facts, in_training=kin)
    facts, notes = _judged(config, run_dir, facts, predictions, story)
    predictions = outcome.judged_by(predictions, facts)
    columns = outcome.slice_columns(dataset, config.slice_by, held, looks)
    evaluation = evaluate(predictions, columns=columns, target_precision=facts.target_precision)
    evaluation = with_order(replace(evaluation, notes=(*notes, *evaluation.notes)), predictions, others, facts.clip)
    for note in said_of(dataset.sample, evaluation.notes, dataset.classes):
        story.say(note)
    page = _page(config, run_dir, dataset, splits, predictions, evaluation)
    expect = partial(record.expect, run_dir) if out == run_dir.path else None
    metrics = outcome.write_outcome(out, predictions, evaluation, page, expect)
    if expect:
        record.record_files(run_dir)
    story.say(outcome.describe_metrics(metrics))
    story.say(f"report: {out / 'report.html'}")
    tracking.tell(config.log, run_dir, out, story)
    return {
        "out": str(out),
        "images": len(dataset),
        "set_aside": [problem.as_json() for problem in dataset.set_aside],
        "trained_on": int((np.asarray(predictions.in_training) == IN_TRAINING.index("exact")).sum()),
        "metrics": metrics,
        "report": str(out / "report.html"),
    }


def _out(config: EvaluateConfig, run_dir: RunDir) -> Path:
    """The output folder: the run itself for its own images, a folder in it for other images or with --tta."""
    if config.images is None and config.out is None and config.tta == 1:
        return run_dir.path
    parts = [Path(config.images).resolve().name] if config.images else []
    parts += [f"tta-{config.tta}"] if config.tta > 1 else []
    out = Path(config.out) if config.out else run_dir.path / "-".join(["evaluate", *parts])
    refuse_occupied(out, overwrite=config.overwrite)
    if config.images:
        refuse_inside(out, config.images)
    return out


def _images(config: EvaluateConfig, run_dir: RunDir, facts: Facts, story: Story) -> tuple[Dataset, Splits]:
    """The images to predict, with labels indexed by the classifier's classes."""
    if config.images is None:
        known = record.read_images(run_dir)
        if known is None:
            raise TlkitError(f"{config.run} is not finished.", f"tlkit finetune --resume {config.run}")
        record.refuse_moved(run_dir, known[0])
        return _as_they_are(run_dir, *known, config.on_bad, story)
    fixes = Fixing(config.fixes, held_out=config.fix_held_out) if config.fixes else None
    labelled = True if facts.task.understands(SINGLE) else facts.task
    if facts.clip is None:
        dataset = scan(config.images, labelled=labelled, known=facts.classes, fixes=fixes, story=story)
    else:
        sampling = Sampling(facts.clip.frames, facts.clip.stride)
        dataset = scan_clips(config.images, sampling, labelled=labelled, known=facts.classes, story=story)
    classes = facts.classes
    strangers = sorted(set(dataset.classes) - set(classes))
    if strangers:
        raise TlkitError(
            f"{config.images} has classes that the classifier does not know: {', '.join(map(repr, strangers))}.",
            f"it knows {', '.join(map(repr, classes[:20]))}; rename or remove "
            f"{'the folders' if Path(config.images).is_dir() else 'those labels in the table'}.",
        )
    if not facts.task.understands(dataset.task):
        raise TlkitError(
            f"{config.images} has images with several labels, and the classifier {facts.task.gives}.",
            "train one on such a table, or give images with one label each.",
        )
    labels, targets = facts.task.renamed(dataset.labels, dataset.targets, dataset.classes, classes)
    relabelled = replace(dataset, classes=classes, labels=labels, targets=targets)
    return relabelled, Splits(np.full(len(dataset), UNASSIGNED, np.int8), "all images are evaluated together")


def _refuse_for_clips(config: EvaluateConfig, facts: Facts) -> None:
    if config.tta > 1:
        refuse_clips(facts, f"--tta {config.tta}", "leave it out.")
    if config.fixes:
        refuse_clips(facts, f"--fixes {config.fixes}", "correct the folders.")


def _answered(
    config: EvaluateConfig, run_dir: RunDir, facts: Facts, dataset: Dataset, splits: Splits, story: Story
) -> tuple[Dataset, Splits, Answers, dict[str, np.ndarray]]:
    """The readable images, their splits and predictions; the unfamiliarity of training images is NaN.

    The last item, predictions to compare with, is empty for images.
    """
    reference = read_familiarity(run_dir.model)
    outputs = (LOGITS,) if reference is None else (LOGITS, FEATURES)
    extraction = FeatureSource.of_file(run_dir.model, *outputs).asked(config).extract(dataset, story=story)
    story.say(extraction.sentence("predictions"))
    logits, *features = extraction.features.values()
    good = np.flatnonzero(~logits.lacking)
    splits, own = splits.select(good), logits[good]
    scores = own
    if config.tta > 1:
        alone = FeatureSource.of_file(run_dir.model, LOGITS).asked(config)
        views = tta.views_of(config.tta, facts)
        scores = tta.average(config.tta, alone, dataset, facts, views, scores, good, story)
    dataset = set_aside(dataset, extraction.problems, config.on_bad)
    if reference is None:
        return dataset, splits, Answers(scores), {}
    held, far = np.flatnonzero(splits.codes != SPLITS.index("train")), np.full(len(good), np.nan, np.float32)
    far[held] = reference.unfamiliarity(features[0].select(good[held]), own[held])
    return dataset, splits, Answers(scores, far), {}


def _answered_clips(
    config: EvaluateConfig, run_dir: RunDir, facts: Facts, dataset: Dataset, splits: Splits, story: Story
) -> tuple[Dataset, Splits, Answers, dict[str, np.ndarray]]:
    """The same for clips; the last item holds the logits of the mean over time and of shuffled frames."""
    del facts
    reader = by_classifier(load(run_dir.model), 2 * len(dataset)).computing(config, config.batch_size)
    rows = reader.read(dataset, story)
    answers = reader.answers(rows)
    mean = Mean.read(run_dir.intact(run_dir.mean)) if run_dir.mean.is_file() else None
    if answers.unfamiliarity is not None:
        answers.unfamiliarity[splits.codes == SPLITS.index("train")] = np.nan
    return dataset, splits, answers, said_otherwise(reader, rows, mean)


def _page(
    config: EvaluateConfig,
    run_dir: RunDir,
    dataset: Dataset,
    splits: Splits,
    predictions: Predictions,
    evaluation: EvaluationResult,
) -> Page:
    """The report page for the run's own images or others."""
    measured = (dataset, splits, predictions, evaluation, partial(load, run_dir.model))
    if config.images is None:
        return run_page.of_run(run_dir, *measured, command=runtime.command_line())
    return run_page.of_others(run_dir, config.images, *measured)


def _refuse_hopeless(config: EvaluateConfig, run_dir: RunDir) -> None:
    """Raise if the run has too few validation images for the requested precision."""
    known = record.read_images(run_dir)
    if known and config.target_precision is not None:
        refuse_hopeless(config.target_precision, known[1])


def _as_they_are(
    run_dir: RunDir, dataset: Dataset, splits: Splits, on_bad: str, story: Story
) -> tuple[Dataset, Splits]:
    """The run's own images with the current content of their files."""
    if dataset.clips is not None:
        record.refuse_changed_images(run_dir, dataset)
        return dataset, splits
    contents = read_contents(dataset.root, dataset.paths, story, all_meant=True)
    kept = set_aside(dataset, contents.problems, on_bad)
    changed = (kept.sha256 != contents.sha256).any(axis=1).sum()
    if changed:
        story.say(f"{changed} images have changed since the run; they are measured as they are now")
    return replace(kept, sha256=contents.sha256, sizes=contents.sizes), splits.select(contents.images)


def _kin(
    config: EvaluateConfig,
    run_dir: RunDir,
    dataset: Dataset,
    splits: Splits,
    held: np.ndarray,
    looks: Looks,
    story: Story,
) -> np.ndarray | None:
    """int8 (N,), which held-out images resemble training images; from the run's predictions if they still apply."""
    remembered = _remembered(run_dir, dataset) if config.images is None else None
    if remembered is not None:
        return remembered
    codes, own = np.zeros(len(dataset), np.int8), (dataset, splits)
    images, split = own if config.images is None else record.read_images(run_dir) or own
    if dataset.clips is not None:
        trained = images.sha256[split.indices("train")]
        return duplicates.copied_clips(dataset.sha256, trained, splits.codes == SPLITS.index("train"))
    codes[held] = duplicates.kin_of(dataset.select(held), looks, images.select(split.indices("train")), story)
    return codes


def _remembered(run_dir: RunDir, dataset: Dataset) -> np.ndarray | None:
    """The same from the run's predictions.csv; None if it lacks an image or an image's content has changed."""
    if not run_dir.predictions.is_file():
        return None
    try:
        rows = _read(run_dir)
    except TlkitError:  # it will be rewritten anyway
        return None
    if rows.in_training is None:
        return None
    known = dict(zip(zip(rows.paths, rows.sha256, strict=True), rows.in_training.tolist(), strict=True))
    wanted = zip(dataset.paths, (row.tobytes().hex() for row in dataset.sha256), strict=True)
    codes = [known.get(image) for image in wanted]
    return None if None in codes else np.array(codes, np.int8)


def _judged(
    config: EvaluateConfig, run_dir: RunDir, facts: Facts, predictions: Predictions, story: Story
) -> tuple[Facts, tuple[str, ...]]:
    """The temperature and threshold of the predictions, and messages about them."""
    if config.tta == 1:
        return _choose(config, run_dir, facts, predictions, story)
    own = tta.calibrate(predictions, facts) if config.images is None else None
    found, sentences = own or (facts, ())
    return found, (*tta.describe_views(config.tta, facts, calibrated=own is not None), *sentences)


def _choose(
    config: EvaluateConfig, run_dir: RunDir, facts: Facts, predictions: Predictions, story: Story
) -> tuple[Facts, tuple[str, ...]]:
    """Choose the threshold and store it in the classifier's file; return the facts and a message."""
    if config.target_precision is None:
        return facts, ()
    ours = predictions if config.images is None else _of_run(run_dir)
    threshold, sentence = find_threshold(ours, config.target_precision)
    chosen = replace(facts, threshold=threshold, target_precision=config.target_precision)
    write_facts(run_dir.model, chosen, lambda new: record.expect(run_dir, {run_dir.model.name: sha256_file(new)}))
    story.say(f"{run_dir.model} now abstains below it" if threshold else f"{run_dir.model} now never abstains")
    return chosen, (sentence,)


def _of_run(run_dir: RunDir) -> Predictions:
    """The run's predictions for its own images."""
    if not run_dir.predictions.is_file():
        raise TlkitError(
            f"{str(run_dir.predictions)!r} is gone: the threshold is chosen on its validation images.",
            f"write it again: tlkit evaluate {run_dir.path}",
        )
    return _read(run_dir)


def _read(run_dir: RunDir) -> Predictions:
    with reading(run_dir.predictions, f"write it again: tlkit evaluate {run_dir.path}"):
        return Predictions.read_csv(run_dir.intact(run_dir.predictions))
