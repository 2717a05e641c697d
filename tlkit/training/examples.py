"""What a stage learns from: features of stored views, or fresh views; in an order fixed by a seed.

The order of epoch e depends on (seed, e) alone, so that a resumed stage sees what it would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.data.dataset import Dataset, InputContract
from tlkit.data.decode import batches, in_order
from tlkit.data.views import Augmentation, threads
from tlkit.extraction.engine import Engine
from tlkit.extraction.store import Rows
from tlkit.tasks.registry import of_truth
from tlkit.tasks.task import Task
from tlkit.training.balance import drawn_equally

# (positions (b,), epoch) -> inputs (b, ...)
Reader = Callable[[np.ndarray, int], np.ndarray]
# (positions (n,), those that each is mixed with) -> inputs (n, ...), targets (n, K), weights (n,)
Taken = tuple[np.ndarray, np.ndarray, np.ndarray]
Taker = Callable[[np.ndarray, np.ndarray], Taken]


MEMORY_BYTES = 2 * 2**30  # decoded pixels kept in memory between epochs, at most
ENGINE_BATCH = 32
CHUNK_BYTES = 4 * 2**20  # bytes of small batches that are read together and run without Python in between
CHUNK_STEPS = 16


def stored_reader(views: Sequence[Rows], seed: int) -> Reader:
    """Read stored features; in every epoch each image is seen in one of its views, drawn by (seed, epoch).

    Args:
        views: the same images, one entry for each view.
        seed: of the draw.
    """

    def read(positions: np.ndarray, epoch: int) -> np.ndarray:
        if len(views) == 1:
            return views[0][positions]
        drawn = np.random.default_rng((seed, epoch, 1)).integers(len(views), size=views[0].shape[0])[positions]
        out = np.empty((len(positions), *views[0].shape[1:]), np.float32)
        for view in np.unique(drawn):
            here = drawn == view
            out[here] = views[view][positions[here]]
        return out

    return read


def computed_reader(pixels: Reader, engine: Engine) -> Reader:
    """Read pixels through a frozen network, recomputed each time."""

    def read(positions: np.ndarray, epoch: int) -> np.ndarray:
        starts = range(0, len(positions), ENGINE_BATCH)
        parts = (positions[start : start + ENGINE_BATCH] for start in starts)
        return np.concatenate([engine.run(pixels(part, epoch))[0] for part in parts])

    return read


class PixelReader:
    """Read decoded pixels (b, H, W, 3), a different view of each image in every epoch.

    Pixels stay in memory between epochs where they fit, and are decoded again where they do not.

    Args:
        dataset: the images.
        contract: how they become pixels.
        augmentation: of the views; strength `none` gives the image itself in every epoch.
    """

    def __init__(self, dataset: Dataset, contract: InputContract, augmentation: Augmentation) -> None:
        self._manifest, self._contract, self._augmentation = dataset, contract, augmentation
        self._pool = threads()
        held = pixel_bytes(len(dataset), contract.height, contract.width)
        self._kept = self._decode(np.arange(len(dataset))) if held <= MEMORY_BYTES else None

    def __call__(self, positions: np.ndarray, epoch: int) -> np.ndarray:
        """uint8 (b, H, W, 3); epoch -1 gives the images themselves."""
        images = self._decode(positions) if self._kept is None else self._kept[positions]
        return self._augmentation.view(images, self._manifest.sha256[positions], epoch + 1, self._pool)

    def _decode(self, positions: np.ndarray) -> np.ndarray:
        """The images at these positions. They were readable before; one that no longer is stops the run."""
        images = np.empty((len(positions), self._contract.height, self._contract.width, 3), np.uint8)
        files = [self._manifest.file(i) for i in positions]
        for batch in batches(files, self._contract, 32):
            if batch.problems:
                index, reason = batch.problems[0]
                raise TlkitError(
                    f"{str(files[index])!r} can no longer be read: {reason}", "restore the file, then resume."
                )
            images[batch.indices] = batch.images
        return images


def pixel_bytes(images: int, height: int, width: int) -> int:
    """Bytes of decoded images."""
    return images * height * width * 3


# -- MixUp and CutMix ----------------------------------------------------------------------------
#
# Each training row is a mixture of two, and so are its labels.
#
# Both work on the input of a stage, pixels or the stored output of the frozen prefix; mixing the latter is manifold mixup
# (Verma et al. 2019), at no further cost. Keras's layers MixUp and CutMix are for pixels in the input pipeline and draw
# from a state of their own; here everything follows from (seed, epoch, position), so that a resumed run sees what it would
# have seen, however its updates are divided.

# Both shares are drawn from Beta(a, a).
CONCENTRATIONS = {"mixup": 0.2, "cutmix": 1.0}  # Zhang et al. 2018 for ImageNet; Yun et al. 2019


@dataclass(frozen=True)
class Mixing:
    """A way to mix.

    Args:
        how: `mixup` or `cutmix`; the latter needs rows with places, (h, w, C).
        seed: of the draws.
    """

    how: str
    seed: int

    def draw(self, count: int, epoch: int) -> np.ndarray:
        """Float64 (count, 3) in 0..1: the share of itself that each row keeps, at least a half; the centre of a cut."""
        random = np.random.default_rng((self.seed, epoch, 2))
        concentration = CONCENTRATIONS[self.how]
        share = random.beta(concentration, concentration, count)
        return np.column_stack([np.maximum(share, 1 - share), random.random((count, 2))])

    def mix(self, rows: np.ndarray, others: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mix rows with others.

        Args:
            rows: (n, ...).
            others: (n, ...), what is mixed into each.
            drawn: (n, 3) of these rows, from `draw`.

        Returns:
            (n, ...), float32 from `mixup`; float32 (n,), the share that each row kept of itself.
        """
        return (_mixed if self.how == "mixup" else _cut)(rows, others, drawn)


def mixed_targets(
    targets: np.ndarray, weights: np.ndarray, others: np.ndarray, other_weights: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The targets (n, K) and weights (n,) of mixed rows.

    A loss that is linear in the target, such as cross-entropy, is that of the two rows by their shares, each with its
    own weight.
    """
    own, given = shares * weights, (1 - shares) * other_weights
    total = own + given
    safe = np.where(total > 0, total, 1)
    mixed = targets * (own / safe)[:, None] + others * (given / safe)[:, None]
    return mixed.astype(np.float32), total.astype(np.float32)


def _mixed(rows: np.ndarray, others: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums (MixUp, Zhang et al. 2018)."""
    shares = drawn[:, 0].astype(np.float32)
    aligned = shares.reshape(-1, *[1] * (rows.ndim - 1))
    return rows * aligned + others * (1 - aligned), shares


def _cut(rows: np.ndarray, others: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle of each row comes from the other one (CutMix, Yun et al. 2019); shares are of its actual area."""
    height, width = rows.shape[1:3]
    side = np.sqrt(1 - drawn[:, 0])
    inside = [_between(drawn[:, 1], side, height), _between(drawn[:, 2], side, width)]
    box = inside[0][:, :, None] & inside[1][:, None, :]
    return np.where(box[..., None], others, rows), (1 - box.mean(axis=(1, 2))).astype(np.float32)


def _between(centre: np.ndarray, side: np.ndarray, cells: int) -> np.ndarray:
    """Bool (n, cells): whether a cell is within half a side of the centre, both in shares of all cells."""
    start, end = (np.rint((centre + half * side) * cells) for half in (-0.5, 0.5))
    cell = np.arange(cells)
    return (cell >= start[:, None]) & (cell < end[:, None])


# -- batches -----------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """Several batches of one shape, ready to be run in sequence.

    Args:
        inputs: (steps, b, ...).
        labels: one-hot, multi-hot, or mixtures of these, float32 (steps, b, K); zero in a row that only pads its
            batch.
        weights: float32 (steps, b); zero in such a row.
    """

    inputs: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Shuffled training batches, all of one shape, so that the training step is compiled once.

    The images of an epoch are distributed evenly over its updates, `batch_size` at most. An update may be divided into
    `parts`, whose gradients are added up. Uneven batches are padded with rows of weight zero, and the others of that
    update weigh correspondingly more: the mean is over real images, however an update is divided.

    Args:
        read: positions and epoch to inputs.
        labels: int (N,); or (N, K), 1 where the image has the class, where it may have several.
        weights: float32 (N,) of the images.
        classes: K.
        batch_size: images per update, at most.
        parts: batches per update.
        seed: of the order.
        equally: whether every class is drawn equally often instead of every image once.
        mixing: of each row with the next one of its update, None for no mixing.
        devices: among which the rows of each batch are divided.
        passes: how many times an epoch goes through the images, each time in another order.
    """

    read: Reader
    labels: np.ndarray
    weights: np.ndarray
    classes: int
    batch_size: int
    seed: int
    parts: int = 1
    equally: bool = False
    mixing: Mixing | None = None
    devices: int = 1
    passes: int = 1

    @property
    def task(self) -> Task:
        """What the labels mean."""
        return of_truth(self.labels)

    @property
    def updates(self) -> int:
        """Updates per epoch."""
        return self.passes * self._updates

    @property
    def _updates(self) -> int:
        """Updates of one pass through the images."""
        return -(-len(self.labels) // self.batch_size)

    @property
    def part_size(self) -> int:
        """Rows of each batch that is run."""
        return self.devices * -(-len(self.labels) // (self._updates * self.parts * self.devices))

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An epoch: positions int (steps, b), their mixing partners, and factors of their weights, 0 for padding."""
        random = np.random.default_rng((self.seed, epoch))
        size = self.part_size * self.parts
        positions, partners = np.empty((2, self.updates, size), np.int64)
        scales = np.zeros((self.updates, size), np.float32)
        for number, rows in enumerate(rows for _ in range(self.passes) for rows in self._shared_out(random)):
            positions[number] = np.resize(rows, size)
            partners[number] = np.resize(np.roll(rows, -1), size)
            scales[number, : len(rows)] = np.float32(size / len(rows))
        shape = (self.updates * self.parts, self.part_size)
        return positions.reshape(shape), partners.reshape(shape), scales.reshape(shape)

    def _shared_out(self, random: np.random.Generator) -> list[np.ndarray]:
        """The positions of the updates of one pass through the images."""
        shuffled = drawn_equally(self.labels, random) if self.equally else random.permutation(len(self.labels))
        return np.array_split(shuffled, self._updates)

    def chunks(self, epoch: int, place: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Iterator[Chunk]:
        """The batches of an epoch, read ahead in a thread, several at once where they are small.

        Args:
            epoch: which, from 0.
            place: moves an array to where the backend needs it; called in that thread.
        """
        positions, partners, scales = self.order(epoch)
        row_bytes = self.read(positions[0, :1], epoch).nbytes
        steps = int(np.clip(CHUNK_BYTES // (row_bytes * self.part_size), 1, CHUNK_STEPS))
        take = self._mixed(self.mixing, epoch) if self.mixing else self._plain(epoch)

        def make(start: int) -> Chunk:
            here, others, scale = (part[start : start + steps].ravel() for part in (positions, partners, scales))
            inputs, targets, weights = take(here, others)
            targets, weights = targets * (scale > 0)[:, None], weights * scale
            shape = (-1, self.part_size)
            return Chunk(*(place(part.reshape(*shape, *part.shape[1:])) for part in (inputs, targets, weights)))

        return in_order(make, range(0, len(positions), steps), threads=1, ahead=2)

    def _targets(self, positions: np.ndarray) -> np.ndarray:
        """Float32 (n, K): one-hot or multi-hot."""
        return self.task.as_targets(self.labels[positions], self.classes).astype(np.float32)

    def _plain(self, epoch: int) -> Taker:
        return lambda here, others: (self.read(here, epoch), self._targets(here), self.weights[here])

    def _mixed(self, mixing: Mixing, epoch: int) -> Taker:
        """Mixing partners are mostly in the same batch, and are read once."""
        drawn = mixing.draw(len(self.labels), epoch)

        def take(here: np.ndarray, others: np.ndarray) -> Taken:
            needed, where = np.unique(np.stack([here, others]), return_inverse=True)
            own, other = where.reshape(2, -1)
            rows, targets, weights = self.read(needed, epoch), self._targets(needed), self.weights[needed]
            inputs, shares = mixing.mix(rows[own], rows[other], drawn[here])
            return inputs, *mixed_targets(targets[own], weights[own], targets[other], weights[other], shares)

        return take
