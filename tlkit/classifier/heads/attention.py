"""Heads that weigh the positions of the grid: attention pooling and a small transformer."""

from typing import Any

import keras

from tlkit.base.errors import TlkitError
from tlkit.classifier.heads.build import activated, dense, dropped, normalized, penalty, sequence
from tlkit.options.groups import HeadOptions

LARGEST_KEY = 64  # channels per attention head, as in Vaswani et al. 2017


def attention(grid: Any, options: HeadOptions) -> Any:
    """Attention pooling (Ilse et al. 2018): (B, h, w, C) -> (B, C), the mean of positions weighted by a learned score.

    The score of a position is `v . tanh(W norm(x))` with `options.hidden` as its width; a softmax over
    positions turns scores into weights. `options.activation` does not apply.
    """
    width = _width(options, "attention")
    tokens = sequence(grid)
    scores = dense(width, options, "head_score_hidden")(normalized(tokens, "head_norm"))
    scores = keras.layers.Activation("tanh", name="head_score_tanh")(scores)
    scores = dense(1, options, "head_score", use_bias=False)(scores)
    weights = keras.layers.Softmax(axis=1, dtype="float32", name="head_weights")(scores)
    pooled = keras.layers.Dot(axes=1, dtype="float32", name="head_weighted")([weights, tokens])
    return keras.layers.Reshape((tokens.shape[-1],), name="head_features_weighted")(pooled)


def transformer(grid: Any, options: HeadOptions) -> Any:
    """Pre-norm transformer encoder (Vaswani et al. 2017, Xiong et al. 2020): (B, h, w, C) -> (B, width).

    One layer for each entry of `options.hidden`, all of one width. The projection has a separate
    bias at every position, which is a learned positional embedding (Dosovitskiy et al. 2020).
    """
    _width(options, "transformer")
    return encoded(normalized(sequence(grid), "head_norm"), options)


def encoded(tokens: Any, options: HeadOptions, there: Any = None, *, inner_dropout: bool = True) -> Any:
    """Tokens (B, T, C) through a layer for each entry of `options.hidden`, of the width of the first: their mean (B, width).

    Args:
        tokens: normalised.
        options: sizes, activation, dropout and penalty.
        there: bool (B, T), the mask of existing tokens; None for all of them.
        inner_dropout: whether dropout acts within the layers.
    """
    width = options.hidden[0]
    tokens = keras.layers.EinsumDense(
        "btc,cd->btd",
        output_shape=(tokens.shape[1], width),
        bias_axes="td",
        bias_initializer=keras.initializers.RandomNormal(stddev=0.02),
        kernel_regularizer=penalty(options),
        name="head_embedding",
    )(tokens)
    for number in range(1, len(options.hidden) + 1):
        tokens = _encoder_layer(tokens, there, options, f"head_layer_{number}", inner_dropout)
    tokens = normalized(tokens, "head_norm_last")
    return keras.layers.GlobalAveragePooling1D(dtype="float32", name="head_mean")(tokens, mask=there)


def _encoder_layer(tokens: Any, there: Any, options: HeadOptions, name: str, inner_dropout: bool) -> Any:
    """Self-attention among the existing tokens, and a hidden layer of twice the width, each with a skip connection."""
    width, drop = tokens.shape[-1], dropped if inner_dropout else _kept
    heads = max(1, width // LARGEST_KEY)
    query = normalized(tokens, f"{name}_attention_norm")
    attended = keras.layers.MultiHeadAttention(
        heads, width // heads, kernel_regularizer=penalty(options), name=f"{name}_attention"
    )(query, query, attention_mask=None if there is None else keras.ops.expand_dims(there, 1))
    tokens = keras.layers.Add(name=f"{name}_attention_add")([tokens, drop(attended, options, f"{name}_dropout_1")])
    inner = dense(2 * width, options, f"{name}_dense_1")(normalized(tokens, f"{name}_dense_norm"))
    inner = activated(inner, options, f"{name}_activation")
    inner = dense(width, options, f"{name}_dense_2")(drop(inner, options, f"{name}_dropout_2"))
    return keras.layers.Add(name=f"{name}_dense_add")([tokens, inner])


def _kept(tensor: Any, options: HeadOptions, name: str) -> Any:
    """Used instead of `dropped`."""
    del options, name
    return tensor


def _width(options: HeadOptions, head: str) -> int:
    """The common width of all layers."""
    if len(set(options.hidden)) != 1 or (head == "attention" and len(options.hidden) > 1):
        several = "one entry for each layer, all the same" if head == "transformer" else "one number"
        raise TlkitError(
            f"--hidden {','.join(map(str, options.hidden))} does not fit --head {head}, which has one width.",
            f"give {several}, for example --hidden 256.",
        )
    return options.hidden[0]
