"""Which third of a network has most to learn: gradients held against the weights they would move.

Surgical fine-tuning (Lee et al. 2023) lets one part of a network learn: early blocks where the images look different
from those it was pretrained on, late ones where they mean something else. Its Auto-RGN reads off the relative gradient
norm which part that is.
"""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from tlkit.backbones.blocks import set_trainable
from tlkit.backbones.build import Backbone
from tlkit.backbones.runtime import jit
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.decode import batches
from tlkit.options.commands import FinetuneConfig
from tlkit.training.plan import THIRDS, Decision, span
from tlkit.training.probe import FALLBACK, fit_probe

IMAGES = 256  # at most: half of them solve a head, the others make gradients
BATCH = 32


def sample(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Int (n,), n <= `IMAGES`: positions of images drawn at random, in any order, with at least two of every class.

    Args:
        labels: int (N,).
        random: of the draw.
    """
    order = random.permutation(len(labels))
    rank = np.empty(len(labels), int)  # of an image among those of its class
    for label in np.unique(labels):
        rank[order[labels[order] == label]] = np.arange((labels == label).sum())
    first = order[np.argsort(rank[order] >= 2, kind="stable")]
    return first[: max(IMAGES, 2 * len(np.unique(labels)))]


def relative_gradients(backbone: Backbone, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Norm of the gradient over that of the weights, the mean over kernels and batches, for each third of the blocks.

    A linear head is solved on every other image of each class; the gradients are those of its cross-entropy on the
    rest, which it has not seen. The network is copied, and the copy takes steps of plain gradient descent from the same
    weights: what a step changes is the gradient, on every backend.

    Args:
        backbone: left as it is.
        images: uint8 (n, H, W, 3).
        labels: int (n,), two images of a class at least.
    """
    _, dense = np.unique(labels, return_inverse=True)
    classes = int(dense.max()) + 1
    rank = np.array([(dense[:place] == label).sum() for place, label in enumerate(dense)])
    seen = rank % 2 == 0
    network = _with_linear_head(backbone, classes)
    features = keras.Model(network.input, network.layers[-2].output).predict(images, BATCH, verbose=0)
    probe = fit_probe([features[seen]], dense[seen], units=np.arange(seen.sum()), strength=FALLBACK)
    network.layers[-1].set_weights([probe.kernel, probe.bias])
    set_trainable(network, "all", blocks=backbone.blocks)
    network.compile(
        optimizer=keras.optimizers.SGD(1.0),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=jit(),
    )
    kernels = _kernels(backbone, network)
    norms = _norms(network, images[~seen], np.eye(classes, dtype=np.float32)[dense[~seen]], kernels)
    return {
        third: float(np.mean([norms[number] for number in members])) for third, members in _members(kernels).items()
    }


def _with_linear_head(backbone: Backbone, classes: int) -> keras.Model:
    """A copy of the backbone, pooled, under a linear head."""
    copy = keras.models.clone_model(backbone.model)
    copy.set_weights(backbone.model.get_weights())
    pooled = keras.layers.GlobalAveragePooling2D(name="relative_pool", dtype="float32")(copy.output)
    return keras.Model(copy.input, keras.layers.Dense(classes, name="relative_head", dtype="float32")(pooled))


def _kernels(backbone: Backbone, network: keras.Model) -> list[tuple[str, keras.Variable]]:
    """(third, kernel) of every layer of the blocks that learns and has one."""
    found = []
    for third in THIRDS:
        start, end = span(third, len(backbone.blocks), backbone.name)
        names = (name for block in backbone.blocks[start:end] for name in block.layers)
        found += [
            (third, weight)
            for name in names
            for weight in network.get_layer(name).trainable_weights
            if len(weight.shape) > 1
        ]
    return found


def _members(kernels: Sequence[tuple[str, keras.Variable]]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for number, (third, _) in enumerate(kernels):
        members.setdefault(third, []).append(number)
    return members


def _norms(
    network: keras.Model, images: np.ndarray, one_hot: np.ndarray, kernels: Sequence[tuple[str, keras.Variable]]
) -> np.ndarray:
    """Relative gradient norm float (kernels,), the mean over batches of one size."""
    size = min(BATCH, len(images))
    start = network.get_weights()
    before = [np.array(weight) for _, weight in kernels]
    totals = np.zeros(len(kernels))
    count = len(images) // size
    for number in range(count):
        rows = slice(number * size, (number + 1) * size)
        network.train_on_batch(images[rows], one_hot[rows])
        for place, (old, (_, weight)) in enumerate(zip(before, kernels, strict=True)):
            totals[place] += np.linalg.norm(old - np.array(weight)) / (np.linalg.norm(old) + 1e-12)
        network.set_weights(start)
    return totals / count


# -- `--unfreeze auto`: which third of the network learns, settled before the plan is made -----


def settled(
    config: FinetuneConfig, backbone: Backbone, contract: InputContract, dataset: Dataset, splits: Splits
) -> tuple[FinetuneConfig, Decision]:
    """The options with a third that the planner knows, and why that one."""
    rows = splits.indices("train")
    rows = rows[sample(dataset.labels[rows], np.random.default_rng((config.seed, 3)))]
    images = np.zeros((len(rows), contract.height, contract.width, 3), np.uint8)
    for batch in batches([dataset.file(row) for row in rows], contract, 32):
        images[batch.indices] = batch.images
    found = relative_gradients(backbone, images, dataset.labels[rows])
    best = max(found, key=lambda third: found[third])
    numbers = ", ".join(f"{third} {value:.2g}" for third, value in found.items())
    why = f"its gradients are the largest against its weights, on {len(rows)} images ({numbers})"
    return replace(config, unfreeze=best), Decision("unfreeze", best, why)
