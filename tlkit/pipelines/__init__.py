"""The story: one file per command, one `run(config) -> result`, read top to bottom."""

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import PurePath
from types import ModuleType
from typing import Any, get_type_hints

from tlkit.base.download import offline_if
from tlkit.base.errors import TlkitError
from tlkit.base.process import settle_backend
from tlkit.base.story import PlainStory, Story
from tlkit.options.option import Options, resolve

# Commands that load no Keras by themselves; predict and serve do where a run has no answering file,
COLD = ("cache", "backbones", "compare", "predict", "sample", "serve", "split", "verify", "weights")
LATE = ("features",)  # and those that load it only where there is something to compute


def load(name: str, story: Story) -> ModuleType:
    """The pipeline of a command. Keras comes first where it is needed, so that its backend starts quietly."""
    if name not in COLD:
        if importlib.util.find_spec("keras") is None:
            raise ModuleNotFoundError("No module named 'keras'", name="keras")
        if notice := settle_backend():
            story.say(notice)
        if name not in LATE:
            importlib.import_module("tlkit.backbones.runtime")
    return importlib.import_module(f"tlkit.pipelines.{name}")


@contextlib.contextmanager
def refusing_what_lacks(name: str) -> Iterator[None]:
    """Around a command: a package that is not installed is refused in one sentence.

    An installation that only answers (docs/docker.md) has what predict, serve and verify import, and nothing else.

    Args:
        name: of the command.

    Raises:
        TlkitError: naming the package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "tlkit").partition(".")[0]
        if package == "tlkit":  # a mistake of ours
            raise
        raise TlkitError(
            f"tlkit {name} needs the package {package!r}, which is not installed here.",
            "install the whole of tlkit (pip install tlkit, or the image without --target answer); "
            "predict, serve and verify of finished runs do without Keras.",
        ) from error


def function(name: str) -> Callable[..., dict[str, Any]]:
    """The Python face of a command: its arguments by position, its flags by keyword.

    The function takes two keywords more: `story`, who is told how it goes (lines on stderr unless given), and `offline`,
    which keeps it off the network.
    """

    def command(*arguments: Any, story: Story | None = None, offline: bool = False, **options: Any) -> dict[str, Any]:
        listener = story or PlainStory()
        with refusing_what_lacks(name):
            pipeline = load(name, listener)
        kind: type[Options] = get_type_hints(pipeline.run)["config"]
        positional = [spec.name for spec in fields(kind) if spec.metadata.get("argument")]
        if len(arguments) > len(positional):
            raise TypeError(f"tlkit.{name} takes {', '.join(positional) or 'no arguments'} by position")
        given = dict(zip(positional, arguments, strict=False)) | options
        with offline_if(offline), refusing_what_lacks(name):
            return pipeline.run(resolve(kind, {key: _plain(value) for key, value in given.items()}), listener)

    command.__name__ = name
    command.__doc__ = f"`tlkit {name}` from Python; see `tlkit {name} --help`."
    return command


def _plain(value: Any) -> Any:
    """Paths as text, so that options stay JSON-able."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return str(value) if isinstance(value, PurePath) else value
