"""An engine that also says how unfamiliar each image is. On its own, because `predict` starts without evaluation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlkit.base.story import Story
from tlkit.classifier.model import Classifier, with_features
from tlkit.data.views import CENTRE, TtaViews
from tlkit.extraction.engine import Engine
from tlkit.extraction.precision import settle_engine
from tlkit.options.groups import EngineOptions


def watching(
    classifier: Classifier,
    files: Sequence[Path],
    config: EngineOptions,
    story: Story,
    views: TtaViews | None = None,
    count: int = 1,
) -> Engine:
    """An engine whose one output is the logits and, last, the unfamiliarity; NaN where the classifier has no reference.

    Args:
        classifier: that judges.
        files: to settle the precision on.
        config: which engine.
        story: hears of it.
        views: of every image, whose probabilities are averaged; unfamiliarity is that of the image itself.
        count: how many of them.
    """
    reference, facts = classifier.familiarity, classifier.facts
    engine = settle_engine(
        classifier.model if reference is None else with_features(classifier),
        files,
        classifier.facts.contract,
        engine=config.engine,
        precision=config.precision,
        story=story,
    )

    def run(images: np.ndarray) -> tuple[np.ndarray, ...]:
        logits, *features = engine.run(images)
        if views is not None and count > 1:
            more = [engine.run(views.view(images, None, number))[0] for number in range(CENTRE + 1, count)]
            logits = facts.task.mean_logits(np.stack([logits, *more]), facts.temperature)
        far = reference.unfamiliarity(features[0]) if reference else np.full(len(logits), np.nan, np.float32)
        return (np.column_stack([logits, far]),)

    return Engine(run, engine.name, engine.reason, engine.precision)
