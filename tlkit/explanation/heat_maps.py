"""Evidence for a class, place by place: by gradients on the grid, and by occluding the image.

`overlays` is the simple interface: images and classes in, heat maps of the same size out.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np
from PIL import Image

from tlkit.base.errors import TlkitError
from tlkit.classifier.model import Classifier
from tlkit.explanation.pictures import Axis, Lattice, hot, pixel_centres, tiles
from tlkit.extraction.engine import Engine, build_engine
from tlkit.extraction.store import pooled

STEPS = 8  # of the path from the mean grid to the grid
BATCH = 32


@dataclass(frozen=True)
class EvidenceMap:
    """Maps of B images by one method.

    Args:
        values: float32 (B, h, w); above 0 evidence for the class, below 0 against it.
        lattice: where the cells lie in the network's input.
    """

    values: np.ndarray
    lattice: Lattice

    @property
    def heat(self) -> np.ndarray:
        """float32 (B, h, w), 0..1: positive evidence for the class, the strongest 1; all 0 where there is none."""
        return hot(self.values)


class Witness:
    """A classifier cut at the seam between backbone and head, ready to compute evidence maps.

    One that reads a class token has no grid there. It is cut before its last attention, where the class token has not yet
    attended to the patches, and its "grids" are the tokens (B, T, C).

    Args:
        classifier: as `tlkit.classifier.load` returns it.
    """

    def __init__(self, classifier: Classifier) -> None:
        model, layer = classifier.model, classifier.facts.grid_layer
        grid = seam = model.get_layer(layer).output
        self._cells, self._before = tuple(grid.shape[1:3]), 0
        self._token = self._cells == (1, 1)
        if self._token and (found := last_tokens(model)):
            layer, self._before, self._cells = found
            seam = model.get_layer(layer).output
        self._grid = keras.Model(seam, grid) if seam is not grid else None
        backbone = keras.Model(model.input, seam)
        self.head = keras.Model(seam, model.output)
        self._see = build_engine(backbone)
        self._whole: Engine | None = None
        self.alone = not classifier.facts.task.ranks
        self.gradient = build_gradient(self.head, alone=self.alone)
        self._model = model
        self.lattice = tiles(model.input_shape[1:3], self._cells)

    def refuse(self, methods: Collection[str]) -> None:
        """Raise where one of these methods does not suit the network, before anything is computed for it.

        Raises:
            TlkitError: `rollout`, where the network is not a vision transformer, or one of windows.
        """
        if "rollout" in methods:
            self._attention  # noqa: B018 - is built on first use

    @cached_property
    def _attention(self) -> "Rollout":
        found = last_tokens(self._model)
        return Rollout(self._model, found[1] if found else 0, first=self._token)

    def grids(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 (B, H, W, 3) -> grids float32 (B, h, w, C)."""
        return _in_batches(lambda rows: self._see.run(images[rows])[0], len(images))

    def logits(self, grids: np.ndarray) -> np.ndarray:
        """Grids (B, h, w, C) -> logits float32 (B, K)."""
        return np.asarray(keras.ops.convert_to_numpy(self.head(grids, training=False)))

    def features(self, grids: np.ndarray) -> np.ndarray:
        """Grids (B, h, w, C) -> the features float32 (B, C) by which images are compared."""
        return pooled(grids if self._grid is None else keras.ops.convert_to_numpy(self._grid(grids, training=False)))

    def evidence(self, method: str, images: np.ndarray, grids: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Maps by one of the methods `integrated`, `gradcam`, `occlusion`, `rollout`; arguments as theirs."""
        if method == "rollout":
            return self.rollout(images)
        if method == "occlusion":
            return self.occlusion(images, classes)
        return {"integrated": self.integrated, "gradcam": self.gradcam}[method](grids, classes)

    def integrated(self, grids: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Integrated gradients (Sundararajan et al. 2017) on the grid, from the image's own mean grid.

        The path begins where every place holds the mean of all places, so that a map shows what a
        place adds to the image's average; the sum over places is (nearly) the change of the score along
        the path. Heads that normalise each place make `gradient x activation` on the grid itself vanish,
        and recurrent heads forget; the path avoids both. With a linear head on the mean it is
        Grad-CAM minus its own mean. docs/explanations.md has the measurements.

        Args:
            grids: float32 (B, h, w, C).
            classes: int (B,), the classes to explain.
        """

        def batch(rows: slice) -> np.ndarray:
            here = grids[rows]
            mean = here.mean(axis=_places(here), keepdims=True)
            away = here - mean
            path = (mean + away * ((step + 0.5) / STEPS) for step in range(STEPS))
            gradient = sum(self.gradient(point, classes[rows]) for point in path) / STEPS
            return self._of_patches((gradient * away).sum(axis=-1))

        return EvidenceMap(_in_batches(batch, len(grids)), self.lattice)

    def gradcam(self, grids: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Grad-CAM (Selvaraju et al. 2017), before its ReLU: channels weighted by their mean gradient."""

        def batch(rows: slice) -> np.ndarray:
            weights = self.gradient(grids[rows], classes[rows]).mean(axis=_places(grids), keepdims=True)
            return self._of_patches((weights * grids[rows]).sum(axis=-1))

        return EvidenceMap(_in_batches(batch, len(grids)), self.lattice)

    def rollout(self, images: np.ndarray) -> EvidenceMap:
        """Attention rollout (Abnar & Zuidema 2020): the origin of the head's input; for no class, and above 0.

        Args:
            images: uint8 (B, H, W, 3).

        Raises:
            TlkitError: the network is not a vision transformer, or one of windows.
        """
        return EvidenceMap(self._attention(images).reshape(-1, *self._cells), self.lattice)

    def _of_patches(self, values: np.ndarray) -> np.ndarray:
        """Values of places (B, h, w), from those of places or of tokens (B, T)."""
        return values[:, self._before :].reshape(-1, *self._cells) if values.ndim == 2 else values

    def occlusion(self, images: np.ndarray, classes: np.ndarray) -> EvidenceMap:
        """Occlusion (Zeiler & Fergus 2014): how far the score falls when the image is covered.

        Args:
            images: uint8 (B, H, W, 3).
            classes: int (B,), the classes to explain.
        """
        self._whole = self._whole or build_engine(self._model)
        engine, codes = self._whole, np.asarray(classes)

        def score(covered: np.ndarray, code: int) -> np.ndarray:
            return scores(engine.run(covered)[0], np.full(len(covered), code), alone=self.alone)

        maps = [occlusion(partial(score, code=code), image) for image, code in zip(images, codes, strict=True)]
        return EvidenceMap(np.stack(maps), occlusion_lattice(images.shape[1:3]))


def last_tokens(model: keras.Model) -> tuple[str, int, tuple[int, int]] | None:
    """The layer whose tokens the last attention of a vision transformer reads, before the image is summarised.

    Args:
        model: flat; may have further layers after the network.

    Returns:
        Name of the layer, how many of its tokens precede those of patches, and rows and columns of patches; None for a
        network that is not from `tlkit.backbones.transformers`, which is recognised by the names of its layers.
    """
    names = {layer.name for layer in model.layers}
    if not {"patch_rows", "tokens", "block1_output"} <= names or "block1_windows" in names:
        return None
    _, rows, _, columns, _ = model.get_layer("patch_rows").output.shape
    last = max(number for number in range(1, len(names)) if f"block{number}_output" in names)
    name = "norm" if "pool1_scores" in names else f"block{last - 1}_output" if last > 1 else "tokens"
    return name, model.get_layer(name).output.shape[1] - rows * columns, (rows, columns)


def overlays(classifier: Classifier, images: np.ndarray, class_indices: np.ndarray) -> np.ndarray:
    """Where a classifier sees a class: one heat map for each image, pixel by pixel.

    One forward pass of the backbone for each image and a few passes through the head.

    Args:
        classifier: any that tlkit composed or loaded.
        images: uint8 (B, H, W, 3), RGB, decoded by the classifier's own input contract.
        class_indices: int (B,), for each image the class to explain, usually the predicted one.

    Returns:
        float32 (B, H, W), 0..1: 1 at the strongest evidence for the class, 0 where there is none.
        `tlkit.explanation.pictures.overlay(image, heat)` draws one over its image.
    """
    if not len(images):
        return np.zeros(images.shape[:3], np.float32)
    witness = Witness(classifier)
    height, width = images.shape[1:3]
    evidence = witness.integrated(witness.grids(images), np.asarray(class_indices))
    return hot(evidence.lattice.sample(evidence.heat, pixel_centres(height), pixel_centres(width)))


def _places(grids: np.ndarray) -> tuple[int, ...]:
    """The axes of the places of a grid, or of its tokens."""
    return tuple(range(1, grids.ndim - 1))


def _in_batches(work: Callable[[slice], np.ndarray], count: int) -> np.ndarray:
    """`work` of every slice of `BATCH` rows, one after the other."""
    return np.concatenate([work(slice(first, first + BATCH)) for first in range(0, count, BATCH)])


# -- How far two methods agree, so that a reader knows when to trust neither ---

AGREE, DOUBT = 0.7, 0.4  # nine in ten maps of different images agree less than the first


def agreement(first: EvidenceMap, second: EvidenceMap) -> np.ndarray:
    """Pearson's correlation of the heat of two maps of the same images, cell by cell of the second.

    Of the heat, and not of the ranks of all cells: most cells are background with hardly any evidence
    in either map, and their order is random. On drawn scenes this distinguishes the maps of one image
    from those of two with an area under the curve of 0.99, ranks with 0.93.

    Args:
        first: maps of B images by one method.
        second: by another one; the first is read at the centres of its cells.

    Returns:
        float64 (B,), -1..1: 1 for the same places, 0 for chance, also where a map is flat.
    """
    y, x = second.lattice.rows.centres, second.lattice.columns.centres
    pairs = zip(first.lattice.sample(first.heat, y, x), second.heat, strict=True)
    return np.array([_correlation(one.ravel(), other.ravel()) for one, other in pairs])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    one, other = (np.float64(values) - np.float64(values).mean() for values in (first, second))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale else 0.0


def in_words(value: float) -> str:
    """`methods agree (0.81)`."""
    words = "methods agree" if value >= AGREE else "methods agree in part" if value >= DOUBT else "methods disagree"
    return f"{words} ({value:.2f})"


# -- The gradient of a class's score with respect to the grid, compiled by the backend of Keras ---
#
# The only file that knows how backends differentiate. The backbone is not involved: its grid is an
# input here, so a gradient costs as much as a head does.

Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]
Score = Callable[[Any, Any], Any]  # (logits (B, K), one-hot (B, K)) -> a scalar tensor


def build_gradient(head: keras.Model, *, alone: bool = False) -> Gradient:
    """The function (grids float32 (B, h, w, C), classes int (B,)) -> d score / d grid, float32 (B, h, w, C).

    Args:
        head: grid -> logits (B, K).
        alone: whether outputs are numbers, each of which is a score itself, instead of competing classes.
    """
    build = _BACKENDS[keras.backend.backend()]
    run = build(head, _number if alone else _score)
    return lambda grids, classes: run(
        np.asarray(grids, np.float32), np.eye(head.output_shape[-1], dtype=np.float32)[classes]
    )


def _score(logits: Any, one_hot: Any) -> Any:
    """Sum over the batch of the log-odds of each image's class: log p / (1 - p), as in `scores`.

    The logit itself is only defined up to a constant shared by all classes, on which no prediction
    depends; the log-odds determine the prediction.
    """
    own = keras.ops.sum(logits * one_hot, axis=-1)
    others = keras.ops.logsumexp(logits - 1e9 * one_hot, axis=-1)
    return keras.ops.sum(own - others)


def _number(numbers: Any, one_hot: Any) -> Any:
    """Sum over the batch of the number that is explained in each image."""
    return keras.ops.sum(numbers * one_hot)


def scores(logits: np.ndarray, classes: np.ndarray, *, alone: bool = False) -> np.ndarray:
    """Log-odds float64 (B,) of the classes (B,), from logits (B, K); the outputs themselves where each stands `alone`."""
    logits = logits.astype(np.float64)
    rows = np.arange(len(logits))
    own = logits[rows, classes]
    if alone:
        return own
    rest = logits.copy()
    rest[rows, classes] = -np.inf
    return own - np.logaddexp.reduce(rest, axis=1)


def _tensorflow(head: keras.Model, score_of: Score) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *head.input_shape[1:])), tf.TensorSpec((None, head.output_shape[-1]))]

    @tf.function(input_signature=signature, autograph=False)
    def compiled(grids: Any, one_hot: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(grids)
            score = score_of(head(grids, training=False), one_hot)
        return tape.gradient(score, grids)

    return lambda grids, one_hot: compiled(tf.constant(grids), tf.constant(one_hot)).numpy()


def _jax(head: keras.Model, score_of: Score) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import jax

    trainable = [variable.value for variable in head.trainable_variables]
    fixed = [variable.value for variable in head.non_trainable_variables]

    def score(grids: Any, one_hot: Any) -> Any:
        logits, _ = head.stateless_call(trainable, fixed, grids, training=False)
        return score_of(logits, one_hot)

    compiled = jax.jit(jax.grad(score))
    return lambda grids, one_hot: np.asarray(compiled(grids, one_hot))


def _torch(head: keras.Model, score_of: Score) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import torch

    def run(grids: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
        tensor = keras.ops.convert_to_tensor(grids).requires_grad_(True)
        score = score_of(head(tensor, training=False), keras.ops.convert_to_tensor(one_hot))
        return keras.ops.convert_to_numpy(torch.autograd.grad(score, tensor)[0])

    return run


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


# -- Occlusion (Zeiler & Fergus 2014): the fall of the score when each patch is covered ---
#
# It uses no gradients, grids or heads, so agreement with a gradient map is agreement of two independent
# methods. It costs `PATCHES` x `PATCHES` forward passes per image, and one for the whole.
#
# Patches are blurred pieces of the image with soft edges. Hard edges are themselves visible, and heads
# that read places one by one react to them more than to what they hide (benchmarks/RESULTS.md).

PATCHES = 8  # centres of patches along each side
WHOLE, EDGE = 0.7, 2.0  # a patch covers fully up to 0.7 steps from its centre, then decreasingly, and not at all from 2
COVERED_BATCH = 13  # images per forward pass: five of one shape make 8 x 8 patches and the image itself
BLUR = 5  # an image is covered with itself, blurred to this many blobs per side, so that no new colours appear


def occlusion_lattice(size: tuple[int, int]) -> Lattice:
    """The lattice of an occlusion map in an image of `size` (height, width)."""
    return tiles(size, (PATCHES, PATCHES))


def occlusion(score: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """How much more the score falls when the image is covered around a centre than around the others.

    Args:
        score: images uint8 (B, H, W, 3) -> (B,).
        image: uint8 (H, W, 3), RGB.

    Returns:
        float32 (PATCHES, PATCHES), in units of the score: the fall at each centre, less the median over centres, which
        is what covering any place costs.
    """
    images = [image, *_covered(image)]
    whole, *covered = np.concatenate(
        [score(np.stack(images[i : i + COVERED_BATCH])) for i in range(0, len(images), COVERED_BATCH)]
    )
    falls = whole - np.array(covered)
    return (falls - np.median(falls)).astype(np.float32).reshape(PATCHES, PATCHES)


def _covered(image: np.ndarray) -> Iterator[np.ndarray]:
    """The image under each patch, in reading order."""
    height, width, _ = image.shape
    blobs = Image.fromarray(image).resize((BLUR, BLUR), Image.Resampling.BOX)
    change = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC), np.float32) - image
    columns = _patches(width)
    for row in _patches(height):
        for column in columns:
            yield (image + np.outer(row, column)[..., None] * change).round().astype(np.uint8)


def _patches(side: int) -> np.ndarray:
    """float32 (PATCHES, side): how far each patch covers each pixel of a side, 0..1."""
    axis = Axis(side, PATCHES)
    steps = np.abs(pixel_centres(side) - axis.centres[:, None]) * PATCHES / side
    return np.clip((EDGE - steps) / (EDGE - WHOLE), 0, 1).astype(np.float32)


# -- Attention rollout (Abnar and Zuidema 2020): the shares of patches in the input of the head ---
#
# It follows attention through all blocks and is independent of the class: an image has one map. Half of the output of a block is
# its input (the skip connection), so that the share of token j in token i after a block is (A + I) / 2, with A the mean of its
# heads; for all blocks it is the product of these.

Scores = Callable[[list[np.ndarray]], np.ndarray]  # outputs of layers -> scores before the softmax (B, heads, T, T)


class Rollout:
    """The shares of patches, ready to be computed for images.

    Args:
        model: flat, images in; contains a vision transformer of `tlkit.backbones.transformers`.
        before: tokens before those of patches.
        first: whether the head reads only the first of these, the class token; else all patches equally.

    Raises:
        TlkitError: no such transformer.
    """

    def __init__(self, model: keras.Model, before: int, *, first: bool) -> None:
        self.before, self.first = before, first
        names = {layer.name for layer in model.layers}
        numbers = sorted(int(found[1]) for name in names if (found := re.fullmatch(r"block(\d+)_attended", name)))
        if not {"tokens", "block1_norm1"} <= names or "block1_windows" in names:
            raise TlkitError(
                "attention rollout needs attention between all patches, which this network does not have.",
                "give --method integrated,occlusion, which are for every network.",
            )
        self.blocks = [_scores_of(model, f"block{number}") for number in numbers]
        self.pools = "pool1_shares" in names
        taps = [tensor for tensors, _ in self.blocks for tensor in tensors]
        taps += [model.get_layer("pool1_shares").output] if self.pools else []
        self._taps = keras.Model(model.input, taps)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 (B, H, W, 3) -> shares float32 (B, patches)."""
        return np.stack([self._of_one(image[None].astype(np.float32)) for image in images]).astype(np.float32)

    def _of_one(self, image: np.ndarray) -> np.ndarray:
        """One image at a time: the shares of one block are tokens by tokens."""
        from scipy.special import softmax

        found = [keras.ops.convert_to_numpy(tap) for tap in keras.tree.flatten(self._taps(image, training=False))]
        total: Any = None
        for tensors, scores in self.blocks:
            given, found = found[: len(tensors)], found[len(tensors) :]
            shares = softmax(scores(given), axis=-1)[0].mean(axis=0)
            mixed = (shares + np.eye(len(shares), dtype=shares.dtype)) / 2
            total = mixed if total is None else mixed @ total
        if self.pools and self.first:
            return found[0][0].reshape(len(total), -1).mean(axis=1) @ total[:, self.before :]
        read = total[:1] if self.first else total[self.before :]
        return read.mean(axis=0)[self.before :]


def _scores_of(model: keras.Model, name: str) -> tuple[Sequence[Any], Scores]:
    """The layers from which the scores of a block are computed, and the function."""
    layer = model.get_layer(f"{name}_attention")
    if not isinstance(layer, keras.layers.MultiHeadAttention):  # rotary: queries and keys are outputs of layers
        return [model.get_layer(f"{name}_{part}").output for part in ("query", "key")], lambda given: _products(*given)

    def scores(given: list[np.ndarray]) -> np.ndarray:
        query, key = (
            np.einsum("btc,chd->bthd", given[0], part.kernel) + (0 if part.bias is None else np.asarray(part.bias))
            for part in (layer.query_dense, layer.key_dense)
        )
        return _products(query, key)

    return [model.get_layer(f"{name}_norm1").output], scores


def _products(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """(B, T, heads, channels) twice -> (B, heads, T, T)."""
    return np.einsum("bihd,bjhd->bhij", query, key, optimize=True) / np.sqrt(query.shape[-1])
