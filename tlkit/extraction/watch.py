"""The engine for predictions: the logits of a classifier and the unfamiliarity of each image.

It uses the answering file of the run where there is one (`onnx_engine`); what that cannot do loads Keras.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.files import first_places, taken
from tlkit.base.story import Story
from tlkit.classifier.facts import Facts, read_familiarity
from tlkit.classifier.familiarity import Familiarity
from tlkit.data.dataset import Dataset, Files
from tlkit.data.look import read_contents
from tlkit.data.views import CENTRE, TtaViews
from tlkit.extraction import onnx_engine
from tlkit.extraction.engine import Engine, start_keras
from tlkit.extraction.extract import Extraction
from tlkit.extraction.source import FeatureSource
from tlkit.options.groups import EngineOptions


def watching(
    model: Path,
    facts: Facts,
    files: Sequence[Path],
    config: EngineOptions,
    story: Story,
    views: TtaViews | None = None,
    count: int = 1,
) -> Engine:
    """An engine with the outputs of `Answers`: logits, and unfamiliarity where the classifier has a reference.

    Args:
        model: file of the classifier that judges.
        facts: what it knows about itself.
        files: to settle the precision on.
        config: which engine.
        story: reports it.
        views: of every image, whose probabilities are averaged; unfamiliarity is that of the image itself.
        count: number of views.

    Raises:
        TlkitError: `--engine onnx` where the run has no answering file; otherwise as `build_engine`.
    """
    engine = _answering(model, config, story) or _in_keras(model, files, config, story)
    return _watched(engine, read_familiarity(model), facts, views, count)


def _watched(engine: Engine, reference: Familiarity | None, facts: Facts, views: TtaViews | None, count: int) -> Engine:
    """The engine of `watching`, from an engine of logits and features."""

    def run(images: np.ndarray) -> tuple[np.ndarray, ...]:
        alone, *features = engine.run(images)
        logits = alone
        if views is not None and count > 1:
            more = [engine.run(views.view(images, None, number))[0] for number in range(CENTRE + 1, count)]
            logits = facts.task.mean_logits(np.stack([alone, *more]), facts.temperature)
        return (logits, reference.unfamiliarity(features[0], alone)) if reference else (logits,)

    opens = engine.portable
    portable = opens and (lambda: partial(_opened, opens(), reference, facts, views, count))
    return replace(engine, run=run, start=None, portable=portable)


def _opened(engine: Callable[[], Engine], *watched: Any) -> Engine:
    """The same, opened in another process."""
    return _watched(engine(), *watched)


def _answering(model: Path, config: EngineOptions, story: Story) -> Engine | None:
    """The engine of the answering file; None where another was asked for, or there is none, which is reported."""
    return onnx_engine.open_answer(model) if onnx_engine.answering(model, config, story) else None


def _in_keras(model: Path, files: Sequence[Path], config: EngineOptions, story: Story) -> Engine:
    start_keras(story)
    from tlkit.classifier.model import load, with_features
    from tlkit.extraction.engine import settle_engine

    classifier = load(model)
    return settle_engine(
        classifier.model if classifier.familiarity is None else with_features(classifier),
        files,
        classifier.facts.contract,
        engine=config.engine,
        precision=config.precision,
        story=story,
    )


# -- Answers in the store: computed by shards of `tlkit predict`, for the command that gathers them ---


def answered(
    source: FeatureSource, files: Files, story: Story
) -> tuple[Extraction, np.ndarray, tuple[np.ndarray, ...], list[tuple[int, str]]]:
    """Answers for files through the store: first what it took, then answers as from `infer`; for a share, only the first."""
    paths = files.names
    contents = read_contents(Path(), paths, story, all_meant=True)
    rows = contents.images
    dataset = Dataset.of_files(Path(), taken(paths, rows.data), contents.sha256, contents.sizes)
    found = source.extract(dataset, story=story)
    problems = (*contents.problems, *found.problems)
    at = first_places(paths, {problem.path for problem in problems})
    bad = [(at[problem.path], problem.reason) for problem in problems]
    if not source.share.whole:
        return found, rows[:0], (), bad
    held = list(found.features.values())
    good = np.flatnonzero(~np.any([each.lacking for each in held], axis=0))
    return found, rows[good], tuple(each[good] for each in held) if len(good) else (), sorted(bad)
