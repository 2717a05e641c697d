"""One stage by gradient descent: measured every epoch, checkpointed; its last epoch is kept, or its best if asked for.

The schedule ends with a rate of zero, and its last epoch is the result of the stage: the best of forty epochs on 37
validation images would be the luckiest. With a patience, which may end the schedule early, the best epoch is kept.
Either way the start is kept where it is better, so that no stage ends worse on validation than it began.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from tlkit.backbones.folding import learning_forward
from tlkit.backbones.runtime import optimised_once, sharing
from tlkit.base.machine import ran_out
from tlkit.base.story import Story, clock, counted
from tlkit.classifier.answers import image_losses, image_scores
from tlkit.extraction.keras_jit import computing_in
from tlkit.runs.history import Score, history_row
from tlkit.tasks.registry import of_truth
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task
from tlkit.training.checkpoint import EXHAUSTED, Checkpoint, Kept, State, is_exhausted
from tlkit.training.examples import Chunk, Examples, Reader
from tlkit.training.minutes import Budget
from tlkit.training.optimizer import carry_over, exchange_averages
from tlkit.training.passes import EVALUATION_BATCH, Call, compiled, predict

# -- An epoch of training steps at the backend's best compiled pace ---
#
# With TensorFlow a chunk of batches runs as one graph, loop included; with JAX every batch is one compiled call that
# returns before it is done, so that Python runs ahead of the device. Keras's `fit` takes 13 to 70 % longer for the same
# steps, the more the shorter they are (benchmarks/training_step.py).

# (logits, labels, weights) of a batch -> the sum of `Task.scores`
Hits = Callable[[Any, Any, Any], Any]


@dataclass
class Epoch:
    """One epoch: (examples, number) -> (mean loss, accuracy) over it, of the weights as they were at each step.

    Args:
        run: trains it.
        compiling: seconds of the first one spent on tracing and compiling, as far as the backend separates them.
        known: whether that was done before the stage began.
        follows: whether its steps follow a change of the rate schedule without being recompiled.
        within: a context entered anew for each epoch; it decides the precision of the steps.
    """

    run: Callable[[Examples, int], tuple[float, float]]
    compiling: float = 0.0
    known: bool = False
    follows: bool = False
    within: Callable[[], AbstractContextManager[None]] = nullcontext

    def __call__(self, examples: Examples, number: int) -> tuple[float, float]:
        """Run it."""
        with self.within():
            return self.run(examples, number)


def build_epoch(model: keras.Model, *, task: Task = SINGLE, precision: str = "float32") -> Epoch:
    """The training loop of a compiled model, compiled for its backend; rebuild it after recompiling the model.

    Args:
        model: compiled.
        task: what counts as right depends on it.
        precision: in which its grids are multiplied, `float32` or `bfloat16`; weights, their gradients and the loss are float32.
    """
    epoch = _LOOPS[keras.backend.backend()](model, task.hits)
    epoch.within = partial(computing_in, model, precision)
    return epoch


def _tensorflow(model: keras.Model, hits_of: Hits) -> Epoch:
    import tensorflow as tf

    variables, forward = model.trainable_variables, learning_forward(model)

    @tf.function(autograph=False, jit_compile=model.jit_compile)
    def step(inputs: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = forward(inputs)
            loss = model.compute_loss(y=labels, y_pred=logits, sample_weight=weights, training=True)
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, hits_of(logits, labels, weights)

    @tf.function(autograph=False, reduce_retracing=True)
    def run(inputs: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
        def body(number: Any, losses: Any, hits: Any) -> tuple[Any, Any, Any]:
            loss, hit = step(inputs[number], labels[number], weights[number])
            return number + 1, losses + loss, hits + hit

        count = tf.shape(weights)[0]
        start = (tf.constant(0), tf.constant(0.0), tf.constant(0.0))
        return tf.while_loop(lambda number, *_: number < count, body, start)[1:]

    @optimised_once()
    def ready(*arrays: Any) -> tuple[Any, Any]:
        if not epoch.compiling:
            started = time.perf_counter()
            # For any number of steps: the last chunk of an epoch has fewer, and would be traced again.
            run.get_concrete_function(*(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays))
            run(*(array[:0] for array in arrays))  # no step is taken, but the graph is optimised
            epoch.compiling = time.perf_counter() - started
        return run(*arrays)

    epoch = Epoch(lambda examples, number: _summed(ready, examples, number, tf.convert_to_tensor), follows=True)
    return epoch


def _jax(model: keras.Model, hits_of: Hits) -> Epoch:
    import jax

    def loss_of(trainable: Any, others: Any, optimizer: Any, metrics: Any, chunk: Chunk) -> tuple[Any, Any]:
        loss, (_, logits, others, _) = model.compute_loss_and_updates(
            trainable, others, metrics, *chunk, training=True, optimizer_variables=optimizer
        )
        return loss, (logits, others)

    def step(state: Any, others: Any, metrics: Any, chunk: Chunk) -> tuple[Any, Any, Any, Any]:
        trainable, optimizer = state
        (loss, (logits, others)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, others, optimizer, metrics, chunk
        )
        state = model.optimizer.stateless_apply(optimizer, gradients, trainable)
        return state, others, loss, hits_of(logits, chunk.labels, chunk.weights)

    shared = sharing(model)
    # Only what every step replaces is donated: frozen weights may be in use elsewhere.
    compiled = jax.jit(step, donate_argnums=0, out_shardings=shared.replicated()) if model.jit_compile else step

    def epoch(examples: Examples, number: int) -> tuple[float, float]:
        held = (model.trainable_variables, model.optimizer.variables, model.non_trainable_variables)
        trainable, optimizer, others = ([variable.value for variable in part] for part in held)
        state, metrics = (trainable, optimizer), [variable.value for variable in model.metrics_variables]

        def run(*arrays: Any) -> tuple[Any, Any]:
            nonlocal state, others
            losses = hits = 0.0
            for batch in zip(*arrays, strict=True):
                state, others, loss, hit = compiled(state, others, metrics, Chunk(*batch))
                losses, hits = losses + loss, hits + hit
            return losses, hits

        found = _summed(run, examples, number, shared.steps)
        for variables, values in zip(held, (*state, others), strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return found

    return Epoch(epoch)


def _torch(model: keras.Model, hits_of: Hits) -> Epoch:
    import torch

    def run(*arrays: Any) -> tuple[Any, Any]:
        losses = hits = 0.0
        for inputs, labels, weights in zip(*arrays, strict=True):
            logits = model(inputs, training=True)
            loss = model.compute_loss(y=labels, y_pred=logits, sample_weight=weights, training=True)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                variables = model.trainable_variables
                model.optimizer.apply([variable.value.grad for variable in variables], variables)
                losses, hits = losses + loss.detach(), hits + hits_of(logits, labels, weights)
        return losses, hits

    return Epoch(lambda examples, number: _summed(run, examples, number, keras.ops.convert_to_tensor))


_LOOPS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def _summed(
    run: Callable[..., tuple[Any, Any]], examples: Examples, number: int, place: Callable[[np.ndarray], Any]
) -> tuple[float, float]:
    """Run every chunk of an epoch, at most two of them ahead of what the device has finished."""
    losses = hits = 0.0
    under_way: deque[tuple[Any, Any]] = deque()

    def finish() -> None:
        nonlocal losses, hits
        loss, hit = under_way.popleft()
        losses, hits = losses + float(loss), hits + float(hit)

    for chunk in examples.chunks(number, place):
        under_way.append(run(*chunk))
        if len(under_way) > 2:
            finish()
    while under_way:
        finish()
    return losses / (examples.updates * examples.parts), hits / (examples.passes * len(examples.labels))


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The held-out images of a stage; empty when there are none.

    Args:
        read: positions and epoch to inputs; always called with epoch -1, the images themselves.
        labels: int (n,); or (n, K), 1 where the image has the class, where it may have several.
    """

    read: Reader
    labels: np.ndarray

    @property
    def name(self) -> str:
        """The name of the first number of a score."""
        return of_truth(self.labels).score

    def measure(self, model: keras.Model, batch_size: int | None = None, call: Call | None = None) -> Score | None:
        """(accuracy, log loss) of the model's logits, None without images; for several labels, the F1 of each image.

        `call` is the model, compiled for many rounds.
        """
        if not len(self.labels):
            return None
        logits = predict(model, self.read, len(self.labels), batch_size, call)
        return float(image_scores(logits, self.labels).mean()), float(image_losses(logits, self.labels).mean())


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a stage ends.

    Args:
        epochs: at most.
        patience: epochs without improvement before stopping, and then the best epoch is kept; None for never: the
            last one is, if it is better than the start.
        budget: the time available, from the start of the stage; `epochs` is then how many are expected to fit, and is
            updated after each.
        least: epochs after which the stage ends where it `is_exhausted`; 0 for never.
        expected: seconds according to the plan.
    """

    epochs: int
    patience: int | None = None
    budget: Budget | None = None
    least: int = 0
    expected: float = 0.0


class Steps(NamedTuple):
    """How the steps of a stage are computed.

    Args:
        compile_for: compiles the model for updates with so many parts.
        precision: in which its grids are multiplied, see `build_epoch`.
        ready: an epoch of the model, compiled and traced before; None where that is still to be done.
    """

    compile_for: Callable[[int], None]
    precision: str = "float32"
    ready: Epoch | None = None

    def epoch(self, model: keras.Model, examples: Examples) -> Epoch:
        """An epoch of the model as it is compiled now."""
        return build_epoch(model, task=examples.task, precision=self.precision)


def fit(
    model: keras.Model,
    steps: Steps,
    examples: Examples,
    validation: Validation,
    *,
    stage: str,
    stopping: Stopping,
    checkpoint: Checkpoint,
    story: Story,
) -> State:
    """Train a model from its checkpoint on, and leave it with the weights that the stage keeps.

    When memory runs out, the epoch is restarted with its updates divided into twice as many parts.

    Args:
        model: its weights are those the stage starts from.
        steps: how they are computed.
        examples: with the initial number of parts.
        validation: what the epochs are measured on; without images the last one is kept unmeasured.
        stage: name, for the history.
        stopping: when it ends.
        checkpoint: of this stage.
        story: reports every epoch.
    """
    state, epochs, budget = checkpoint.read(), stopping.epochs, stopping.budget
    examples = replace(examples, parts=state.parts if state.latest else examples.parts)
    ready = None if state.latest else steps.ready
    if ready is None:
        steps.compile_for(examples.parts)
    if state.latest:
        _take_up(model, checkpoint, state)
        story.say(f"  {stage}: resuming after epoch {state.epoch}")
    call = compiled(model, len(validation.labels))
    run = _Run(model, call, validation, stage, checkpoint, story, stopping.patience is not None, stopping.expected)
    epoch, exploded = ready or steps.epoch(model, examples), False
    story.reach(state.epoch, max(epochs, 1))
    if budget:
        model.optimizer.end_after(epochs * examples.updates)
        epochs += state.epoch
    while not exploded and (not state.latest or _goes_on(state, epochs, stopping)):
        try:
            following = run.epoch(state, examples, epoch, epochs) if state.latest else run.start(examples)
            exploded, state = following is None, following or state
            if budget and state.epoch:
                epochs = _settled_again(budget, state.epoch, epochs, stage, story)
                model.optimizer.end_after((epochs - state.epoch) * examples.updates)
        except Exception as error:
            if not ran_out(error) or examples.part_size <= examples.devices:
                raise
            examples = replace(examples, parts=2 * examples.parts)
            story.say(
                f"  {stage}: out of memory; an update of {examples.batch_size} images is now divided into "
                f"{examples.parts} parts of {examples.part_size}, from the start of the epoch"
            )
            _begin_again(model, steps.compile_for, examples.parts, checkpoint, state)
            epoch = steps.epoch(model, examples)
    state = _or_the_start(state, _is_cut_short(state, epochs, stopping))
    checkpoint.load_weights(model, state.best)
    return checkpoint.finish(state, _outcome(state, epochs, stopping, exploded))


def _goes_on(state: State, epochs: int, stopping: Stopping) -> bool:
    """Whether another epoch follows."""
    waits = state.waited < (stopping.patience or epochs)
    return state.epoch < epochs and waits and not is_exhausted(state.history, stopping.least)


def _corrected(state: State, epoch: Epoch, epochs: int, expected: float, stage: str) -> str:
    """The expected time of the stage by the pace of its first epoch, against that of the plan."""
    first = state.seconds - epoch.compiling
    seconds = epoch.compiling + first * epochs
    planned = f"as planned ({clock(expected)})" if 1 / 1.5 < seconds / expected < 1.5 else f"not {clock(expected)}"
    return f"  {stage}: about {clock(seconds)} by its first epoch, {planned}"


def _is_cut_short(state: State, epochs: int, stopping: Stopping) -> bool:
    """Whether the stage ended early because nothing was left to learn."""
    return state.epoch < epochs and is_exhausted(state.history, stopping.least)


def _or_the_start(state: State, cut_short: bool) -> State:
    """Keep the start where it is better than what would be kept, or all epochs are from a high rate (docs/log.md)."""
    held_out = state.history[0]["val_accuracy"]
    if held_out is None or state.best_score is None:
        return state
    start = rank((held_out, state.history[0]["val_loss"]))
    if state.best_score > start and not cut_short:
        return state
    return replace(state, best=state.start, best_epoch=0, best_score=start, kept=() if cut_short else state.kept)


def _settled_again(budget: Budget, done: int, epochs: int, stage: str, story: Story) -> int:
    """Epochs in all, after one more of them."""
    settled = max(done, budget.again(done, epochs))
    if settled != epochs:
        story.say(f"  {stage}: {counted(settled, 'epoch')} fit into the time, not {epochs}")
    return settled


def _begin_again(
    model: keras.Model, compile_for: Callable[[int], None], parts: int, checkpoint: Checkpoint, state: State
) -> None:
    """Compile for other parts, with weights and optimizer as they were after the last complete epoch."""
    if not state.latest:  # no step was taken yet
        compile_for(parts)
        return
    compile_for(state.parts)
    _take_up(model, checkpoint, state)
    before = model.optimizer
    compile_for(parts)
    carry_over(before, model.optimizer)


def _take_up(model: keras.Model, checkpoint: Checkpoint, state: State) -> None:
    """Resume from the last epoch: where averages are kept, a file holds averages and weights exchanged."""
    checkpoint.load_weights(model, state.latest)
    exchange_averages(model.optimizer)


@dataclass(frozen=True)
class _Run:
    """What stays the same over the epochs of a stage.

    `call` is the model between steps, `picks` says whether its best epoch is kept or its last, `expected` is the number of
    seconds in the plan.
    """

    model: keras.Model
    call: Call
    validation: Validation
    stage: str
    checkpoint: Checkpoint
    story: Story
    picks: bool
    expected: float

    def start(self, examples: Examples) -> State:
        """Measure and keep the weights that the stage starts from."""
        score = self.validation.measure(self.model, _evaluation_batch(examples), self.call)
        file = self.checkpoint.save_weights(self.model, "epoch-0000")
        row = history_row(self.stage, 0, held_out=score)
        best = score and rank(score)
        state = State(parts=examples.parts, latest=file, best=file, start=file, best_score=best, history=(row,))
        self.checkpoint.write(state)
        if score:
            self.story.say(
                f"  {self.stage} start: validation {self.validation.name} {score[0]:.4f}, loss {score[1]:.4f}"
            )
        return state

    def epoch(self, state: State, examples: Examples, run: Epoch, epochs: int) -> State | None:
        """Train for one epoch of `epochs`, measure, record, checkpoint; None when the loss is no longer finite."""
        began, done = time.monotonic(), state.epoch + 1
        _reset_dropout(self.model, state.epoch)
        loss, accuracy = run(examples, state.epoch)
        if not np.isfinite(loss):
            return None
        exchange_averages(self.model.optimizer)  # the averages are measured and kept; training goes on without them
        score = self.validation.measure(self.model, _evaluation_batch(examples), self.call)
        rate, seconds = float(self.model.optimizer.learning_rate), round(time.monotonic() - began, 3)
        row = history_row(self.stage, done, train=(accuracy, loss), held_out=score, learning_rate=rate, seconds=seconds)
        better = not self.picks or score is None or state.best_score is None or rank(score) > state.best_score
        file = self.checkpoint.save_weights(self.model, f"epoch-{done:04d}")
        exchange_averages(self.model.optimizer)
        newest = Kept(file=file, epoch=done, score=score and rank(score))
        kept = self.checkpoint.best_of(state.kept, newest, best_first=self.picks)
        changed = {"best": file, "best_epoch": done, "best_score": score and rank(score), "waited": 0}
        state = replace(
            state,
            epoch=done,
            parts=examples.parts,
            latest=file,
            kept=kept,
            history=(*state.history, row),
            seconds=state.seconds + time.monotonic() - began,
            **(changed if better else {"waited": state.waited + 1}),
        )
        self.checkpoint.write(state)
        held_out = f", validation {self.validation.name} {score[0]:.4f}, loss {score[1]:.4f}" if score else ""
        best = " best" if better and self.picks else ""
        self.story.say(f"  {self.stage} {done}: loss {loss:.4f}{held_out} ({seconds:.1f} s){best}")
        if done == 1 and (run.compiling or run.known) and self.expected:
            self.story.say(_corrected(state, run, epochs, self.expected, self.stage))
        self.story.reach(done, epochs)
        return state


def rank(score: Score) -> tuple[float, float]:
    """Higher is better: accuracy first, then the smaller loss."""
    return score[0], -score[1]


def _evaluation_batch(examples: Examples) -> int | None:
    """Inputs at a time; fewer where memory ran out, else as many as pay."""
    return None if examples.parts == 1 else max(1, EVALUATION_BATCH // examples.parts)


def _reset_dropout(model: keras.Model, epoch: int) -> None:
    """Start dropout from (its seed, epoch): Keras does not store the state of its random numbers."""
    for number, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([number, epoch], generator.state.dtype))


def _outcome(state: State, epochs: int, stopping: Stopping, exploded: bool) -> str:
    """One sentence on how the stage ended."""
    patience = stopping.patience
    if exploded:
        kept = f"epoch {state.best_epoch}" if state.best_epoch else "the start"
        return f"the loss became infinite or NaN in epoch {state.epoch + 1}; {kept} is kept. Try a lower learning rate"
    if not state.epoch:
        return "no time for enough epochs; the start is kept"
    if _is_cut_short(state, epochs, stopping):
        return EXHAUSTED.format(state.epoch)
    if state.best_score is None:
        return f"{counted(state.epoch, 'epoch')}; no validation images, so the last epoch is kept"
    stopped = (
        f"stopped after {counted(state.epoch, 'epoch')}, {patience} without improvement"
        if state.epoch < epochs
        else counted(state.epoch, "epoch")
    )
    if state.best_epoch == 0:
        worse = "none was" if patience else "the last was not"
        return f"{stopped}; {worse} better on validation than the start, which is kept"
    if patience is None:
        return f"{stopped}; the last is kept, where the schedule ends"
    return f"{stopped}; epoch {state.best_epoch} was best on validation and is kept"
