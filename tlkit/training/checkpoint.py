"""The state of one stage on disk, so that a kill at any moment costs at most the epoch it fell into.

    checkpoints/STAGE/state.json                which epoch is done, the best one, the history so far
                     /epoch-0003.weights.h5     weights and optimizer after it
                     /epoch-0002.weights.h5     those of the best epoch, where that is another one

Weights are written first and `state.json` names them, so it never speaks of a file that is not whole.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from tlkit.core.atomic import read_json, replacing, write_json


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a stage stands.

    Args:
        epoch: epochs done.
        parts: that every update is taken in; the optimizer's state depends on it.
        latest: file name of the weights after it, "" before the stage has begun.
        best: file name of the best weights, "" before any.
        best_epoch: the epoch they are from; 0 is the start of the stage.
        best_score: (validation accuracy, minus validation loss) of the best, None before any.
        waited: epochs since the best.
        history: one row per epoch.
        done: whether the stage is over.
        note: what to say about its outcome.
        seconds: of wall time spent so far.
    """

    epoch: int = 0
    parts: int = 1
    latest: str = ""
    best: str = ""
    best_epoch: int = 0
    best_score: tuple[float, float] | None = None
    waited: int = 0
    history: tuple[dict[str, Any], ...] = field(default=())
    done: bool = False
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """The folder of one stage's state."""

    folder: Path

    def read(self) -> State:
        """The state as last written; a fresh one where there is none."""
        path = self.folder / "state.json"
        if not path.is_file():
            return State()
        content = read_json(path)
        score = content["best_score"]
        return State(**content | {"history": tuple(content["history"]), "best_score": score and tuple(score)})

    def write(self, state: State) -> None:
        """Record the state, then remove weights that it no longer names."""
        write_json(self.folder / "state.json", asdict(state))
        for path in self.folder.glob("*.weights.h5"):
            if path.name not in (state.latest, state.best):
                path.unlink(missing_ok=True)

    def save_weights(self, model: keras.Model, name: str) -> str:
        """Write weights (and the optimizer's state if compiled) under `name`; returns the file name."""
        file = f"{name}.weights.h5"
        with replacing(self.folder / file) as temporary:
            model.save_weights(temporary)
        return file

    def load_weights(self, model: keras.Model, file: str) -> None:
        """Read weights that `save_weights` wrote."""
        model.load_weights(self.folder / file)

    def finish(self, state: State, note: str) -> State:
        """Record that the stage is over; only the best weights are kept."""
        finished = replace(state, done=True, note=note, latest="")
        self.write(finished)
        return finished
