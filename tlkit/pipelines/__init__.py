"""The pipelines: one file per command with `run(config, story) -> result`; upkeep commands are in `upkeep/`."""

import contextlib
import importlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

from tlkit.backbones.weight_files import refuse_missing_network
from tlkit.base.errors import TlkitError
from tlkit.base.machine import install, lacking, os_error
from tlkit.base.process import lean_imports, settle_backend
from tlkit.base.story import Story
from tlkit.options.option import Options, refuse_missing, refuse_unwritable, written_paths
from tlkit.runs.folder import RunDir, refuse_occupied

# Commands that do not need Keras at the start; predict and serve load it if a run has no ONNX file,
COLD = ("cache", "backbones", "compare", "predict", "report", "sample", "serve", "split", "verify", "weights")
LATE = (
    "doctor",
    "features",
    "next",
)  # and these load it themselves, all but the first only if there is something to compute
UPKEEP = ("backbones", "cache", "doctor", "weights")  # commands that look after the installation


def place_of(name: str) -> str:
    """The name of the module with a command's pipeline."""
    return f"tlkit.pipelines.upkeep.{name}" if name in UPKEEP else f"tlkit.pipelines.{name}"


def load(name: str, story: Story) -> ModuleType:
    """The pipeline of a command. Keras, if needed, is imported first, so that its backend starts without log output."""
    if name not in COLD:
        if importlib.util.find_spec("keras") is None:
            raise ModuleNotFoundError("No module named 'keras'", name="keras")
        if notice := settle_backend():
            story.say(notice)
        if name not in LATE:
            importlib.import_module("tlkit.backbones.runtime")
    with contextlib.nullcontext() if name in COLD else lean_imports("sklearn"):
        return importlib.import_module(place_of(name))


def carry_out(name: str, config: Options, story: Story) -> dict[str, Any]:
    """Run a command; refuse what can be refused before anything slow is loaded, and turn system errors into TlkitError.

    Raises:
        TlkitError: as its pipeline, and if a file cannot be read or written; nothing half-written is left.
    """
    try:
        refuse_early(name, config)
    except OSError as error:
        if refused := os_error(error):
            raise refused from error
        raise
    story.expect()
    fresh = [path for path, _ in written_paths(config).values() if not path.exists()]
    try:
        with _executor(config):
            return load(name, story).run(config, story)
    except (OSError, RuntimeError) as error:
        refused = os_error(error)
        if refused is None:
            raise
        if name == "finetune":  # an interrupted run can be resumed
            raise _resumable(refused, config) from error
        for path in fresh:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise refused from error
    finally:
        story.close()


def _executor(config: Options) -> AbstractContextManager[Any]:
    """The executor for the duration of a command; a missing requirement is refused before anything else."""
    asked = config.as_dict().get("executor", "here")
    if asked == "here":
        return contextlib.nullcontext()
    return importlib.import_module("tlkit.extraction.executors").opened(asked)


def _resumable(refused: TlkitError, config: Options) -> TlkitError:
    """The same error, with how to resume if an unfinished run was left."""
    run = config.as_dict()["resume"] or config.as_dict()["out"]
    there = RunDir(Path(run)).record.is_file()
    return TlkitError(
        refused.message, f"{refused.hint} Then continue: tlkit finetune --resume {run}" if there else refused.hint
    )


def left_by(config: Options) -> tuple[Path, bool] | None:
    """What an interrupted `finetune` left: the run folder and whether it can be resumed; None if there is none.

    A finished run that was to be replaced but had not been yet is still there unchanged.
    """
    given = config.as_dict()
    run = RunDir(Path(given["resume"] or given["out"]))
    if given["dry_run"] or not run.config.is_file():
        return None
    finished = False
    with contextlib.suppress(OSError, ValueError, KeyError):
        finished = given["overwrite"] and json.loads(run.record.read_bytes())["state"] == "finished"
    return run.path, not finished


def refuse_early(name: str, config: Options) -> None:
    """Raise for errors that can be detected without loading Keras.

    Raises:
        TlkitError: naming the error.
    """
    refuse_missing(config)
    given = config.as_dict()
    starts = not (given.get("resume") or given.get("dry_run"))
    if starts:
        refuse_unwritable(config)
    if "backbone" in given and not given.get("resume"):
        refuse_missing_network(given["backbone"], given["weights"])
    if (run := given.get("run")) and not run.endswith(".keras"):
        RunDir(Path(run)).read_record()
    if starts and name in _NEW:
        for path, _ in written_paths(config).values():
            refuse_occupied(path, overwrite=given["overwrite"], remedy=_NEW[name].format(path))
    if name == "export":
        importlib.import_module("tlkit.exporting.formats").refuse_missing_of(given["format"])
    if given.get("balance") == "smote" and lacking("balance"):
        raise TlkitError("--balance smote needs imbalanced-learn.", install("balance"))
    if given.get("log"):
        importlib.import_module("tlkit.runs.tracking").refuse_missing(given["log"])


_OTHER = "choose another --out, or add --overwrite."
# Commands whose output path must be unused, with the hint; the others write into a folder or determine the path later.
_NEW = {
    **dict.fromkeys(("features", "audit", "rank", "explain", "split", "predict", "compare", "next"), _OTHER),
    "finetune": "choose another --out, add --overwrite, or resume it: tlkit finetune --resume {}",
}


@contextlib.contextmanager
def refusing_what_lacks(name: str) -> Iterator[None]:
    """Context for a command: a missing package becomes a one-sentence error.

    A prediction-only installation (docs/docker.md) has only the packages of predict, serve and verify.

    Args:
        name: name of the command.

    Raises:
        TlkitError: naming the package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "tlkit").partition(".")[0]
        if package == "tlkit":  # a bug, not a missing package
            raise
        raise TlkitError(
            f"tlkit {name} needs the package {package!r}, which is not installed here.",
            "install all of tlkit (pip install tlkit, or the image without --target answer); "
            "predict, serve and verify of finished runs work without Keras.",
        ) from error
