"""The story: one file per command, one `run(config) -> result`, read top to bottom."""

import importlib
from types import ModuleType

from tlkit.base.process import settle_backend
from tlkit.base.story import Story

# Commands that load no Keras by themselves,
COLD = ("cache", "backbones", "compare", "report", "sample", "split", "verify", "weights")
LATE = ("features", "predict", "serve")  # and those that load it only where there is something to compute, or meanwhile


def load(name: str, story: Story) -> ModuleType:
    """The pipeline of a command. Keras comes first where it is needed, so that its backend starts quietly."""
    if name not in COLD:
        if notice := settle_backend():
            story.say(notice)
        if name not in LATE:
            importlib.import_module("tlkit.backbones.runtime")
    return importlib.import_module(f"tlkit.pipelines.{name}")
