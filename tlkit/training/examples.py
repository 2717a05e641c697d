"""What a stage reads: features of stored views, or pixels augmented afresh; in an order that a seed fixes.

The order of epoch e depends on (seed, e) alone, so that a resumed stage sees what it would have seen.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import keras
import numpy as np

from tlkit.core.errors import TlkitError
from tlkit.core.input_contract import InputContract
from tlkit.core.manifest import Manifest
from tlkit.data.augment import Augmentation, threads
from tlkit.data.images import batches

# (positions (b,), epoch) -> inputs (b, ...)
Reader = Callable[[np.ndarray, int], np.ndarray]


class Rows(Protocol):
    """Stored outputs of the frozen part, float32 (N, ...), read from disk as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """float32 (n, ...) of these positions, in memory."""


MEMORY_BYTES = 2 * 2**30  # decoded pixels kept in memory between epochs, at most


def stored_reader(views: Sequence[Rows], seed: int) -> Reader:
    """Read stored features; in every epoch each image shows one of its views, drawn by (seed, epoch).

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


class PixelReader:
    """Read decoded pixels (b, H, W, 3), another view of each image in every epoch.

    Pixels stay in memory between epochs where they fit, and are decoded again where they do not.

    Args:
        manifest: the images.
        contract: how they become pixels.
        augmentation: of the views; strength `none` gives the image itself in every epoch.
    """

    def __init__(self, manifest: Manifest, contract: InputContract, augmentation: Augmentation) -> None:
        self._manifest, self._contract, self._augmentation = manifest, contract, augmentation
        self._pool = threads()
        held = len(manifest) * contract.height * contract.width * 3
        self._kept = self._decode(np.arange(len(manifest))) if held <= MEMORY_BYTES else None

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


class Examples(keras.utils.PyDataset):
    """Shuffled training batches: (inputs, one-hot labels float32 (b, K), weights float32 (b,)).

    Args:
        read: positions and epoch to inputs.
        labels: int (N,).
        weights: float32 (N,) of the images.
        classes: K.
        batch_size: images a batch; a last batch may be smaller.
        seed: of the order.
        epoch: the first epoch that will be read.
    """

    def __init__(
        self,
        read: Reader,
        labels: np.ndarray,
        weights: np.ndarray,
        classes: int,
        batch_size: int,
        seed: int,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self._read, self._labels, self._weights = read, labels, weights
        self._classes, self._batch_size, self._seed, self._epoch = classes, batch_size, seed, epoch
        self._order = self._shuffled()

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        one_hot = np.eye(self._classes, dtype=np.float32)[self._labels[rows]]
        return self._read(rows, self._epoch), one_hot, self._weights[rows]

    def on_epoch_end(self) -> None:
        """Move to the next epoch and its order."""
        self._epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        return np.random.default_rng((self._seed, self._epoch)).permutation(len(self._labels))


def balanced_weights(labels: np.ndarray, classes: int, balance: str) -> np.ndarray:
    """float32 (N,): 1 for all, or for `weights` inversely to the class's frequency, with mean 1."""
    if balance == "none":
        return np.ones(len(labels), np.float32)
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (np.count_nonzero(counts) * counts[labels])).astype(np.float32)
