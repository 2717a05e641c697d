"""One stage by gradient descent: measured every epoch, checkpointed, stopped early, the best weights kept.

The start of the stage is a candidate like every epoch, so that no stage ends worse on validation
than it began.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from tlkit.core.predictions import softmax
from tlkit.core.story import Story
from tlkit.training.checkpoint import Checkpoint, State
from tlkit.training.examples import Examples, Reader

EVALUATION_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The held-out images of a stage; empty when there are none.

    Args:
        read: positions and epoch to inputs; always called with epoch -1, the images themselves.
        labels: int (n,).
    """

    read: Reader
    labels: np.ndarray

    def measure(self, model: keras.Model) -> tuple[float, float] | None:
        """(accuracy, log loss) of the model's logits, None without images."""
        if not len(self.labels):
            return None
        logits = predict(model, self.read, len(self.labels))
        chosen = softmax(logits)[np.arange(len(self.labels)), self.labels]
        accuracy = float((logits.argmax(axis=1) == self.labels).mean())
        return accuracy, float(-np.log(np.maximum(chosen, 1e-30)).mean())


def predict(model: keras.Model, read: Reader, count: int) -> np.ndarray:
    """Logits float32 (count, K) of inputs 0..count-1, the images themselves."""
    size = min(count, EVALUATION_BATCH)
    outputs = []
    for start in range(0, count, size):
        inputs = read(np.arange(start, min(start + size, count)), -1)
        # The last batch is filled up: another shape would be traced and compiled for itself.
        filled = np.concatenate([inputs, np.repeat(inputs[-1:], size - len(inputs), axis=0)])
        outputs.append(np.asarray(model.predict_on_batch(filled))[: len(inputs)])
    return np.concatenate(outputs)


def fit(
    model: keras.Model,
    examples: Examples,
    validation: Validation,
    *,
    stage: str,
    epochs: int,
    patience: int,
    checkpoint: Checkpoint,
    story: Story,
) -> State:
    """Train a compiled model from where its checkpoint stands, and leave it with the best weights.

    Args:
        model: compiled; its weights are those the stage starts from.
        examples: beginning with the epoch that the checkpoint has reached.
        validation: what decides which epoch is best; without images the last one is.
        stage: name, for the history.
        epochs: at most.
        patience: epochs without improvement before stopping.
        checkpoint: of this stage.
        story: told about every epoch.
    """
    state = checkpoint.read()
    if state.latest:
        checkpoint.load_weights(model, state.latest)
        story.say(f"  {stage}: going on after epoch {state.epoch}")
    else:
        state = _start(model, validation, stage, checkpoint, story)
    keeper = _Keeper(state, validation, stage, patience, checkpoint, story)
    if state.epoch < epochs and state.waited < patience:
        model.fit(
            examples,
            epochs=epochs,
            initial_epoch=state.epoch,
            callbacks=[keeper, keras.callbacks.TerminateOnNaN()],
            verbose=0,
            shuffle=False,  # Examples has an order of its own; Keras's would not survive a resume
        )
    state = keeper.state
    checkpoint.load_weights(model, state.best)
    return checkpoint.finish(state, _outcome(state, epochs, patience))


def _start(model: keras.Model, validation: Validation, stage: str, checkpoint: Checkpoint, story: Story) -> State:
    """Measure and keep the weights that the stage starts from."""
    score = validation.measure(model)
    row: dict[str, Any] = {
        "stage": stage,
        "epoch": 0,
        "loss": None,
        "accuracy": None,
        **_columns(score),
        "learning_rate": None,
        "seconds": None,
    }
    state = State(best=checkpoint.save_weights(model, "best-0000"), best_score=score and rank(score), history=(row,))
    checkpoint.write(state)
    if score:
        story.say(f"  {stage} start: validation accuracy {score[0]:.4f}, loss {score[1]:.4f}")
    return state


def rank(score: tuple[float, float]) -> tuple[float, float]:
    """Higher is better: accuracy first, then the smaller loss."""
    return score[0], -score[1]


def _columns(score: tuple[float, float] | None) -> dict[str, float | None]:
    accuracy, loss = score or (None, None)
    return {"val_loss": loss, "val_accuracy": accuracy}


class _Keeper(keras.callbacks.Callback):
    """After every epoch: measure, record, checkpoint, and stop when it no longer pays."""

    def __init__(
        self, state: State, validation: Validation, stage: str, patience: int, checkpoint: Checkpoint, story: Story
    ) -> None:
        super().__init__()
        self.state, self._validation, self._stage = state, validation, stage
        self._patience, self._checkpoint, self._story = patience, checkpoint, story
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start dropout from (its seed, epoch): Keras does not store how far its random numbers are."""
        self._began = time.monotonic()
        for number, layer in enumerate(self.model.layers):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                generator.state.assign(np.array([number, epoch], generator.state.dtype))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        done, logs = epoch + 1, logs or {}
        if not np.isfinite(logs.get("loss", 0.0)):
            return  # TerminateOnNaN stops the fit; the state before this epoch stays the last one
        score = self._validation.measure(self.model)
        seconds = time.monotonic() - self._began
        rate = float(self.model.optimizer.learning_rate)
        row = {
            "stage": self._stage,
            "epoch": done,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            **_columns(score),
            "learning_rate": rate,
            "seconds": round(seconds, 3),
        }
        better = score is None or self.state.best_score is None or rank(score) > self.state.best_score
        changed = (
            {
                "best": self._checkpoint.save_weights(self.model, f"best-{done:04d}"),
                "best_epoch": done,
                "best_score": score and rank(score),
                "waited": 0,
            }
            if better
            else {"waited": self.state.waited + 1}
        )
        self.state = replace(
            self.state,
            epoch=done,
            latest=self._checkpoint.save_weights(self.model, f"epoch-{done:04d}"),
            history=(*self.state.history, row),
            seconds=self.state.seconds + seconds,
            **changed,
        )
        self._checkpoint.write(self.state)
        held_out = f", validation accuracy {score[0]:.4f}, loss {score[1]:.4f}" if score else ""
        self._story.say(
            f"  {self._stage} {done}: loss {row['loss']:.4f}{held_out} ({seconds:.1f} s){' best' if better else ''}"
        )
        if self.state.waited >= self._patience:
            self.model.stop_training = True


def _outcome(state: State, epochs: int, patience: int) -> str:
    """One sentence on how the stage ended."""
    if state.best_score is None:
        return f"{state.epoch} epochs; no validation images, so the last epoch is kept"
    stopped = (
        f"stopped after {state.epoch} epochs, {patience} without improvement"
        if state.epoch < epochs
        else f"{state.epoch} epochs"
    )
    if state.best_epoch == 0:
        return f"{stopped}; none was better on validation than the start, which is kept"
    return f"{stopped}; epoch {state.best_epoch} was best on validation and is kept"
