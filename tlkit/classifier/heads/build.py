"""`build_head`: from options to a small Keras model, features in, logits out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras

from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.process import seeded
from tlkit.classifier.heads.attention import attention, transformer
from tlkit.classifier.heads.conv import conv
from tlkit.classifier.heads.dense import linear, mlp
from tlkit.classifier.heads.parts import dense, dropped
from tlkit.classifier.heads.recurrent import recurrent
from tlkit.options.groups import HeadOptions

Reads = Literal["pooled", "grid"]

# kind -> what it reads, and what it puts before the logits
HEADS: dict[str, tuple[Reads, Callable[[Any, HeadOptions], Any]]] = {
    "linear": ("pooled", linear),
    "mlp": ("pooled", mlp),
    "conv": ("grid", conv),
    "attention": ("grid", attention),
    "transformer": ("grid", transformer),
    "rnn": ("grid", recurrent("rnn")),
    "lstm": ("grid", recurrent("lstm")),
    "gru": ("grid", recurrent("gru")),
}

POOLS = {"avg": ("avg",), "max": ("max",), "concat": ("avg", "max")}
LAYERS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


@dataclass(frozen=True, eq=False)
class Head:
    """What turns features into logits.

    Args:
        reads: "pooled", features (B, C'), or "grid", (B, h, w, C).
        pooling: "avg", "max" or "concat" of the two (C' = 2 C); used when it reads "pooled".
        model: input `head_features` float32, output `logits` float32 (B, K), no softmax.
    """

    reads: Reads
    pooling: str
    model: keras.Model


def build_head(options: HeadOptions, grid_shape: tuple[int, int, int], classes: int, *, seed: int = 0) -> Head:
    """Build a head for a backbone's grid.

    Args:
        options: kind, pooling, sizes, activation, dropout and penalty.
        grid_shape: (h, w, C) of the backbone.
        classes: K, 2 or more.
        seed: of the initial weights and of dropout.

    Raises:
        TlkitError: unknown kind, options that do not fit it, or fewer than two classes.
    """
    if options.head not in HEADS:
        raise unknown_name("a head", options.head, HEADS)
    if classes < 2:
        raise TlkitError(f"a classifier needs two classes or more, not {classes}.", "add images of another class.")
    reads, body = HEADS[options.head]
    shape = grid_shape if reads == "grid" else (grid_shape[-1] * len(POOLS[options.pooling]),)
    with seeded(seed):
        features = keras.Input(shape, dtype="float32", name="head_features")
        tensor = dropped(body(features, options), options, "head_dropout")
        logits = dense(classes, options, "logits", dtype="float32")(tensor)
    return Head(reads, options.pooling, keras.Model(features, logits, name="head"))


def pool(grid: Any, pooling: str) -> Any:
    """Pool a symbolic grid with plain layers, in float32.

    Args:
        grid: (B, h, w, C).
        pooling: "avg", "max", or "concat": avg, then max.

    Returns:
        (B, C), or (B, 2 C) for "concat".
    """
    parts = [LAYERS[kind](dtype="float32", name=f"head_pool_{kind}")(grid) for kind in POOLS[pooling]]
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(dtype="float32", name="head_pool_concat")(parts)
