"""The record of a finetune run: begin, read, resume, finish."""

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones import runtime
from tlkit.base.errors import NoEffect, OutOfDate, TlkitError
from tlkit.base.files import (
    BYTES_AS_TEXT,
    PREFIX,
    CellWriter,
    missing,
    read_json,
    reading,
    remove,
    replacing,
    sha256_file,
    temporary_beside,
    write_checked_json,
    write_json,
    write_text,
)
from tlkit.base.machine import usable_cores
from tlkit.base.story import Story
from tlkit.data.clips import Sampling, decoded_again, fold
from tlkit.data.dataset import SPLITS, Dataset, InputContract, Problem, Splits
from tlkit.data.decode import in_order
from tlkit.data.folders import refuse_inside
from tlkit.data.table import CLIP
from tlkit.options.commands import FinetuneConfig
from tlkit.options.option import changed_options, read_toml, resolve, write_toml
from tlkit.runs.folder import RUN_FORMAT, RunDir, contents, hold, refuse_occupied
from tlkit.runs.history import write_event_files, write_history
from tlkit.tasks.registry import TASKS
from tlkit.tasks.single import SINGLE

AGAIN = "restore it from a copy, or train again."
REPLACED = "replaced"  # suffix of the folder of a run that is about to be replaced
MARGIN = 3600.0  # seconds
# Options that may differ on resuming: the location of the run, trackers, the number of devices.
WHEREABOUTS = ("out", "overwrite", "dry_run", "resume", "log", "moved_to", "devices")
# Options, or values of them, of earlier versions: finished runs that have them can still be read.
RETIRED = {"lora": None, "search": None, "unfreeze": "auto"}  # None: whatever the value


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def begin(config: FinetuneConfig) -> RunDir:
    """Create the run folder with its options and record.

    Raises:
        TlkitError: if `out` is occupied by something that must not be replaced or by another process, or there are no
            images.
    """
    run_dir, images = RunDir(Path(config.out)), Path(config.images or "")
    if not images.exists():
        raise missing(config.images or "", "give a folder with one folder of images for each class.")
    refuse_inside(run_dir.path, images)
    remedy = f"choose another --out, add --overwrite, or resume it: tlkit finetune --resume {config.out}"
    refuse_occupied(run_dir.path, overwrite=config.overwrite, remedy=remedy)
    occupied = run_dir.path.is_dir() and bool(contents(run_dir.path))
    if occupied and not run_dir.record.exists():
        raise TlkitError(
            f"{str(run_dir.path)!r} is not a run folder.", "--overwrite replaces runs only; choose another --out."
        )
    run_dir = RunDir(run_dir.path, hold(run_dir.path))
    if occupied:
        _put_aside(run_dir)
    try:
        write_text(run_dir.config, write_toml(replace(config, overwrite=False)))
        _begin_record(run_dir, config)
    except OSError:
        discard_empty(run_dir)
        raise
    return run_dir


def _begin_record(run_dir: RunDir, config: FinetuneConfig) -> None:
    record = {
        "format": RUN_FORMAT,
        "state": "running",
        "created": now(),
        "command": runtime.command_line(),
        "images": str(Path(config.images or "").resolve()),
        "seed": config.seed,
        "versions": runtime.versions(),
        "hardware": runtime.hardware(),
        "files": sums_of(run_dir.config),
    }
    write_checked_json(run_dir.record, record)


def sums_of(*files: Path) -> dict[str, list[str]]:
    """`{name: [sha256]}` of the given files that exist; they must be directly in the run folder."""
    return {file.name: [sha256_file(file)] for file in files if file.is_file()}


def record_files(run_dir: RunDir) -> None:
    """Record the checksums of the files in run.json, so that later changes are noticed."""
    update(run_dir, files=_every_file(run_dir))


def _every_file(run_dir: RunDir) -> dict[str, list[str]]:
    files = (path for path in run_dir.path.iterdir() if path != run_dir.record and path.name[0] != ".")
    return sums_of(*sorted(files))


def expect(run_dir: RunDir, sums: Mapping[str, str]) -> None:
    """Record the sha256, by name, of files about to be replaced; until then the old ones remain valid too."""
    files = run_dir.read_record().get("files", {})
    update(run_dir, files=files | {name: [new, *files[name][:1]] for name, new in sums.items() if name in files})


def _begun_with(run_dir: RunDir, record: Mapping[str, Any]) -> dict[str, list[str]]:
    """The checksums in run.json of the files a run began with, which are not rewritten on resuming."""
    names = {path.name for path in (run_dir.config, run_dir.manifest, run_dir.splits)}
    return {name: sums for name, sums in record.get("files", {}).items() if name in names}


def discard_empty(run_dir: RunDir) -> None:
    """Remove a run that was refused before anything was trained, restoring the folder for the next try."""
    if not give_back(run_dir) and not run_dir.checkpoints.exists():
        shutil.rmtree(run_dir.path, ignore_errors=True)


def give_back(run_dir: RunDir) -> bool:
    """Restore the run that this one was to replace; False if there was none, or it was removed when training began."""
    replaced = _replaced(run_dir)
    for path in contents(run_dir.path) if replaced else ():
        if path not in replaced:
            remove(path)
    for folder in replaced:
        for path in folder.iterdir():
            path.rename(run_dir.path / path.name)
        remove(folder)
    return bool(replaced)


def _put_aside(run_dir: RunDir) -> None:
    """Move the old run aside; it is removed only when training of the new one begins."""
    aside = temporary_beside(run_dir.path / REPLACED)
    old = contents(run_dir.path)
    aside.mkdir()
    for path in old:
        path.rename(aside / path.name)


def _replaced(run_dir: RunDir) -> list[Path]:
    """The folder of the run that this one replaces."""
    return list(run_dir.path.glob(f"{PREFIX}*-{REPLACED}"))


def reopen(asked: FinetuneConfig) -> tuple[FinetuneConfig, RunDir]:
    """The options and folder of the run named by `asked.resume`.

    Raises:
        TlkitError: if it is not a run, was finished by another version, or is held by another process.
        OutOfDate: for options besides `--resume` that differ from those the run was started with, all of them listed.
    """
    run_dir = RunDir(Path(asked.resume or ""))
    if run_dir.config.is_file() and not run_dir.record.exists():  # killed between the first file and the second
        _begin_record(run_dir, resolve(FinetuneConfig, {}, run_dir.config))
    record = run_dir.read_record()
    if record.get("state") != "finished":
        run_dir = RunDir(run_dir.path, hold(run_dir.path))
        update(run_dir, files=_begun_with(run_dir, record))
    stored, retired = begun_with(run_dir)
    if retired and record.get("state") != "finished":
        raise OutOfDate(
            f"{asked.resume} was started with {', '.join(retired)}, which this version no longer offers.",
            "start a new run without it, or resume it with the version that started it.",
        )
    default = FinetuneConfig(resume=asked.resume).as_dict()
    given = {
        name: value for name, value in asked.as_dict().items() if value != default[name] and name not in WHEREABOUTS
    }
    differences = changed_options({name: stored.as_dict()[name] for name in given}, given)
    if differences:
        raise OutOfDate(
            f"{asked.resume} was started with other options: {'; '.join(differences)}.",
            "leave them out to resume it, or start a new run with them.",
        )
    now_wanted = replace(stored, log=asked.log or stored.log, devices=asked.devices or stored.devices)
    return replace(now_wanted, images=record["images"], out=str(run_dir.path)), run_dir


def begun_with(run_dir: RunDir) -> tuple[FinetuneConfig, list[str]]:
    """The options of a run without those no longer offered, and the latter as they were given."""
    content = read_toml(run_dir.intact(run_dir.config))
    retired = {name: value for name, value in content.items() if name in RETIRED and RETIRED[name] in (None, value)}
    kept = {name: value for name, value in content.items() if name not in retired}
    while True:
        try:
            return resolve(FinetuneConfig, kept), [f"--{name} {value}" for name, value in retired.items()]
        except NoEffect as idle:  # earlier versions accepted it without effect
            del kept[idle.option]


def finished(asked: FinetuneConfig, story: Story) -> dict[str, Any] | None:
    """The result of a finished run; None if there is something left to do."""
    _, run_dir = reopen(asked)
    record = run_dir.read_record()
    if record.get("state") != "finished":
        return None
    if damaged := run_dir.damaged():
        story.say(f"{run_dir.path}: recreating {', '.join(damaged)}, gone or damaged")
        for name in damaged:
            (run_dir.path / name).unlink(missing_ok=True)
        if run_dir.choice.name in damaged:  # the candidate weights are no longer kept
            shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
        update(run_dir, state="running", files=_begun_with(run_dir, record))
        return None
    story.say(f"{run_dir.path} is finished; nothing to resume. report: {run_dir.report}")
    return run_dir.result()


# -- images and plan ---------------------------------------------------------------------------


def write_images(run_dir: RunDir, dataset: Dataset, splits: Splits, **facts: Any) -> None:
    """Record the images and their split, with further facts. run.json is written last, as it refers to the rest."""
    dataset.write_csv(run_dir.manifest)
    with (
        replacing(run_dir.splits) as temporary,
        temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as file,
    ):
        writer = CellWriter(file)
        writer.writerow(["path", "split"])
        writer.writerows(zip(dataset.paths, splits.names(), strict=True))
    update(
        run_dir,
        root=str(dataset.root.resolve()),
        classes=list(dataset.classes),
        task=dataset.task.name,
        set_aside=[problem.as_json() for problem in dataset.set_aside],
        ignored=dataset.ignored,
        split_rule=splits.rule,
        fixes=dataset.fixed,
        clips=None if dataset.clips is None else asdict(dataset.clips.sampling),
        data_sha256=dataset.fingerprint(),
        **facts,
        files=sums_of(run_dir.config, run_dir.manifest, run_dir.splits),
    )


def read_images(run_dir: RunDir) -> tuple[Dataset, Splits] | None:
    """The images and split of the run; None if it was killed before they were recorded."""
    record = run_dir.read_record()
    if "plan" not in record:
        return None
    with reading(run_dir.record, AGAIN):
        problems = [Problem(**problem) for problem in record["set_aside"]]
        root, classes, task = Path(record["root"]), tuple(record["classes"]), TASKS[record.get("task", SINGLE.name)]
        ignored, rule, fixed = record["ignored"], record["split_rule"], record.get("fixes", "")
    with reading(run_dir.manifest, AGAIN):
        dataset = Dataset.read_csv(run_dir.intact(run_dir.manifest), root, classes, problems, task=task)
        if record.get("clips"):
            dataset = decoded_again(fold(dataset, dataset.extra.pop(CLIP), Sampling(**record["clips"])))
    with (
        reading(run_dir.splits, AGAIN),
        run_dir.intact(run_dir.splits).open(encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        codes = [SPLITS.index(row["split"]) if row["split"] else -1 for row in csv.DictReader(file)]
        if len(codes) != len(dataset):
            raise ValueError(f"it has {len(codes)} rows, manifest.csv has {len(dataset)}")
    return replace(dataset, ignored=ignored, fixed=fixed), Splits(np.array(codes, dtype=np.int8), rule)


def move_images(run_dir: RunDir, place: str, story: Story) -> None:
    """Record where the images of a run are now, for all later commands.

    Args:
        run_dir: the run.
        place: the folder that they were moved to, or the table beside them.
        story: receives a message.

    Raises:
        TlkitError: if none of them is there.
    """
    known, new = read_images(run_dir), Path(place).resolve()
    if known is None:  # nothing was read yet, so there is nothing to compare with
        update(run_dir, images=str(new))
        return
    dataset, root = known[0].members, new.parent if new.is_file() else new
    there = sum((root / path).is_file() for path in dataset.paths)
    if not there:
        raise TlkitError(
            f"none of the {len(dataset)} images of {run_dir.path} is in {place!r}.",
            f"give the folder that contains {dataset.paths[0]!r}.",
        )
    story.say(
        f"the images of {run_dir.path} are in {root} from now on, {there} of {len(dataset)}; until now in "
        f"{dataset.root}"
    )
    update(run_dir, images=str(new), root=str(root))


def refuse_moved(run_dir: RunDir, dataset: Dataset) -> None:
    """Raise if none of the first images of a run is in its place any more.

    Raises:
        OutOfDate: with how to give the new place.
    """
    if not any(dataset.file(i).is_file() for i in range(min(len(dataset), 100))):
        finished = run_dir.read_record().get("state") == "finished"
        command = f"tlkit evaluate {run_dir.path}" if finished else f"tlkit finetune --resume {run_dir.path}"
        raise OutOfDate(
            f"the images of {run_dir.path} are no longer in {str(dataset.root)!r}.",
            f"say where they are now: {command} --images FOLDER",
        )


def refuse_changed_images(run_dir: RunDir, dataset: Dataset) -> None:
    """Raise if files of a run are gone or have changed since it began.

    A file of the recorded size that was last modified well before the run began is taken as unchanged; all others are
    hashed. The later of mtime and ctime counts, so that neither an older file moved here nor one whose time was set
    back passes; `MARGIN` allows for clocks that differ, as on shared disks.

    Raises:
        OutOfDate: naming the first ones.
    """
    dataset = dataset.members
    with reading(run_dir.record, AGAIN):
        began = datetime.fromisoformat(run_dir.read_record()["created"]).timestamp() - MARGIN
    rows = range(len(dataset))
    same = in_order(partial(_is_same, dataset, began), rows, threads=usable_cores(), ahead=64)
    changed = [dataset.paths[row] for row, is_same in zip(rows, same, strict=True) if not is_same]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise OutOfDate(
            f"images of this run have changed or are gone: {', '.join(map(repr, changed[:3]))}{more}.",
            f"restore them under {dataset.root}; say with `--images FOLDER` where they are now; or start a new run.",
        )


def _is_same(dataset: Dataset, began: float, row: int) -> bool:
    file = dataset.file(row)
    try:
        facts = file.stat()
        if facts.st_size != dataset.sizes[row]:
            return False
        untouched = max(facts.st_mtime, facts.st_ctime) < began
        return untouched or sha256_file(file) == dataset.sha256[row].tobytes().hex()
    except OSError:
        return False


def read_contract(run_dir: RunDir) -> InputContract | None:
    """The input contract the run began with; None before it is determined."""
    record = run_dir.read_record()
    return InputContract(**record["contract"]) if "contract" in record else None


def update(run_dir: RunDir, **facts: Any) -> None:
    """Add facts to run.json atomically."""
    write_checked_json(run_dir.record, run_dir.read_record() | facts)


class RunSink:
    """The `Sink` that stores results of training in a run folder: facts in run.json, the choice beside it.

    Args:
        run_dir: the run.
        prepared: called with the material once its features are computed.
    """

    def __init__(self, run_dir: RunDir, prepared: Callable[[Any], None]) -> None:
        self.folder, self._run_dir, self._prepared = run_dir.path, run_dir, prepared

    def prepared(self, material: Any) -> None:
        """Called before training begins: removes the run that this one replaces."""
        self._prepared(material)
        for folder in _replaced(self._run_dir):
            gone = temporary_beside(self._run_dir.path / "gone")
            folder.rename(gone)  # in one step, so that a partial run is never restored
            remove(gone)

    def read(self, name: str) -> Any:
        """Read what was written under a name, None if nothing was."""
        if name == "choice":
            if not self._run_dir.choice.is_file():
                return None
            with reading(self._run_dir.choice, "delete it and run the same command again to repeat the choice."):
                return read_json(self._run_dir.choice)
        return self._run_dir.read_record().get(name)

    def write(self, name: str, content: Any) -> None:
        """Store something JSON-able under a name."""
        if name == "choice":
            write_json(self._run_dir.choice, content)
        else:
            update(self._run_dir, **{name: content})

    def history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write history.csv and event files."""
        write_history(self._run_dir.history, rows)
        write_event_files(self._run_dir.logs, rows)


# -- the end -----------------------------------------------------------------------------------


def finish(run_dir: RunDir, seconds: float) -> float:
    """Mark the run finished; return its seconds, not counting those before an interruption."""
    update(run_dir, state="finished", seconds=round(seconds, 3), files=_every_file(run_dir))
    return round(seconds, 3)
