"""Attention rollout (Abnar and Zuidema 2020): from which patches what the head reads has been put together.

It follows attention through all blocks and knows no class: an image has one map. Half of what a block gives is what it got
(the identity beside its attention), so that the share of token j in token i after a block is (A + I) / 2, A the mean of its
heads, and of all blocks the product of these.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tlkit.base.errors import TlkitError

Scores = Callable[[list[np.ndarray]], np.ndarray]  # outputs of layers -> scores before the softmax (B, heads, T, T)


class Rollout:
    """The shares of patches, ready to be computed for images.

    Args:
        model: flat, images in; a vision transformer of `tlkit.backbones.transformers` is in it.
        before: tokens before those of patches.
        first: whether the head reads the first of these alone, the class token; else all patches alike.

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
        found = [keras.ops.convert_to_numpy(tap) for tap in keras.tree.flatten(self._taps(image, training=False))]
        total: Any = None
        for tensors, scores in self.blocks:
            given, found = found[: len(tensors)], found[len(tensors) :]
            shares = _softmax(scores(given))[0].mean(axis=0)
            mixed = (shares + np.eye(len(shares), dtype=shares.dtype)) / 2
            total = mixed if total is None else mixed @ total
        if self.pools and self.first:
            return found[0][0].reshape(len(total), -1).mean(axis=1) @ total[:, self.before :]
        read = total[:1] if self.first else total[self.before :]
        return read.mean(axis=0)[self.before :]


def _scores_of(model: keras.Model, name: str) -> tuple[Sequence[Any], Scores]:
    """What the scores of a block are computed from, and how."""
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


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
