"""The run folder: the paths of its files, integrity checks, and a lock that lets one process at a time write it."""

import csv
import json
import os
import platform
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlkit.base.errors import TlkitError
from tlkit.base.files import CHECKSUM, is_nobodys, read_checked_json, read_json, reading, sha256_file

# -- One process at a time writes a run folder: the lock names its holder and ends with it ---

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class Hold:
    """A lock on a run folder for the lifetime of the object; the system releases it when the process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        weakref.finalize(self, _let_go, path, descriptor, os.getpid())


_held: "weakref.WeakValueDictionary[Path, Hold]" = weakref.WeakValueDictionary()


def hold(folder: Path) -> Hold | None:
    """Create the folder if needed, and lock it against other processes.

    Returns:
        None if files cannot be locked, or the folder is not writable.

    Raises:
        TlkitError: if another process holds it.
    """
    place = folder.resolve()
    if (mine := _held.get(place)) is not None and (folder / LOCK).exists():
        return mine
    if fcntl is None:
        return None
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise TlkitError(
                f"{str(folder)!r} is being written by another process{holder}.",
                "wait until it is done, or stop it; then: " + f"tlkit finetune --resume {folder}",
            ) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        if _is_there(descriptor, folder / LOCK):  # and was not released and removed in between
            facts = {"process": os.getpid(), "host": platform.node(), "since": _now()}
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(facts).encode())
            _held[place] = found = Hold(folder / LOCK, descriptor)
            return found
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """`, 4711 on HOST since TIME`, if the lock file says so."""
    try:
        facts: dict[str, Any] = json.loads(os.read(descriptor, 4096))
        return f", {facts['process']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # the holder has only just begun
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _let_go(path: Path, descriptor: int, process: int) -> None:
    if process == os.getpid():  # and not a fork of it
        with suppress(OSError):
            if _is_there(descriptor, path):
                path.unlink()
    with suppress(OSError):
        os.close(descriptor)


RUN_FORMAT = 1
# File of a run -> what depends on it. `tlkit finetune --resume` recreates these if a finished run has lost them.
MADE_AGAIN = {
    "model.keras": "predict, evaluate, explain, export and serve answer with it",
    "predictions.csv": "compare reads it, and thresholds are chosen on it",
    "metrics.json": "the results of the run are in it",
    "history.csv": "the report shows it",
    "choice.json": "it says which weights were chosen",
}
FOR_GOOD = "it records which images the run used, and for what"


@dataclass(frozen=True)
class RunDir:
    """Paths inside a run folder; names are part of the format, see docs/formats.md."""

    path: Path
    held: Hold | None = field(default=None, compare=False, repr=False)  # the lock, if this process holds it

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
        """The split of each image: path, split."""
        return self.path / "splits.csv"

    @property
    def audit(self) -> Path:
        """The findings of the audit."""
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
    def mean(self) -> Path:
        """For clips: the fitted head on the mean over time, with which the others are compared."""
        return self.path / "mean.npz"

    @property
    def choice(self) -> Path:
        """The choice of weights, and its reason."""
        return self.path / "choice.json"

    @property
    def model(self) -> Path:
        """The classifier, loadable in plain Keras."""
        return self.path / "model.keras"

    @property
    def class_indices(self) -> Path:
        """Class indices: `{name: index}`."""
        return self.path / "class_indices.json"

    @property
    def labels(self) -> Path:
        """One class name per line, in index order."""
        return self.path / "labels.txt"

    @property
    def predictions(self) -> Path:
        """Every image with its predicted probabilities."""
        return self.path / "predictions.csv"

    @property
    def metrics(self) -> Path:
        """Metrics: `{split: {metric: {...}}}`."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"

    @property
    def logs(self) -> Path:
        """TensorBoard event files."""
        return self.path / "logs"

    def read_record(self) -> dict[str, Any]:
        """Read run.json; raise if this is not a run folder."""
        if not self.record.is_file():
            raise TlkitError(
                f"{str(self.path)!r} is not a run folder: it has no run.json.",
                "give the folder that `tlkit finetune ... --out RUN` wrote.",
            )
        with reading(
            self.record, f"restore it, or train again; if it was changed by hand, remove {CHECKSUM!r} from it too."
        ):
            record = read_checked_json(self.record)
        if record.get("format") != RUN_FORMAT:
            raise TlkitError(
                f"{self.record} has format {record.get('format')!r}, this tlkit reads {RUN_FORMAT}.",
                "use the tlkit version that wrote it (see its run.json), or train again.",
            )
        return record

    def result(self) -> dict[str, Any]:
        """The result of `tlkit finetune`, as `--json` prints it, read from the folder of a finished run."""
        record = self.read_record()
        for kept in (self.manifest, self.splits):
            if not kept.is_file():
                raise TlkitError(f"{str(self.path)!r} has lost its {kept.name}.", "train again.")
        with self.splits.open(encoding="utf-8", errors="surrogateescape", newline="") as file:  # one row per sample
            images = sum(1 for _ in csv.reader(file)) - 1
        with reading(self.metrics, f"`tlkit evaluate {self.path}` recreates it."):
            metrics = read_json(self.metrics)
        return {
            "out": str(self.path),
            "images": images,
            "classes": record["classes"],
            "set_aside": record["set_aside"],
            "metrics": metrics,
            "model": str(self.model),
            "report": str(self.report),
            "seconds": record.get("seconds", 0.0),
        }

    def intact(self, path: Path) -> Path:
        """Check a file of this run against its sha256 in run.json, which older runs lack; return it.

        Raises:
            TlkitError: if it is gone or has changed, with what depends on it and how to recreate it.
        """
        name = path.relative_to(self.path).as_posix()
        if not self.record.is_file():
            return path
        wanted = self.read_record().get("files", {}).get(name)
        if wanted is None or (path.is_file() and sha256_file(path) in wanted):
            return path
        what = "is not what was written" if path.is_file() else "is gone"
        again = f"`tlkit finetune --resume {self.path}` recreates it"
        again += f", and so does `tlkit evaluate {self.path}`." if path == self.predictions else "."
        raise TlkitError(
            f"{str(path)!r} {what}; {MADE_AGAIN.get(name, FOR_GOOD)}.",
            again if name in MADE_AGAIN else "restore it from a copy, or train again.",
        )

    def damaged(self) -> list[str]:
        """The files that are gone or changed, among those that can be recreated."""
        found = self.read_record().get("files", {})
        wrong = (name for name in MADE_AGAIN if name in found and not self._is(name, found[name]))
        return sorted(wrong)

    def _is(self, name: str, wanted: list[str]) -> bool:
        path = self.path / name
        return path.is_file() and sha256_file(path) in wanted


def contents(folder: Path) -> list[Path]:
    """The contents of a folder, without leftovers of a killed process: its lock and temporary files."""
    return [path for path in folder.iterdir() if path.name != LOCK and not is_nobodys(path.name)]


def finished_model(run: str) -> Path:
    """The classifier's file of a run folder, or the given file itself; checked before anything slow begins.

    Raises:
        TlkitError: if it is not a run, or the run is not finished, or its classifier is gone or damaged.
    """
    run_dir = RunDir(Path(run))
    if run_dir.path.suffix == ".keras":
        return run_dir.path
    if run_dir.read_record().get("state") != "finished":
        raise TlkitError(f"{run_dir.path} is not finished.", f"tlkit finetune --resume {run_dir.path}")
    return run_dir.intact(run_dir.model)


def refuse_occupied(out: Path, *, overwrite: bool, remedy: str = "choose another --out, or add --overwrite.") -> None:
    """Raise if `out` exists and is not an empty folder, unless `overwrite`.

    Raises:
        TlkitError: naming `out` and the remedy.
    """
    if overwrite or not out.exists():
        return
    if out.is_dir() and not contents(out):
        return
    raise TlkitError(f"{str(out)!r} already exists.", remedy)
