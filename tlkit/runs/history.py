"""The history of epochs, as a table and for TensorBoard."""

import csv
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tlkit.base.files import replacing

COLUMNS = ("stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")

Score = tuple[float, float]  # (accuracy, loss)


def history_row(
    stage: str,
    epoch: int,
    *,
    train: Score | None = None,
    held_out: Score | None = None,
    learning_rate: float | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """One row of the history; None if not measured."""
    accuracy, loss = train or (None, None)
    val_accuracy, val_loss = held_out or (None, None)
    values = (stage, epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds)
    return dict(zip(COLUMNS, values, strict=True))


def write_history(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write CSV with `COLUMNS`; epoch 0 is the start of a stage; cells without a measurement are empty."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read what `write_history` wrote, with None where nothing was measured; no rows if the file is missing."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {"stage": row["stage"], "epoch": int(row["epoch"])}
            | {name: float(row[name]) if row[name] else None for name in COLUMNS[2:]}
            for row in csv.DictReader(file)
        ]


def write_event_files(folder: Path, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Write TensorBoard event files under `train/` and `validation/`, with the tags of Keras's callback.

    Steps are numbered across stages. Returns False if TensorFlow, which implements the format, is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        return False
    columns = {
        "train": {"epoch_loss": "loss", "epoch_accuracy": "accuracy", "epoch_learning_rate": "learning_rate"},
        "validation": {"epoch_loss": "val_loss", "epoch_accuracy": "val_accuracy"},
    }
    rows = list(rows)
    for name, tags in columns.items():
        values = [{tag: row[column] for tag, column in tags.items() if row[column] is not None} for row in rows]
        _write_events(folder / name / "events.out.tfevents.0.tlkit", values)
    return True


def _write_events(path: Path, steps: list[dict[str, float]]) -> None:
    """Write one event per step, in the TFRecord framing that TensorBoard reads."""
    import tensorflow as tf
    from tensorflow.core.framework.summary_pb2 import Summary
    from tensorflow.core.util.event_pb2 import Event

    with replacing(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        for step, values in enumerate(steps):
            scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
            writer.write(Event(step=step, summary=Summary(value=scalars)).SerializeToString())
