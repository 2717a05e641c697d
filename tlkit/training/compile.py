"""Unfreeze, then compile: the two in one place, because the first without the second silently does nothing."""

from collections.abc import Callable
from typing import Literal

import keras

from tlkit.backbones.blocks import Block, set_trainable
from tlkit.core.option_groups import TrainingOptions
from tlkit.runtime import jit

WARM_UP = 0.1  # of the steps, from zero to the peak rate; then a cosine to zero (Loshchilov & Hutter 2017)
CLIP_NORM = 1.0

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": lambda momentum, **common: keras.optimizers.SGD(momentum=momentum, **common),
    "adam": lambda momentum, weight_decay, **common: keras.optimizers.Adam(**common),
    "adamw": lambda momentum, **common: keras.optimizers.AdamW(**common),
    "rmsprop": lambda momentum, **common: keras.optimizers.RMSprop(momentum=momentum, **common),
    "lion": lambda momentum, **common: keras.optimizers.Lion(**common),
}


def unfreeze_and_compile(
    model: keras.Model,
    options: TrainingOptions,
    *,
    blocks: tuple[Block, ...],
    learn: int | Literal["all"],
    learning_rate: float,
    updates: int,
    parts: int = 1,
) -> None:
    """Choose what learns and compile for it.

    Args:
        model: a head, a suffix after a cut, or a whole classifier; gives logits (B, K).
        options: optimizer, loss, decay, BatchNorm.
        blocks: of the backbone; layers that belong to none (the head's) always learn.
        learn: how many last blocks learn, or "all".
        learning_rate: peak.
        updates: of the whole stage, for the schedule.
        parts: batches whose gradients are averaged into one update.
    """
    set_trainable(model, learn, options.batchnorm, blocks=blocks)
    optimizer = build_optimizer(options, learning_rate, updates, parts)
    model.compile(optimizer=optimizer, loss=build_loss(options), jit_compile=jit())
    model.optimizer.build(model.trainable_variables)


class PerUpdate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over updates, where Keras counts every batch whose gradients are accumulated.

    Args:
        schedule: update to rate.
        parts: batches an update.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, parts: int) -> None:
        super().__init__()
        self.schedule, self.parts = schedule, parts

    def __call__(self, step: int) -> float:
        """The rate at a batch."""
        return self.schedule(keras.ops.floor_divide(step, self.parts))


def build_optimizer(
    options: TrainingOptions, learning_rate: float, updates: int, parts: int = 1
) -> keras.optimizers.Optimizer:
    """The optimizer with warm-up, cosine, clipping, and decay off biases and norms."""
    warm_up = max(1, int(WARM_UP * updates))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, updates - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
    )
    optimizer = OPTIMIZERS[options.optimizer](
        momentum=options.momentum,
        learning_rate=schedule if parts == 1 else PerUpdate(schedule, parts),
        weight_decay=options.weight_decay,
        global_clipnorm=CLIP_NORM,
        gradient_accumulation_steps=None if parts == 1 else parts,
    )
    if options.optimizer != "adam":  # Adam's decay would be coupled; AdamW is the one that decays
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def carry_over(old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer) -> None:
    """Give an optimizer the state of another one that takes its updates in another number of parts.

    Between two updates nothing is accumulated, so only the count of batches differs.
    """
    known = {variable.name: variable for variable in old.variables}
    for variable in new.variables:
        if variable.name in known:
            variable.assign(known[variable.name].value)
    parts = new.gradient_accumulation_steps or 1
    batches = new.variables[0]  # `iterations` counts updates, this variable batches
    batches.assign(keras.ops.cast(old.iterations, batches.dtype) * parts)


def build_loss(options: TrainingOptions) -> Callable:
    """The loss on logits (B, K) and one-hot labels (B, K)."""
    if options.loss == "crossentropy":
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=options.label_smoothing)
    if options.loss == "focal":
        return keras.losses.CategoricalFocalCrossentropy(from_logits=True)  # Lin et al. 2017
    return squared_error


def squared_error(one_hot: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Squared distance of the probabilities from the truth, summed over classes (Brier 1950); (B,)."""
    return keras.ops.sum(keras.ops.square(keras.ops.softmax(logits) - one_hot), axis=-1)
