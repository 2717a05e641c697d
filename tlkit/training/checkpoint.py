"""The state of one stage on disk, so that being killed at any moment costs at most the current epoch.

    checkpoints/STAGE/state.json                which epoch is done, the best one, the history so far
                     /epoch-0003.weights.h5     weights and optimizer after it
                     /epoch-0002.weights.h5     weights of other good epochs, for their mean
                     /epoch-0000.weights.h5     weights the stage began with

Weights are written before the `state.json` that names them, so it never names an incomplete file. A file holds the arrays
of a model in the order of its variables, `weights/0`, ..., and those of its optimizer, `optimizer/0`, ...: Keras's own layout
takes 0.17 s of processor time to write and 0.22 to read in a stage of 246 arrays, this one 0.02 and 0.03 (docs/log.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import h5py
import keras
import numpy as np

from tlkit.backbones.runtime import assign_all, values_of
from tlkit.base.errors import TlkitError
from tlkit.base.files import (
    read_checked_json,
    read_json,
    reading,
    replacing,
    sha256_file,
    write_checked_json,
    write_json,
)

if TYPE_CHECKING:
    from tlkit.training.stages import Material

KEPT = 3  # epochs of a stage whose weights are kept until the choice of what ships ...
KEPT_BYTES = 2**30  # ... as long as all but the first take no more disk space than this


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One epoch whose weights are kept.

    Args:
        file: name of the file.
        epoch: after which they were written.
        score: (validation accuracy, minus validation loss); None without validation images.
    """

    file: str
    epoch: int
    score: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of a stage.

    Args:
        epoch: epochs done.
        parts: batches that every update is divided into; the optimizer's state depends on it.
        latest: file name of the weights after it, "" before the stage has begun.
        best: file name of the weights that the stage currently keeps, "" before any.
        best_epoch: the epoch they are from; 0 is the start of the stage.
        best_score: their (validation accuracy, minus validation loss), None before any.
        start: file name of the weights that the stage began with.
        kept: trained epochs, without the start: first the one that represents the stage, then the best others.
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
    start: str = ""
    kept: tuple[Kept, ...] = ()
    waited: int = 0
    history: tuple[dict[str, Any], ...] = field(default=())
    done: bool = False
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """The folder of one stage's state.

    Args:
        folder: of the stage.
        written: sha256 of the weights written by this process, by file name.
    """

    folder: Path
    written: dict[str, str] = field(default_factory=dict, compare=False)

    def read(self) -> State:
        """The state as last written; a fresh one where there is none."""
        path = self.folder / "state.json"
        if not path.is_file():
            return State()
        with reading(path, self._again):
            content = read_checked_json(path)
            content.pop("sums", None)
            kept = tuple(Kept(**row | {"score": _pair(row["score"])}) for row in content["kept"])
            read = {"history": tuple(content["history"]), "best_score": _pair(content["best_score"]), "kept": kept}
            return State(**content | read)

    @property
    def _again(self) -> str:
        return f"delete the folder {self.folder} and run the same command again: this stage is then retrained."

    def _sums(self) -> dict[str, str]:
        """sha256 of the weights that the state names, by file name; none of those that older versions wrote."""
        path = self.folder / "state.json"
        if not path.is_file():
            return {}
        with reading(path, self._again):
            return dict(read_checked_json(path).get("sums", {}))

    def write(self, state: State) -> None:
        """Record the state, then remove weights that it no longer names."""
        named = {state.latest, state.best, state.start, *(kept.file for kept in state.kept)} - {""}
        known = self._sums() | self.written
        sums = {name: known[name] for name in sorted(named) if name in known}
        write_checked_json(self.folder / "state.json", asdict(state) | {"sums": sums})
        for path in self.folder.glob("*.weights.h5"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def save_weights(self, model: keras.Model, name: str) -> str:
        """Write weights (and the optimizer's state if compiled) under `name`; returns the file name."""
        file = f"{name}.weights.h5"
        with replacing(self.folder / file) as temporary:
            _write(model, temporary)
            self.written[file] = sha256_file(temporary)
        return file

    def load_weights(self, model: keras.Model, file: str) -> None:
        """Read weights that `save_weights` wrote.

        Raises:
            TlkitError: they are missing, changed, or of another model.
        """
        path = self.intact(file)
        with reading(path, self._again):
            _read(model, path)

    def intact(self, file: str) -> Path:
        """The path of a file of weights, after checking that it is unchanged.

        Raises:
            TlkitError: it is missing or changed.
        """
        path = self.folder / file
        with reading(path, self._again):
            wanted = (self._sums() | self.written).get(file)
            if wanted is not None and sha256_file(path) != wanted:
                raise TlkitError(
                    f"{str(path)!r} has changed since it was written; the stage resumes from it.", self._again
                )
        return path

    def finish(self, state: State, note: str) -> State:
        """Record that the stage is over; its latest weights are no longer needed."""
        finished = replace(state, done=True, note=note, latest="")
        self.write(finished)
        return finished

    def best_of(self, kept: tuple[Kept, ...], newest: Kept, *, best_first: bool) -> tuple[Kept, ...]:
        """The epochs to keep after one more has been written; without validation images only that one.

        Args:
            kept: those kept until now.
            newest: the one written.
            best_first: whether the best or the newest represents the stage.
        """
        if newest.score is None:
            return (newest,)
        best = sorted((*kept, newest), key=lambda one: one.score or (), reverse=True)
        if not best_first:
            best.remove(newest)
            best.insert(0, newest)
        best = best[:KEPT]
        sizes = [(self.folder / one.file).stat().st_size for one in best]
        while sum(sizes[1:]) > KEPT_BYTES:
            best, sizes = best[:-1], sizes[:-1]
        return tuple(best)

    def forget_others(self) -> None:
        """Keep only the weights of `best`, once what ships has been chosen."""
        self.write(replace(self.read(), start="", kept=()))


def _held(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """The variables of a model that a file holds, in order; an optimizer only where the model is compiled."""
    optimizer = getattr(model, "optimizer", None)
    return {"weights": list(model.variables), "optimizer": list(optimizer.variables) if optimizer else []}


def _write(model: keras.Model, path: Path) -> None:
    """Write by the low-level functions of HDF5: `file[name] = values` takes two and a half times as long."""
    with h5py.File(path, "w") as file:
        for group, variables in _held(model).items():
            place = file.create_group(group).id
            for number, values in enumerate(values_of(variables)):
                kind, space = h5py.h5t.py_create(values.dtype, logical=True), h5py.h5s.create_simple(values.shape)
                h5py.h5d.create(place, b"%d" % number, kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def _array(place: h5py.h5g.GroupID, name: bytes) -> np.ndarray:
    """The array under a name of a group."""
    found = h5py.h5d.open(place, name)
    values = np.empty(found.shape, found.dtype)
    found.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def _read(model: keras.Model, path: Path) -> None:
    """Load a file into a model; its optimizer is left unchanged where the file has that of another one, or none.

    Raises:
        ValueError: it is of another model.
    """
    with h5py.File(path) as file:
        own, held = "weights" in file, _held(model)
        if own and len(file["weights"]) != len(held["weights"]):
            raise ValueError(f"it holds {len(file['weights'])} arrays, and the model has {len(held['weights'])}")
        for group, variables in held.items():
            if own and len(file.get(group, ())) == len(variables) > 0:
                assign_all(variables, [_array(file[group].id, b"%d" % number) for number in range(len(variables))])
    if not own:  # in the layout of Keras, which earlier versions wrote
        model.load_weights(path)


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


# -- When further epochs of a stage are useless -----------------------------------------------------

FITTED = 0.99  # accuracy on training images
ALIKE = 3  # epochs
EXHAUSTED = (
    "stopped after {} epochs: the training images are fitted already, and validation is no better than at the start"
)


def is_exhausted(history: Sequence[Mapping[str, Any]], least: int) -> bool:
    """Whether further epochs are useless: the training images are fitted, and validation has not gained.

    In each of the last `ALIKE` epochs the network was right about `FITTED` of the training images, and no more accurate
    on those held out than at the start of the stage. As long as training images are not fitted, training goes on: the
    first epochs of a stage lose what the head had learned, and the recovery is late (docs/log.md).

    Args:
        history: rows of a stage (`runs.history.history_row`), the first of them its start.
        least: epochs after which this is checked; 0 for never.
    """
    last = history[-ALIKE:]
    if not least or len(history) <= max(least, ALIKE) or history[0]["val_accuracy"] is None:
        return False
    return all(row["accuracy"] >= FITTED and row["val_accuracy"] <= history[0]["val_accuracy"] for row in last)


# -- Where training leaves its results, and what is notified of them: a run folder, or any other place that keeps files ---


class Sink(Protocol):
    """What `train` needs of the place it trains in. Results that are there already are not computed again."""

    @property
    def folder(self) -> Path:
        """Folder that holds the checkpoints, in `checkpoints/STAGE`."""

    def read(self, name: str) -> Any:
        """The content written under a name (`plan`, `balance`, `choice`), None where there is none."""

    def write(self, name: str, content: Any) -> None:
        """Keep a JSON value under a name, whole or not at all."""

    def history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Receive the epochs of all stages so far, see `runs.history`, whenever a stage has ended."""

    def prepared(self, material: "Material") -> None:
        """Receive the images and their stored rows, before anything is trained on them."""


class FolderSink:
    """The simplest sink: a folder, temporary or not, with a JSON file for each name.

    Args:
        folder: may be empty or not exist yet; training that was stopped there is resumed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> Any:
        """As `Sink`."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            return None
        with reading(path, "delete it and run the same command again."):
            return read_json(path)

    def write(self, name: str, content: Any) -> None:
        """As `Sink`."""
        write_json(self.folder / f"{name}.json", content)

    def history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """As `Sink`."""
        self.write("history", list(rows))

    def prepared(self, material: "Material") -> None:
        """Ignored."""
