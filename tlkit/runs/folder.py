"""The run folder: where each of its files is, and how it comes to exist."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json

RUN_FORMAT = 1


@dataclass(frozen=True)
class RunDir:
    """Paths inside a run folder; names are part of the format, see docs/formats.md."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved options."""
        return self.path / "config.toml"

    @property
    def record(self) -> Path:
        """Versions, command, seeds, hardware, fingerprints, state of each stage."""
        return self.path / "run.json"

    @property
    def manifest(self) -> Path:
        """The images used."""
        return self.path / "manifest.csv"

    @property
    def splits(self) -> Path:
        """path, split."""
        return self.path / "splits.csv"

    @property
    def audit(self) -> Path:
        """What is wrong with the images."""
        return self.path / "audit.json"

    @property
    def history(self) -> Path:
        """One row per epoch."""
        return self.path / "history.csv"

    @property
    def checkpoints(self) -> Path:
        """Training state; deletable once the run is finished."""
        return self.path / "checkpoints"

    @property
    def choice(self) -> Path:
        """Which weights ship, and why."""
        return self.path / "choice.json"

    @property
    def model(self) -> Path:
        """The classifier, loadable in plain Keras."""
        return self.path / "model.keras"

    @property
    def class_indices(self) -> Path:
        """`{name: index}`."""
        return self.path / "class_indices.json"

    @property
    def labels(self) -> Path:
        """One class name per line, in index order."""
        return self.path / "labels.txt"

    @property
    def predictions(self) -> Path:
        """Every image with the probabilities the model gave it."""
        return self.path / "predictions.csv"

    @property
    def metrics(self) -> Path:
        """`{split: {metric: {...}}}`."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.path / "report.html"

    @property
    def search(self) -> Path:
        """The trials of `--search`."""
        return self.path / "search.csv"

    @property
    def logs(self) -> Path:
        """TensorBoard event files."""
        return self.path / "logs"

    def read_record(self) -> dict[str, Any]:
        """run.json, or an error that says this is not a run folder."""
        if not self.record.is_file():
            raise TlkitError(
                f"{str(self.path)!r} is not a run folder: it has no run.json.",
                "give the folder that `tlkit finetune ... --out RUN` wrote.",
            )
        try:
            record = read_json(self.record)
        except json.JSONDecodeError as error:
            raise TlkitError(
                f"{self.record} is not JSON: {error}.", "the file was changed by hand; restore it or train again."
            ) from error
        if record.get("format") != RUN_FORMAT:
            raise TlkitError(
                f"{self.record} has format {record.get('format')!r}, this tlkit reads {RUN_FORMAT}.",
                "use the tlkit version that wrote it (see its run.json), or train again.",
            )
        return record

    def result(self) -> dict[str, Any]:
        """What `tlkit finetune` returns of a finished run and `--json` prints, from what lies in the folder."""
        record = self.read_record()
        if not self.manifest.is_file() or not self.metrics.is_file():
            raise TlkitError(f"{str(self.path)!r} has lost its manifest.csv or metrics.json.", "train again.")
        with self.manifest.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            images = sum(1 for _ in csv.reader(file)) - 1
        return {
            "out": str(self.path),
            "images": images,
            "classes": record["classes"],
            "set_aside": record["set_aside"],
            "metrics": read_json(self.metrics),
            "model": str(self.model),
            "report": str(self.report),
            "seconds": record["seconds"],
        }


def finished_model(run: str) -> Path:
    """The classifier's file, of a run folder or given itself; looked for before anything slow begins.

    Raises:
        TlkitError: no run, or one that is not finished.
    """
    run_dir = RunDir(Path(run))
    if run_dir.path.suffix == ".keras":
        return run_dir.path
    if run_dir.read_record()["state"] != "finished":
        raise TlkitError(f"{run_dir.path} is not finished.", f"tlkit finetune --resume {run_dir.path}")
    return run_dir.model


def refuse_occupied(out: Path, *, overwrite: bool, remedy: str = "choose another --out, or add --overwrite.") -> None:
    """Raise if `out` exists and is not an empty folder, unless `overwrite`.

    Raises:
        TlkitError: naming `out` and the remedy.
    """
    if overwrite or not out.exists():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    raise TlkitError(f"{str(out)!r} already exists.", remedy)
