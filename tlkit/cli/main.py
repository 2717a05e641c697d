"""`tlkit`: parse, call one pipeline, print. The only place that catches errors and sets exit codes.

0 done, 1 refused with a message and a hint, 2 wrong usage, 130 interrupted.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from tlkit import pipelines
from tlkit.cli.commands import COMMANDS, Command
from tlkit.cli.help import SectionedCommand
from tlkit.cli.parameters import typer_function
from tlkit.cli.story import listener
from tlkit.core.cache_dir import cache_dir
from tlkit.core.errors import TlkitError
from tlkit.core.native_stderr import native_stderr_apart
from tlkit.core.offline import OFFLINE
from tlkit.core.options import refuse_missing, resolve
from tlkit.core.own_process import claim_process
from tlkit.core.version import __version__

app = typer.Typer(
    name="tlkit",
    help="A folder of images in; a classifier you can trust, a feature table and an honest report out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"tlkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    pass


def act(
    command: Command,
    given: dict[str, Any],
    *,
    config_file: str | None,
    as_json: bool,
    offline: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Resolve the options, run the pipeline, print its result on stdout."""
    if offline:
        os.environ[OFFLINE] = "1"
    try:
        config = resolve(command.options, given, Path(config_file) if config_file else None)
        refuse_missing(config)
        with native_stderr_apart(cache_dir()[0] / f"native-{os.getpid()}.log"):
            story = listener(quiet=quiet, verbose=verbose)
            result = pipelines.load(command.name, story).run(config, story)
    except TlkitError as error:
        raise typer.Exit(_refused(error, as_json)) from error
    except KeyboardInterrupt:
        raise typer.Exit(_interrupted(command, given)) from None
    text = json.dumps(_without_text(result)) if as_json else command.shown(result)
    if text:
        _print(text)


def _print(text: str) -> None:
    """Write to stdout; a file name that is no text comes out as the bytes it is made of."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


def _without_text(result: dict[str, Any]) -> dict[str, Any]:
    """`text` is for readers; machines have the rest."""
    return {name: value for name, value in result.items() if name != "text"}


def _refused(error: TlkitError, as_json: bool) -> int:
    """Two lines on stderr, or the same as JSON on stdout; the traceback only on request."""
    if os.environ.get("TLKIT_DEBUG"):
        traceback.print_exception(error)
    if as_json:
        _print(json.dumps({"error": error.message, "hint": error.hint}))
    hint = f"\nhint:  {error.hint}" if error.hint else ""
    print(f"error: {error.message}{hint}", file=sys.stderr)
    return 1


def _interrupted(command: Command, given: dict[str, Any]) -> int:
    """Say how to go on: every finished step is on disk."""
    print("\ninterrupted.", file=sys.stderr)
    if command.name == "finetune":
        run = given.get("resume") or given.get("out") or "run"
        print(f"hint:  go on with: tlkit finetune --resume {run}", file=sys.stderr)
    elif command.name == "features":
        print("hint:  the same command goes on where it was.", file=sys.stderr)
    return 130


for _command in COMMANDS:
    app.command(_command.name, cls=SectionedCommand)(typer_function(_command, act))


def main() -> None:
    """Entry point."""
    claim_process()
    app()
