"""One finished run, made once, that tests read and never change."""

import pytest

from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines.finetune import run


@pytest.fixture(scope="session")
def options(colours, tiny_backbone):
    """Options of a run that takes a few seconds."""
    return {
        "images": str(colours),
        "backbone": str(tiny_backbone),
        "epochs": (2,),
        "views": 2,
        "val": 0.25,
        "test": 0.25,
        "validate": "split",
    }


@pytest.fixture(scope="session")
def finished(options, tmp_path_factory):
    """The run folder of all three stages, and what the pipeline returned."""
    out = tmp_path_factory.mktemp("runs") / "run"
    config = FinetuneConfig(**options, out=str(out), stages=("head", "top", "all"), blocks=1)
    return out, run(config)
