"""The optimizer of a stage: one of Keras's own, with layer-wise rates and an average of the weights.

`keras.optimizers.MultiOptimizer` gives groups of layers optimizers of their own. Each would clip its own gradients,
although the global norm is over all of them, and would count, accumulate and be stored separately; and it is a recent
addition to Keras. One optimizer that scales its rate does the same in a few lines. It is not part of saved classifiers,
which are saved uncompiled.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from tlkit.backbones.blocks import Block, set_trainable
from tlkit.backbones.runtime import jit
from tlkit.options.commands import FinetuneConfig
from tlkit.options.groups import TrainingOptions
from tlkit.options.training import WITH_MOMENTUM
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task

FREE_FROM = 2000  # training images


def is_centralized(options: FinetuneConfig, train: int) -> tuple[bool, str]:
    """Whether gradients are centralized, and why.

    Args:
        options: what was asked for.
        train: training images.
    """
    if options.centralize != "auto":
        return options.centralize == "on", "asked for"
    few = train < FREE_FROM
    bound = f"{'fewer than' if few else 'not fewer than'} {FREE_FROM:,}"
    return few, f"{train:,} training images, {bound}"


def filters(model: keras.Model) -> set[int]:
    """Ids of the kernels of the model's convolutions, without depthwise ones, which have a single input."""
    return {id(layer.kernel) for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}


# -- The optimizer: layer-wise rates, and an average of the weights ---

WARM_UP = 0.1  # share of the updates from zero to the peak rate; then a cosine to zero
CLIP_NORM = 1.0  # of all gradients together
GROUPS = 12  # of neighbouring blocks, at most, that have different decayed rates


class Course(keras.optimizers.schedules.LearningRateSchedule):
    """The rate by update: linearly from zero to its peak, then a cosine to zero (Loshchilov & Hutter 2017).

    Unlike Keras's `CosineDecay` it can be changed after steps are compiled, where these read variables anew; it is not part
    of an optimizer's state.
    """

    def __init__(self, peak: float, updates: int, warm_up: float) -> None:
        self._course = keras.Variable(np.zeros(3, np.float32), trainable=False, name="course")
        self.follow(peak, updates, warm_up)

    def follow(self, peak: float, updates: int, warm_up: float) -> None:
        """Become the schedule of so many updates from here on; `warm_up` is the share of them in which the rate rises."""
        rising = max(1, int(warm_up * updates))
        self._course.assign([peak, rising, max(1, updates - rising)])

    def __call__(self, step: Any) -> Any:
        """The rate at an update, counted from 0."""
        ops = keras.ops
        peak, rising, falling = ops.unstack(ops.convert_to_tensor(self._course))
        step = ops.cast(step, "float32")
        fallen = ops.minimum(step - rising, falling) / falling
        return peak * ops.where(step < rising, step / rising, 0.5 * (1.0 + ops.cos(np.float32(np.pi) * fallen)))


class Layerwise(keras.optimizers.Optimizer):
    """What is added to a Keras optimizer, as a mixin; `_classes` makes the classes.

    Args:
        factors: of the rate for each variable, in the order in which `build` gets them.
        centralized: whether the gradient of each variable is centralized: its mean over all axes but the last, the
            outputs, is subtracted.
        horizon: updates that the rate schedule is made for.
        options: of the Keras optimizer. With `use_ema`, the average of the weights is in its state; the momentum is
            that of Keras, but no more than (1 + t) / (10 + t) after t updates, so that in a short run the average does
            not consist of the beginning.
    """

    weight_decay: float | None
    _learning_rate: Course

    def __init__(self, *, factors: Sequence[float], centralized: Sequence[bool], horizon: int, **options: Any) -> None:
        super().__init__(**options)
        self.factors, self.centralized = tuple(factors), tuple(centralized)
        self.horizon = horizon

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state; averages start at the weights."""
        if self.built:
            return
        super().build(variables)
        # Position in the schedule, the update at which it was reached, and positions per update from there on.
        self._pace = self.add_variable((3,), dtype="float32", name="pace")
        self._pace.assign([0.0, 0.0, 1.0])
        for variable, average in self.averages():
            average.assign(_copied(variable))

    def state(self) -> list[np.ndarray]:
        """The current state, for `rewind`."""
        return [_copied(variable) for variable in self.variables]

    def rewind(self, state: Sequence[np.ndarray]) -> None:
        """Go back to the initial state; averages start at the current weights."""
        for variable, values in zip(self.variables, state, strict=True):
            variable.assign(values)
        for variable, average in self.averages():
            average.assign(_copied(variable))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable at its own rate."""
        super().update_step(self._central(gradient, variable), variable, learning_rate * self._factor(variable))

    def follow(self, peak: float, updates: int, warm_up: float) -> None:
        """Use another schedule, see `Course`; steps whose `Epoch` follows adopt it."""
        self._learning_rate.follow(peak, updates, warm_up)
        self.horizon = updates

    def stand_still(self) -> None:
        """Stay at the beginning of the schedule, where the rate is zero: updates change no weight from here on."""
        self._pace.assign([0.0, 0.0, 0.0])

    def end_after(self, updates: int) -> None:
        """Go through the rest of the schedule in so many more updates, without skipping or repeating any of it."""
        done = int(self.iterations)
        place, since, speed = map(float, keras.ops.convert_to_numpy(self._pace))
        place += (done - since) * speed
        self._pace.assign([place, done, (self.horizon - place) / max(updates, 1)])

    def _get_current_learning_rate(self) -> Any:
        """The rate at this update; Keras would count every batch whose gradients are accumulated."""
        updates = keras.ops.floor_divide(self._iterations, self.gradient_accumulation_steps or 1)
        place, since, speed = keras.ops.unstack(keras.ops.convert_to_tensor(self._pace))
        return self._learning_rate(place + (keras.ops.cast(updates, "float32") - since) * speed)

    def averages(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """(weight, its average), none where none are kept."""
        kept = self._model_variables_moving_average if self.use_ema else ()
        return list(zip(self._trainable_variables, kept, strict=True)) if kept else []

    def _factor(self, variable: Any) -> float:
        return self.factors[self._get_variable_index(variable)]

    def _central(self, gradient: Any, variable: Any) -> Any:
        if not self.centralized[self._get_variable_index(variable)]:
            return gradient
        return gradient - keras.ops.mean(gradient, axis=tuple(range(len(gradient.shape) - 1)), keepdims=True)

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Decoupled decay by rate times decay, with the rate of each variable.

        Keras recomputes the rate for each variable, a schedule of a dozen operations: in a network of forty kernels a
        second of tracing, and hundreds of operations in every step.
        """
        if self.weight_decay is None:
            return
        rate, decay = keras.ops.convert_to_tensor(self._get_current_learning_rate()), self.weight_decay

        @cache
        def kept(factor: float, dtype: str) -> Any:
            return keras.ops.cast(1 - decay * factor * rate, dtype)

        for variable in variables:
            if self._use_weight_decay(variable):
                variable.assign(variable * kept(self._factor(variable), variable.dtype))

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[keras.Variable]) -> None:
        """Update the averages, once per update; Keras calls this for every batch, even one that only accumulates."""
        ops, parts = keras.ops, self.gradient_accumulation_steps or 1
        batches = self._iterations
        updates = ops.cast(ops.floor_divide(batches, parts), "float32")
        momentum = ops.minimum(self.ema_momentum, (1 + updates) / (10 + updates))
        share = ops.where(ops.equal((batches + 1) % parts, 0), 1 - momentum, 0.0)
        for variable, average in self.averages():
            average.assign(average + ops.cast(share, average.dtype) * (variable - average))


class AdamOfTensorFlow(Layerwise):
    """Adam's update (Kingma & Ba 2015) by TensorFlow's own kernel, and the norm of all gradients by another.

    Keras writes the update as fourteen operations, each of which goes through memory and is traced: with them, clipping and
    updating the 15 million weights of ResNet50's last stage takes twice as long, and tracing nearly three times (docs/log.md).
    """

    beta_1: float
    beta_2: float
    epsilon: float

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        import tensorflow as tf

        grads = [tf.convert_to_tensor(gradient) for gradient in grads]  # those of embeddings are slices
        norm = tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(tf.cast(gradient, tf.float32)) for gradient in grads]))
        # An infinite or NaN gradient makes all of them so, as in Keras: the stage ends with an error that says so.
        share = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm) + (norm - norm)
        return [gradient * tf.cast(share, gradient.dtype) for gradient in grads]

    def _backend_update_step(
        self, grads: Sequence[Any], variables: Sequence[keras.Variable], learning_rate: Any
    ) -> None:
        import tensorflow as tf

        updates = tf.cast(self.iterations + 1, tf.float32)
        shared = {
            "beta1_power": tf.pow(self.beta_1, updates),
            "beta2_power": tf.pow(self.beta_2, updates),
            "beta1": self.beta_1,
            "beta2": self.beta_2,
            "epsilon": self.epsilon,
        }

        @cache
        def numbers(factor: float, dtype: Any) -> dict[str, Any]:
            return {name: tf.cast(value, dtype) for name, value in (shared | {"lr": learning_rate * factor}).items()}

        for gradient, variable in zip(grads, variables, strict=True):
            number = self._get_variable_index(variable)
            state = {"var": variable, "m": self._momentums[number], "v": self._velocities[number]}
            tf.raw_ops.ResourceApplyAdam(
                **{name: one.value.handle for name, one in state.items()},
                **numbers(self.factors[number], gradient.dtype),
                grad=self._central(gradient, variable),
            )


def _classes() -> dict[str, type[Layerwise]]:
    kinds = keras.optimizers
    named = {"sgd": kinds.SGD, "adam": kinds.Adam, "adamw": kinds.AdamW, "rmsprop": kinds.RMSprop, "lion": kinds.Lion}
    own = dict.fromkeys(("adam", "adamw"), AdamOfTensorFlow) if keras.backend.backend() == "tensorflow" else {}
    return {
        name: type(f"Layerwise{kind.__name__}", (own.get(name, Layerwise), kind), {}) for name, kind in named.items()
    }


OPTIMIZERS = _classes()


def build_optimizer(
    options: TrainingOptions,
    learning_rate: float,
    updates: int,
    parts: int = 1,
    *,
    variables: Sequence[keras.Variable],
    factors: Mapping[int, float] | None = None,
    centralized: Container[int] = (),
    warm_up: float = WARM_UP,
) -> Layerwise:
    """The optimizer with warm-up, cosine, clipping, averages, and decay off biases and norms.

    Args:
        options: the name of the optimizer, its decay, momentum and averages.
        learning_rate: peak.
        updates: of the whole stage.
        parts: batches per update.
        variables: that learn.
        factors: of the rate, by id of the variable; 1 where none is given.
        centralized: ids of the variables whose gradient is centralized.
        warm_up: share of the updates in which the rate rises.
    """
    own: dict[str, Any] = {"momentum": options.momentum} if options.optimizer in WITH_MOMENTUM else {}
    if options.optimizer != "adam":  # Adam's decay would be coupled; AdamW is the one that decays
        own["weight_decay"] = options.weight_decay
    optimizer = OPTIMIZERS[options.optimizer](
        factors=[(factors or {}).get(id(variable), 1.0) for variable in variables],
        centralized=[id(variable) in centralized for variable in variables],
        horizon=updates,
        learning_rate=Course(learning_rate, updates, warm_up),
        global_clipnorm=CLIP_NORM,
        gradient_accumulation_steps=None if parts == 1 else parts,
        use_ema=options.ema > 0,
        ema_momentum=options.ema,
        **own,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(list(variables))
    return optimizer


def rate_factors(model: keras.Model, blocks: Sequence[Block], decay: float) -> dict[int, float]:
    """The factor of the rate of each variable of the backbone: smaller, the nearer it is to the pixels.

    The last block learns at `decay` times the head's rate, the one before it at `decay` squared, and so on (ULMFiT,
    Howard & Ruder 2018; BEiT, Bao et al. 2022). Of more than 12 blocks, neighbours share a factor, as in ConvNeXt's
    recipe (Liu et al. 2022): 0.8 over 50 blocks would leave the first ones a rate of 1e-5 of the head's, and the same
    decay would have a different effect in every network.

    Args:
        model: contains the blocks, or the last of them.
        blocks: of the whole backbone, from input to output: a block's rate does not depend on how many others learn.
        decay: 0..1; 1 gives every layer the same rate.

    Returns:
        id of the variable -> factor; the head's are not in it.
    """
    layers = {layer.name: layer for layer in model.layers}
    groups = min(GROUPS, len(blocks))
    return {
        id(variable): decay ** -(-(len(blocks) - number) * groups // len(blocks))
        for number, block in enumerate(blocks)
        for name in block.layers
        if name in layers
        for variable in layers[name].variables
    }


def carry_over(old: Layerwise, new: Layerwise) -> None:
    """Give an optimizer the state of another one whose updates have another number of parts.

    Between two updates nothing is accumulated, so only the count of batches differs.
    """
    known = {variable.name: variable for variable in old.variables}
    for variable in new.variables:
        if variable.name in known:
            variable.assign(known[variable.name].value)
    parts = new.gradient_accumulation_steps or 1
    batches = new.variables[0]  # `iterations` counts updates, this variable batches
    batches.assign(keras.ops.cast(old.iterations, batches.dtype) * parts)


def exchange_averages(optimizer: Layerwise) -> None:
    """Exchange weights and their averages; a second call undoes it. Does nothing where no averages are kept."""
    for variable, average in optimizer.averages():
        held = _copied(variable)
        variable.assign(_copied(average))
        average.assign(held)


def _copied(variable: keras.Variable) -> np.ndarray:
    """A copy of the values: backends may share, and donate, the arrays they are given."""
    return np.array(keras.ops.convert_to_numpy(variable))


# -- Unfreeze, then compile: the two in one place, because the first without the second silently does nothing ---


class Updates(NamedTuple):
    """How gradients become updates of the weights over a stage.

    Args:
        learning_rate: peak, of the head; those of the blocks decay from it (`rate_factors`).
        total: how many the whole stage takes, for the schedule.
        parts: batches whose gradients are averaged into one update.
        centralize: whether the gradients of filters are centralized.
        warm_up: share of them in which the rate rises.
    """

    learning_rate: float
    total: int
    parts: int = 1
    centralize: bool = False
    warm_up: float = WARM_UP


def unfreeze_and_compile(
    model: keras.Model,
    options: TrainingOptions,
    *,
    blocks: tuple[Block, ...],
    learn: int | Literal["all"],
    updates: Updates,
    skipped: int = 0,
    added: np.ndarray | None = None,
    task: Task = SINGLE,
) -> None:
    """Set which layers learn, and compile for them.

    Args:
        model: a head, a suffix after a cut, or a whole classifier; gives logits (B, K).
        options: optimizer, loss, decay, BatchNorm.
        blocks: of the backbone; layers that belong to none (the head's) always learn.
        learn: how many last blocks learn, or "all".
        updates: their rate, number and parts.
        skipped: how many last blocks stay frozen, so that the blocks before them are the ones that learn.
        added: float32 (K,) that the loss adds to the logits, see `balance.log_prior`.
        task: what the logits mean.
    """
    set_trainable(model, learn, options.batchnorm, blocks=blocks, skipped=skipped)
    optimizer = build_optimizer(
        options,
        updates.learning_rate,
        updates.total,
        updates.parts,
        variables=model.trainable_variables,
        factors=rate_factors(model, blocks[: len(blocks) - skipped], options.layer_decay),
        centralized=filters(model) if updates.centralize else (),
        warm_up=updates.warm_up,
    )
    model.compile(optimizer=optimizer, loss=build_loss(options, added, task=task), jit_compile=jit())


def build_loss(options: TrainingOptions, added: np.ndarray | None = None, *, task: Task = SINGLE) -> Callable:
    """The loss on logits (B, K), with `added` (K,) added to each, and targets (B, K) of the task."""
    loss = task.loss(options.loss or task.trained_by[0], options.smoothing(task.smooths))
    if added is None:
        return loss
    each = loss.call if isinstance(loss, keras.losses.Loss) else loss  # (B,), so that rows keep their weights
    return lambda one_hot, logits: each(one_hot, logits + added)
