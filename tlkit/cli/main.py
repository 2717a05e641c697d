"""`tlkit`: parse, call one pipeline, print. The only place that catches errors and sets exit codes.

0 done, 1 refused with a message and a hint, 2 usage error, 130 interrupted (Ctrl+C), 143 terminated (SIGTERM), 129
terminal closed (SIGHUP).
"""

import atexit
import contextlib
import json
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tlkit import pipelines
from tlkit.base.errors import TlkitError
from tlkit.base.machine import __version__, cache_dir
from tlkit.base.process import claim_process, ended_at_once, native_stderr_apart, scratch_apart
from tlkit.base.remote import OFFLINE
from tlkit.base.story import PlainStory, SteadyStory
from tlkit.cli.commands import COMMANDS, Command
from tlkit.cli.help import Commands, SectionedCommand, refuse, write_refusal
from tlkit.cli.parameters import typer_function
from tlkit.options.option import resolve

_STARTED = time.time()

app = typer.Typer(
    name="tlkit",
    cls=Commands,
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
        native = native_stderr_apart(cache_dir()[0] / f"native-{os.getpid()}.log")
        with native, scratch_apart(), _ended_by_signals(), pipelines.refusing_what_lacks(command.name):
            story = listener(quiet=quiet, verbose=verbose)
            result = pipelines.carry_out(command.name, config, story)
    except TlkitError as error:
        raise typer.Exit(_refused(error, as_json)) from error
    except KeyboardInterrupt as stopped:
        raise typer.Exit(_interrupted(command, config, stopped, as_json)) from None
    shown = _as_json(result) if as_json else command.shown(result)
    _print([shown, "\n"] if shown and isinstance(shown, str) else shown)


def _print(pieces: Iterable[str]) -> None:
    """Write to stdout; file names that are not valid text are written as their raw bytes."""
    sys.stdout.flush()
    try:
        for piece in pieces:
            sys.stdout.buffer.write(piece.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the reader (`| head`) has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(141) from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        hint = "make room where it is written; the files that the command wrote are complete."
        raise typer.Exit(refuse(f"standard output cannot be written: {error.strerror}.", hint, False, 1)) from None


def _as_json(result: dict[str, Any]) -> Iterator[str]:
    """The result as one line of JSON, without `text`; lazy sequences are written piece by piece."""
    yield "{"
    between = ""
    for name, value in result.items():
        if name == "text":
            continue
        yield f"{between}{json.dumps(name)}: "
        between = ", "
        if isinstance(value, Sequence) and not isinstance(value, (str, list, tuple)):
            yield "["
            yield from (", " * (place > 0) + json.dumps(item) for place, item in enumerate(value))
            yield "]"
        else:
            yield json.dumps(value)
    yield "}\n"


def _refused(error: TlkitError, as_json: bool) -> int:
    """Print an error on stderr or as JSON on stdout; the traceback only on request."""
    if os.environ.get("TLKIT_DEBUG"):
        traceback.print_exception(error)
    elif isinstance(error.__cause__, (OSError, RuntimeError)):
        sys.excepthook = sys.unraisablehook = _nothing  # HDF5 would report the failed write again at exit
        atexit.register(_at_once)
    return refuse(error.message, error.hint, as_json, 1, _right_command(error))


def _right_command(error: TlkitError) -> str:
    """The command as typed, with the argument named by the error corrected; "" if it names none."""
    typed, right = error.instead or ("", "")
    words = sys.argv[1:]
    return shlex.join(["tlkit", *(right if word == typed else word for word in words)]) if typed in words else ""


class Terminated(KeyboardInterrupt):
    """A signal other than SIGINT, its number as the argument; it is cleaned up after like Ctrl+C."""


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the context SIGTERM ends the command like Ctrl+C, and so does SIGHUP unless it is ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, _: object) -> None:
        raise Terminated(number)

    closed = [number for number in _CLOSED if signal.getsignal(number) is signal.SIG_DFL]
    before = {number: signal.signal(number, terminate) for number in (signal.SIGTERM, *closed)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_CLOSED = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()  # not on Windows


def _interrupted(command: Command, config: Any, stopped: KeyboardInterrupt, as_json: bool) -> int:
    """Print how to continue an interrupted command, if it can be: every finished step is on disk."""
    hint = _how_to_go_on(command, config)
    with contextlib.suppress(OSError):  # the terminal may be closed
        print("\ninterrupted." + f"\nhint:  {hint}" * bool(hint), file=sys.stderr)
    if as_json:
        with contextlib.suppress(OSError):  # so may the reader of stdout
            write_refusal("interrupted.", hint)
    return 128 + (stopped.args[0] if isinstance(stopped, Terminated) else signal.SIGINT)


def _how_to_go_on(command: Command, config: Any) -> str:
    """The hint how to continue an interrupted command; "" if nothing of it is on disk."""
    if command.name == "finetune":
        left = pipelines.left_by(config) if config is not None else None
        if left is None:
            return ""
        run, unfinished = left
        return f"continue with: tlkit finetune --resume {run}" if unfinished else f"{run} is as it was."
    stored = (cache_dir()[0] / "features").glob("*/*.idx")
    new = any(path.stat().st_mtime >= _STARTED for path in stored if path.exists())
    return "the same command continues from there." if new else ""


for _command in COMMANDS:
    app.command(_command.name, cls=SectionedCommand)(typer_function(_command, act))


def program() -> None:
    """The entry point of the command line, in a process of its own."""
    with ended_at_once():
        main()


def main() -> None:
    """Run the command line."""
    claim_process()
    app()


def _nothing(*left: Any) -> None:
    """Suppress a repeated report."""


def _at_once() -> None:
    """Exit at once: HDF5 may crash when it closes files it could not write."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


# -- Progress on a terminal: messages on stderr, and below them one bar for the whole command -------------------------


def listener(*, quiet: bool, verbose: bool) -> PlainStory:
    """The listener for stderr: a progress bar on a terminal, plain lines elsewhere."""
    verbosity = 0 if quiet else 2 if verbose else 1
    return TerminalStory(verbosity) if verbosity and sys.stderr.isatty() else SteadyStory(verbosity)


class TerminalStory(PlainStory):
    """Plain messages, and a transient bar over all phases of the command."""

    def __init__(self, verbosity: int = 1) -> None:
        super().__init__(verbosity)
        self._bar: Any = None

    def say(self, text: str) -> None:
        """Print above the bar."""
        if self._bar and self.verbosity >= 1:
            with contextlib.suppress(OSError):  # the terminal may be closed
                self._bar.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            super().say(text)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar:
            with contextlib.suppress(OSError):
                self._bar.stop()
            self._bar = None

    def _moved(self) -> None:
        """Start the bar once there is progress to show; it redraws itself four times a second."""
        if self._bar or not self.progress.begun:
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self._bar = Live(get_renderable=self._drawn, console=console, transient=True, refresh_per_second=4)
        self._bar.start()

    def _drawn(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        line = Text(self.progress.line, no_wrap=True, overflow="ellipsis")
        row.add_row(ProgressBar(1.0, self.progress.fraction or 0.0, width=24), line)
        return row
