"""`tlkit`: parse, call one pipeline, print. The only place that catches errors and sets exit codes.

0 done, 1 refused with a message and a hint, 2 wrong usage, 130 interrupted (Ctrl+C), 143 terminated (SIGTERM).
"""

import contextlib
import errno
import json
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from tlkit import pipelines
from tlkit.base.download import OFFLINE
from tlkit.base.errors import TlkitError
from tlkit.base.machine import __version__, cache_dir
from tlkit.base.process import claim_process, native_stderr_apart
from tlkit.base.story import PlainStory, Story
from tlkit.cli.commands import COMMANDS, Command
from tlkit.cli.parameters import SectionedCommand, typer_function
from tlkit.options.option import refuse_missing, resolve

_STARTED = time.time()
DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))

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
    config = None
    try:
        config = resolve(command.options, given, Path(config_file) if config_file else None)
        refuse_missing(config)
        native = native_stderr_apart(cache_dir()[0] / f"native-{os.getpid()}.log")
        with native, _ended_by_sigterm(), pipelines.refusing_what_lacks(command.name):
            story = listener(quiet=quiet, verbose=verbose)
            result = pipelines.load(command.name, story).run(config, story)
    except TlkitError as error:
        raise typer.Exit(_refused(error, as_json)) from error
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise typer.Exit(_refused(_of_the_disk(error), as_json)) from error
    except KeyboardInterrupt as stopped:
        raise typer.Exit(_interrupted(command, config, terminated=isinstance(stopped, Terminated))) from None
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
    hint += f"\ntry:   {right}" if (right := _right_command(error)) else ""
    print(f"error: {error.message}{hint}", file=sys.stderr)
    return 1


def _right_command(error: TlkitError) -> str:
    """What was typed, with the argument put right that the error speaks of; "" where it speaks of none."""
    typed, right = error.instead or ("", "")
    words = sys.argv[1:]
    return shlex.join(["tlkit", *(right if word == typed else word for word in words)]) if typed in words else ""


def _of_the_disk(error: OSError) -> TlkitError:
    """What to say of a disk that is full, broken or not to be written, wherever that was noticed."""
    place = f"{str(error.filename)!r}" if error.filename else "a file"
    return TlkitError(
        f"{place} cannot be read or written: {error.strerror}.",
        "make room on its disk (`tlkit cache clear --older-than 7`) or use another; what is finished stays.",
    )


class Terminated(KeyboardInterrupt):
    """SIGTERM came: whoever cleans up after Ctrl+C does so now too."""


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM ends the command as Ctrl+C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(command: Command, config: Any, *, terminated: bool) -> int:
    """Say how to go on, where there is something to go on with: every finished step is on disk."""
    print("\ninterrupted.", file=sys.stderr)
    if hint := _how_to_go_on(command, config):
        print(f"hint:  {hint}", file=sys.stderr)
    return 143 if terminated else 130


def _how_to_go_on(command: Command, config: Any) -> str:
    """What continues an interrupted command; "" where nothing of it is on disk."""
    if command.name == "finetune":
        run = Path(config.resume or config.out) if config is not None else None
        begun = run is not None and not config.dry_run and (run / "config.toml").is_file()
        return f"go on with: tlkit finetune --resume {run}" if begun else ""
    stored = (cache_dir()[0] / "features").glob("*/*.idx")
    new = any(path.stat().st_mtime >= _STARTED for path in stored if path.exists())
    return "the same command goes on where it was." if new else ""


for _command in COMMANDS:
    app.command(_command.name, cls=SectionedCommand)(typer_function(_command, act))


def main() -> None:
    """Entry point."""
    claim_process()
    app()


# -- The story on a terminal: sentences on stderr and one progress bar -------------------------

T = TypeVar("T")


def listener(*, quiet: bool, verbose: bool) -> Story:
    """A progress bar where stderr is a terminal, plain lines elsewhere."""
    verbosity = 0 if quiet else 2 if verbose else 1
    return TerminalStory(verbosity) if verbosity and sys.stderr.isatty() else PlainStory(verbosity)


class TerminalStory(PlainStory):
    """Plain sentences, and a progress bar that leaves nothing behind."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield from `items` under a bar with rate and remaining time."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(description, total=total)
            for item in items:
                yield item
                progress.advance(task, len(item) if hasattr(item, "__len__") else 1)
