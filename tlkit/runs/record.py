"""The record of a finetune run: begun, read back, gone on with, finished, shown."""

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones import runtime
from tlkit.base.errors import OutOfDate, TlkitError
from tlkit.base.files import read_json, replacing, write_json, write_text
from tlkit.base.story import Story
from tlkit.data.dataset import SPLITS, Dataset, InputContract, Problem, Splits
from tlkit.options.commands import FinetuneConfig
from tlkit.options.option import changed_options, resolve, write_toml
from tlkit.runs.folder import RUN_FORMAT, RunDir, refuse_occupied
from tlkit.runs.history import write_event_files, write_history
from tlkit.tasks.registry import TASKS
from tlkit.tasks.single import SINGLE

# Where the run itself lies, or who is told of it, is no reason to refuse going on with it.
WHEREABOUTS = ("out", "overwrite", "dry_run", "resume", "log")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def begin(config: FinetuneConfig) -> RunDir:
    """Make the run folder with its options and record.

    Raises:
        TlkitError: when `out` is occupied by something that is not to be replaced, or has no images.
    """
    run_dir, images = RunDir(Path(config.out)), Path(config.images or "")
    if not images.exists():
        raise TlkitError(f"{str(images)!r} does not exist.", "give a folder with one folder of images for each class.")
    remedy = f"choose another --out, add --overwrite, or go on with it: tlkit finetune --resume {config.out}"
    refuse_occupied(run_dir.path, overwrite=config.overwrite, remedy=remedy)
    if run_dir.path.is_dir() and any(run_dir.path.iterdir()):
        if not run_dir.record.exists():
            raise TlkitError(
                f"{str(run_dir.path)!r} is not a run folder.", "--overwrite replaces runs only; choose another --out."
            )
        shutil.rmtree(run_dir.path)
    write_text(run_dir.config, write_toml(replace(config, overwrite=False)))
    _begin_record(run_dir, config)
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
    }
    write_json(run_dir.record, record)


def discard_empty(run_dir: RunDir) -> None:
    """Remove a run that was refused before anything was trained, so that the next try finds its place free."""
    if not run_dir.checkpoints.exists():
        shutil.rmtree(run_dir.path, ignore_errors=True)


def reopen(asked: FinetuneConfig) -> tuple[FinetuneConfig, RunDir]:
    """The options and folder of the run that `asked.resume` names.

    Raises:
        TlkitError: not a run, or finished by another version.
        OutOfDate: options given besides `--resume` that the run was not started with, all of them listed.
    """
    run_dir = RunDir(Path(asked.resume or ""))
    if run_dir.config.is_file() and not run_dir.record.exists():  # killed between the first file and the second
        _begin_record(run_dir, resolve(FinetuneConfig, {}, run_dir.config))
    record = run_dir.read_record()
    stored = resolve(FinetuneConfig, {}, run_dir.config)
    default = FinetuneConfig(resume=asked.resume).as_dict()
    given = {
        name: value for name, value in asked.as_dict().items() if value != default[name] and name not in WHEREABOUTS
    }
    differences = changed_options({name: stored.as_dict()[name] for name in given}, given)
    if differences:
        raise OutOfDate(
            f"{asked.resume} was started with other options: {'; '.join(differences)}.",
            "leave them out to go on with it, or start a new run with them.",
        )
    return replace(stored, images=record["images"], out=str(run_dir.path), log=asked.log or stored.log), run_dir


def finished(asked: FinetuneConfig, story: Story) -> dict[str, Any] | None:
    """What a run that is already finished gave; None while there is something left to do."""
    _, run_dir = reopen(asked)
    record = run_dir.read_record()
    if record["state"] != "finished":
        return None
    story.say(f"{run_dir.path} is finished; nothing to resume. report: {run_dir.report}")
    return run_dir.result()


# -- images and plan ---------------------------------------------------------------------------


def write_images(run_dir: RunDir, dataset: Dataset, splits: Splits, **facts: Any) -> None:
    """Record which images are used and for what, with further facts. The record is written last and speaks of the rest."""
    dataset.write_csv(run_dir.manifest)
    with (
        replacing(run_dir.splits) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
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
        data_sha256=dataset.fingerprint(),
        **facts,
    )


def read_images(run_dir: RunDir) -> tuple[Dataset, Splits] | None:
    """The images and split of the run; None where it was killed before it knew them."""
    record = run_dir.read_record()
    if "plan" not in record:
        return None
    problems = [Problem(**problem) for problem in record["set_aside"]]
    task = TASKS[record.get("task", SINGLE.name)]
    dataset = Dataset.read_csv(run_dir.manifest, Path(record["root"]), tuple(record["classes"]), problems, task=task)
    dataset = replace(dataset, ignored=record["ignored"])
    with run_dir.splits.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        codes = [SPLITS.index(row["split"]) if row["split"] else -1 for row in csv.DictReader(file)]
    return dataset, Splits(np.array(codes, dtype=np.int8), record["split_rule"])


def refuse_changed_images(dataset: Dataset) -> None:
    """Raise when files of a run are gone or have another size than when it began.

    Raises:
        OutOfDate: naming the first ones.
    """
    changed = []
    for index, size in enumerate(dataset.sizes):
        file = dataset.file(index)
        if not file.is_file() or file.stat().st_size != size:
            changed.append(dataset.paths[index])
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise OutOfDate(
            f"images of this run have changed or are gone: {', '.join(map(repr, changed[:3]))}{more}.",
            "restore them under " + str(dataset.root) + ", or start a new run.",
        )


def read_contract(run_dir: RunDir) -> InputContract | None:
    """How the run's images become pixels, by the rules that it began with; None before that is settled."""
    record = run_dir.read_record()
    return InputContract(**record["contract"]) if "contract" in record else None


def update(run_dir: RunDir, **facts: Any) -> None:
    """Add facts to run.json, in one step."""
    write_json(run_dir.record, run_dir.read_record() | facts)


class RunSink:
    """A run folder as the place where training leaves what it has finished: facts in run.json, the choice beside it.

    Args:
        run_dir: where.
        prepared: hears of the material once its rows are there.
    """

    def __init__(self, run_dir: RunDir, prepared: Callable[[Any], None]) -> None:
        self.folder, self._run_dir, self.prepared = run_dir.path, run_dir, prepared

    def read(self, name: str) -> Any:
        """What was written under a name, None where nothing was."""
        if name == "choice":
            return read_json(self._run_dir.choice) if self._run_dir.choice.is_file() else None
        return self._run_dir.read_record().get(name)

    def write(self, name: str, content: Any) -> None:
        """Keep something JSON-able under a name."""
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
    """Mark the run finished. Returns its seconds, those before an interruption not counted."""
    update(run_dir, state="finished", seconds=round(seconds, 3))
    return round(seconds, 3)
