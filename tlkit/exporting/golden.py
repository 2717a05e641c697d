"""The golden batch: drawn samples that come with an artifact, the logits they must give, and the tolerance."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkit.base.errors import OutOfDate
from tlkit.base.files import replacing
from tlkit.classifier.facts import Facts
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

IMAGES, CLIPS = 12, 4
TOLERANCE = 1e-4  # absolute for logits up to 1, relative for larger ones


def draw(height: int, width: int) -> np.ndarray:
    """uint8 (12, height, width, 3), RGB 0..255: gradients, stripes, checks, rings, blots and noise in many colours.

    Integers throughout and a generator whose stream is frozen in NumPy, so that they are the same everywhere.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    random = np.random.RandomState(20240607)  # its stream is frozen since NumPy 1.17
    centred = (rows - height // 2) ** 2 + (columns - width // 2) ** 2
    masks = [
        rows * 255 // max(1, height - 1),
        columns * 255 // max(1, width - 1),
        (rows + columns) * 255 // max(1, height + width - 2),
        (rows // max(1, height // 8) % 2) * 255,
        (columns // max(1, width // 16) % 2) * 255,
        ((rows // max(1, height // 6) + columns // max(1, width // 6)) % 2) * 255,
        (centred // max(1, height * width // 40) % 2) * 255,
        (centred < height * width // 10) * 255,
        np.maximum(255 - centred * 510 // max(1, height * width), 0),
        random.randint(0, 256, (height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width],
        random.randint(0, 256, (height // 24 + 1, width // 24 + 1)).repeat(24, 0).repeat(24, 1)[:height, :width],
        rows * columns % 256,
    ]
    colours = random.randint(0, 256, (IMAGES, 2, 3))
    images = [
        (colour[0] * mask[..., None] + colour[1] * (255 - mask[..., None])) // 255
        for mask, colour in zip(masks, colours, strict=True)
    ]
    return np.stack(images).astype(np.uint8)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a network: images, or clips with a mask.

    Args:
        images: uint8 (n, H, W, 3), RGB 0..255; for clips (n, T, H, W, 3).
        mask: for clips float32 (n, T), 1 where there is a frame.
    """

    images: np.ndarray
    mask: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def arrays(self, start: int, count: int) -> tuple[np.ndarray, ...]:
        """Some of them as a network takes them, float32: images, and for clips the mask."""
        block = slice(start, start + count)
        images = self.images[block].astype(np.float32)
        return (images,) if self.mask is None else (images, self.mask[block])

    @classmethod
    def of_frames(cls, frames: np.ndarray, places: np.ndarray) -> "Inputs":
        """Clips of frames uint8 (F, H, W, 3), by the row of each frame of each clip, int (n, T), -1 where there is none."""
        there = places >= 0
        images = np.zeros((*places.shape, *frames.shape[1:]), np.uint8)
        images[there] = frames[places[there]]
        return cls(images, there.astype(np.float32))


def draw_inputs(facts: Facts) -> Inputs:
    """The drawn images at the size of a classifier's input; for one of clips, four clips of them, full ones and one shorter."""
    frames = draw(facts.contract.height, facts.contract.width)
    if facts.clip is None:
        return Inputs(frames)
    clips, steps = np.arange(CLIPS)[:, None], np.arange(facts.clip.frames)
    places = (3 * clips + (1 + clips) * steps) % IMAGES
    places[-1, (facts.clip.frames + 1) // 2 :] = -1
    return Inputs.of_frames(frames, places)


@dataclass(frozen=True)
class Golden:
    """Inputs and their logits.

    Args:
        images: uint8 (G, H, W, 3), RGB 0..255; for clips (G, T, H, W, 3).
        logits: float32 (G, K), that the artifact must give.
        reference: float32 (G, K), that the classifier gave in Keras; the same except for quantisation.
        mask: for clips float32 (G, T), 1 where there is a frame.
    """

    images: np.ndarray
    logits: np.ndarray
    reference: np.ndarray
    mask: np.ndarray | None = None

    @property
    def samples(self) -> Inputs:
        """The inputs."""
        return Inputs(self.images, self.mask)

    def write(self, path: Path) -> None:
        """Write an NPZ file without pickles."""
        held = {name: array for name, array in vars(self).items() if array is not None}
        with replacing(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **held)

    @classmethod
    def read(cls, path: Path) -> "Golden":
        """Read what `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def difference(logits: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference of logits (n, K); NaN counts as infinite."""
    apart = np.abs(logits.astype(np.float64) - expected)
    return float(np.where(np.isfinite(apart), apart, np.inf).max(initial=0.0))


def excess(logits: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """The largest difference over the allowed one: `tolerance`, times the image's largest logit where that is above 1.

    Args:
        logits: float (n, K).
        expected: float (n, K).
        tolerance: allowed difference of logits up to 1.

    Returns:
        0 or more; above 1 is too far.
    """
    allowed = tolerance * np.maximum(1.0, np.abs(expected).max(axis=1, keepdims=True))
    return difference(logits / allowed, expected / allowed)


def agreement(logits: np.ndarray, expected: np.ndarray, task: Task = SINGLE) -> float:
    """Fraction of images (n, K) whose most probable class is the same, 0..1; with several labels, all of them."""
    return float(task.same(logits, expected).mean())


def refuse_different(
    logits: np.ndarray, golden: Golden, tolerance: float, what: str, remedy: str, task: Task = SINGLE
) -> None:
    """Raise when golden images do not give the expected logits.

    Args:
        logits: (G, K), computed now.
        golden: with the expected ones.
        tolerance: see `excess`.
        what: computed them, for the message.
        remedy: what to do, for the hint.
        task: what the logits mean.

    Raises:
        OutOfDate: naming the worst image, the difference and the allowed one.
    """
    if logits.shape != golden.logits.shape:
        raise OutOfDate(f"{what} gives logits of shape {logits.shape}, expected {golden.logits.shape}.", remedy)
    held, expected = (task.comparable(one, golden.logits) for one in (logits, golden.logits))
    each = [excess(held[i : i + 1], expected[i : i + 1], tolerance) for i in range(len(logits))]
    worst = int(np.argmax(each))
    if each[worst] > 1:
        apart = difference(held[worst], expected[worst])
        allowed = tolerance * max(1.0, float(np.abs(expected[worst]).max()))
        raise OutOfDate(
            f"{what} gives other logits than it should: golden image {worst} differs by {apart:.3g}, "
            f"where {allowed:.3g} is allowed.",
            remedy,
        )
