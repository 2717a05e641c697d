"""Shared fixtures: a finished run that tests only read, and a small network that a cache keeps as ONNX."""

import shutil

import pytest

from tlkit.options.commands import FeaturesConfig, FinetuneConfig
from tlkit.pipelines import features
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


@pytest.fixture(scope="session")
def kept_network(colours, tiny_backbone, tmp_path_factory):
    """A cache that keeps `tiny_backbone` as ONNX, which a process of its own writes in a second, and nothing else."""
    cache = tmp_path_factory.mktemp("kept") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKIT_CACHE", str(cache))
        given = {"images": str(colours / "red"), "backbone": str(tiny_backbone)}
        features.run(FeaturesConfig(**given, out=str(cache.with_name("features.csv"))))
    assert [path.suffix for path in sorted((cache / "networks").iterdir())] == [".json", ".onnx"]
    for folder in set(cache.iterdir()) - {cache / "networks"}:
        shutil.rmtree(folder)
    return cache


@pytest.fixture
def empty_store(kept_network, empty_cache):
    """A feature store with nothing in it, in a cache that keeps `tiny_backbone`."""
    return shutil.copytree(kept_network, empty_cache)
