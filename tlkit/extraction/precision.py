"""Float32 or bfloat16: the second only where it is asked for, or shown to be faster and to say the same.

Shown on up to 64 of the user's own images: bfloat16 must be 1.2 times as fast, the outputs of every image must point the
same way as in float32 (cosine of 0.999 or more), and decisions must not change. Decisions are the classes of a
classifier's logits; for features they are those of a linear probe solved on one half of these images and applied to the
other (at most 2 % may differ, one image in 64).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.story import Story, percent
from tlkit.data.dataset import InputContract
from tlkit.data.decode import batches
from tlkit.extraction.engine import Engine, build_engine

if TYPE_CHECKING:
    import keras

TRIAL_IMAGES = 64
FEWEST = 256  # images below which a trial costs more than it can gain
FASTER, COSINE, AGREE = 1.2, 0.999, 0.98

Decide = Callable[[np.ndarray], np.ndarray]


class Verdict(NamedTuple):
    """Whether bfloat16 is taken, and why."""

    taken: bool
    reason: str


def settle_engine(
    model: "keras.Model",
    files: Sequence[Path],
    contract: InputContract,
    *,
    engine: str,
    precision: str,
    labels: np.ndarray | None = None,
    story: Story,
) -> Engine:
    """An engine in the precision asked for; `auto` tries both, and says what it chose and why.

    Args:
        model: a classifier (images -> logits), or with `labels` a network of features.
        files: what it will compute.
        contract: what pixels to make of them.
        engine: a name, or `auto`.
        precision: `float32`, `bfloat16` or `auto`.
        labels: int (n,) of the files, negative for none; the outputs are features then, and a probe decides.
        story: hears the choice.

    Raises:
        TlkitError: as `build_engine`.
    """
    if precision != "auto":
        return build_engine(model, engine=engine, precision=precision)
    exact = build_engine(model, engine=engine)
    if too_few(len(files), story):
        return exact
    chosen = np.unique(np.linspace(0, len(files) - 1, TRIAL_IMAGES).astype(int))
    batch = next(iter(batches([files[i] for i in chosen], contract, TRIAL_IMAGES)))
    if not len(batch.indices):
        return exact
    try:
        half = build_engine(model, engine=engine, precision="bfloat16")
    except TlkitError as error:
        story.say(f"precision float32: {error.message}")
        return exact
    decide: Decide = _classes if labels is None else _Probe(labels[chosen[batch.indices]])
    verdict = judge(exact, half, batch.images, decide)
    story.say(f"precision {'bfloat16' if verdict.taken else 'float32'}: {verdict.reason}")
    return half if verdict.taken else exact


def too_few(images: int, story: Story) -> bool:
    """Whether there are so few images that float32 it is; it is said then."""
    if images < FEWEST:
        story.say(f"precision float32: {images} images are too few for trying bfloat16 to pay")
    return images < FEWEST


def judge(exact: Engine, half: Engine, images: np.ndarray, decide: Decide) -> Verdict:
    """Hold two engines of one model against each other on uint8 images (n, H, W, 3)."""
    first, second = exact.run(images), half.run(images)
    times = [(_seconds(exact, images), _seconds(half, images)) for _ in range(3)]
    gain = median(slow / fast for slow, fast in times)
    if gain < FASTER:
        return Verdict(False, f"bfloat16 is {gain:.2f} times as fast here, and {FASTER} would be worth it")
    worst = min(float(cosines(one, other).min()) for one, other in zip(first, second, strict=True))
    if not worst >= COSINE:
        return Verdict(False, f"bfloat16 moves the features of an image to a cosine of {worst:.4f}, below {COSINE}")
    agree = float(np.mean(decide(first[0]) == decide(second[0])))
    if agree < AGREE:
        return Verdict(False, f"in bfloat16 {percent(1 - agree)} of the decisions on {len(images)} images differ")
    agreed = f"cosine {worst:.4f} or more, {percent(agree)} of decisions the same"
    return Verdict(True, f"{gain:.2f} times as fast on {len(images)} images, {agreed}")


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Float (n,): cosine between the rows of two arrays (n, ...); 1 where both are zero, 0 where one is."""
    one, other = (array.reshape(len(array), -1).astype(np.float64) for array in (one, other))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    same = np.all(one == other, axis=1)
    return np.where(same, 1.0, np.sum(one * other, axis=1) / np.where(norms > 0, norms, 1.0))


def _classes(logits: np.ndarray) -> np.ndarray:
    return logits.argmax(axis=1)


class _Probe:
    """Decisions of a linear probe (ridge on one-hot labels), solved on every second image and applied to the others."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Int (n,): the class of each image; all 0 without two classes among the images."""
        rows = features.reshape(len(features), -1).astype(np.float64)
        decisions = np.zeros(len(rows), int)
        for held in (0, 1):
            train = (np.arange(len(rows)) % 2 != held) & (self.labels >= 0)
            if len(np.unique(self.labels[train])) > 1:
                decisions[held::2] = self._decided(rows[train], self.labels[train], rows[held::2])
        return decisions

    @staticmethod
    def _decided(train: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Fewer images than features: solved in the space of images."""
        scale = train.std(axis=0) + 1e-6 * np.abs(train).max() + 1e-12
        centred, others = (train - train.mean(axis=0)) / scale, (held - train.mean(axis=0)) / scale
        gram = centred @ centred.T
        targets = labels[:, None] == np.unique(labels)
        ridge = gram + np.eye(len(gram)) * np.trace(gram) / len(gram)
        return (
            others @ centred.T @ np.linalg.solve(ridge, targets - targets.mean(axis=0)) + targets.mean(axis=0)
        ).argmax(1)


def _seconds(engine: Engine, images: np.ndarray) -> float:
    started = perf_counter()
    engine.run(images)
    return perf_counter() - started
