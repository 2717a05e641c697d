"""Unfreeze, then compile: the two in one place, because the first without the second silently does nothing."""

from collections.abc import Callable
from typing import Literal

import keras
import numpy as np

from tlkit.backbones.blocks import Block, set_trainable
from tlkit.core.option_groups import TrainingOptions
from tlkit.runtime import jit
from tlkit.training import lora
from tlkit.training.centralization import filters
from tlkit.training.optimizer import build_optimizer, rate_factors


def unfreeze_and_compile(
    model: keras.Model,
    options: TrainingOptions,
    *,
    blocks: tuple[Block, ...],
    learn: int | Literal["all"],
    skipped: int = 0,
    learning_rate: float,
    updates: int,
    parts: int = 1,
    centralize: bool = False,
    added: np.ndarray | None = None,
    multi: bool = False,
) -> None:
    """Choose what learns and compile for it.

    Args:
        model: a head, a suffix after a cut, or a whole classifier; gives logits (B, K).
        options: optimizer, loss, decay, BatchNorm.
        blocks: of the backbone; layers that belong to none (the head's) always learn.
        learn: how many last blocks learn, or "all".
        skipped: how many blocks after them stay frozen, so that those before these are the ones that learn.
        learning_rate: peak, of the head; those of the blocks decay from it (`optimizer.rate_factors`).
        updates: of the whole stage, for the schedule.
        parts: batches whose gradients are averaged into one update.
        centralize: whether the gradients of filters are centralized.
        added: float32 (K,) that the loss adds to the logits, see `balance.log_prior`.
        multi: whether an image may have several labels.
    """
    set_trainable(model, learn, options.batchnorm, blocks=blocks, skipped=skipped)
    lora.hold(model, blocks)
    optimizer = build_optimizer(
        options,
        learning_rate,
        updates,
        parts,
        variables=model.trainable_variables,
        factors=rate_factors(model, blocks[: len(blocks) - skipped], options.layer_decay),
        centralized=filters(model) if centralize else (),
    )
    model.compile(optimizer=optimizer, loss=build_loss(options, added, multi=multi), jit_compile=jit())


def build_loss(options: TrainingOptions, added: np.ndarray | None = None, *, multi: bool = False) -> Callable:
    """The loss on logits (B, K), with `added` (K,) to each, and one-hot labels (B, K), or several a row (`multi`)."""
    loss = _loss_of_several(options) if multi else _plain_loss(options)
    if added is None:
        return loss
    each = loss.call if isinstance(loss, keras.losses.Loss) else loss  # (B,), so that rows keep their weights
    return lambda one_hot, logits: each(one_hot, logits + added)


def _plain_loss(options: TrainingOptions) -> Callable:
    if options.loss == "crossentropy":
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=options.smoothing())
    if options.loss == "focal":
        return keras.losses.CategoricalFocalCrossentropy(from_logits=True)  # Lin et al. 2017
    return squared_error


def _loss_of_several(options: TrainingOptions) -> Callable:
    """The same losses of K yes-or-no questions, the mean over them."""
    if options.loss == "crossentropy":
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=options.smoothing(multi=True))
    if options.loss == "focal":
        return keras.losses.BinaryFocalCrossentropy(from_logits=True)
    return squared_errors


def squared_errors(targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Squared distance of each probability from the truth, the mean over classes; (B,)."""
    return keras.ops.mean(keras.ops.square(keras.ops.sigmoid(logits) - targets), axis=-1)


def squared_error(one_hot: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Squared distance of the probabilities from the truth, summed over classes (Brier 1950); (B,)."""
    return keras.ops.sum(keras.ops.square(keras.ops.softmax(logits) - one_hot), axis=-1)
