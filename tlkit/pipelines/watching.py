"""An engine that also says how unfamiliar each image is. On its own, because `predict` starts without evaluation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlkit.classifier import Classifier, with_features
from tlkit.core.option_groups import EngineOptions
from tlkit.core.story import Story
from tlkit.inference import Engine, settle_engine


def watching(classifier: Classifier, files: Sequence[Path], config: EngineOptions, story: Story) -> Engine:
    """An engine whose one output is the logits and, last, the unfamiliarity; NaN where the classifier has no reference."""
    reference = classifier.familiarity
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
        far = reference.unfamiliarity(features[0]) if reference else np.full(len(logits), np.nan, np.float32)
        return (np.column_stack([logits, far]),)

    return Engine(run, engine.name, engine.reason, engine.precision)
