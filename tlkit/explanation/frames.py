"""Which frames of a clip speak for its answer: what the answer loses when one frame is left out.

Occlusion (Zeiler & Fergus 2014) along time: a frame that is left out is masked, as one that was never there, and the head
reads the others. Features of frames do not depend on one another, so that nothing but the head is computed.
"""

import numpy as np

from tlkit.classifier.facts import Facts
from tlkit.evaluation.clips import ClipReader
from tlkit.extraction.store import Rows

LEAST = 1e-12  # probability that counts as none


def frame_evidence(reader: ClipReader, features: np.ndarray, frames: int, code: int, facts: Facts) -> np.ndarray:
    """By how much the log-probability of a class falls where each frame is left out; above 0 it speaks for the class.

    Args:
        reader: of the classifier.
        features: float32 (T, C) of one clip, zeros where there is no frame.
        frames: how many there are, the first of the T; of one alone nothing can be said.
        code: of the class.
        facts: of the classifier; its task has probabilities.

    Returns:
        float64 (frames,), in nats.
    """
    if frames < 2:
        return np.zeros(frames)
    variants = np.repeat(features[None], frames + 1, axis=0)
    variants[np.arange(frames), np.arange(frames)] = 0.0
    chances = facts.task.probabilities(reader.logits(Rows(variants)), facts.temperature)[:, code]
    logs = np.log(np.maximum(chances, LEAST))
    return logs[-1] - logs[:-1]


def has_evidence(facts: Facts) -> bool:
    """Whether there is a probability that a frame could speak for."""
    return facts.clip is not None and facts.task.ranks
