"""The story: one file per command, one `run(config) -> result`, read top to bottom."""

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType

from tlkit.base.errors import TlkitError
from tlkit.base.process import settle_backend
from tlkit.base.story import Story

# Commands that load no Keras by themselves; predict and serve do where a run has no answering file,
COLD = ("cache", "backbones", "compare", "predict", "report", "sample", "serve", "split", "verify", "weights")
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
