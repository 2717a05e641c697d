"""What tests of several packages share: a cache of their own, a small backbone, a small easy dataset; and their pace."""

import atexit
import functools
import gc
import os
import shutil
import sys
import tempfile
import threading
import typing
from pathlib import Path

# Before anything imports tlkit: no test may read or fill the user's own cache.
os.environ["TLKIT_CACHE"] = tempfile.mkdtemp(prefix="tlkit-tests-")
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of BLAS would wait for cores that other tests use, and burn them
    os.environ |= dict.fromkeys({"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} - os.environ.keys(), "1")

import numpy as np
import pytest
from PIL import Image

atexit.register(shutil.rmtree, os.environ["TLKIT_CACHE"], ignore_errors=True)

# No test switches the machine off, so nothing has to reach its disk: flushing takes as long as a tenth of the tests.
os.fsync = lambda descriptor: None
# Graphs of TensorFlow are many objects that live on; looking through all of them for garbage as often as Python does by
# itself takes another tenth.
gc.set_threshold(50_000, 20, 100)
# TensorFlow asks of everything whether it is a tensor of another library, by a protocol whose attributes Python collects
# anew each time, a fiftieth of building a network; from 3.12 on it keeps them by itself.
if sys.version_info < (3, 12):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)

CLASSES = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}

# With several processes each file of tests goes to one of them; the longest go first, so that none is left for the end.
LONGEST = (
    "contracts/test_backbones.py",
    "pipelines/test_finetune.py",
    "characterisation/test_characterisation.py",
    "explanation/test_evidence.py",
    "test_sklearn.py",
    "backbones/test_hub.py",
    "backbones/test_transformers.py",
    "extraction/test_onnx_graph.py",
    "extraction/test_on_ray.py",
    "extraction/test_kept.py",
    "training/test_stages.py",
    "training/test_fit.py",
    "pipelines/test_without_tensorflow.py",
    "pipelines/test_clips.py",
    "pipelines/test_shards.py",
    "pipelines/test_numbers.py",
    "pipelines/test_kill.py",
    "classifier/test_time_heads.py",
    "backbones/test_weights.py",
    "training/test_traced.py",
    "backbones/test_windows.py",
    "contracts/test_install.py",
    "contracts/test_onnx.py",
    "pipelines/test_grades.py",
    "contracts/test_heads.py",
    "pipelines/test_features.py",
    "training/test_devices.py",
    "backbones/test_blocks.py",
    "pipelines/test_export.py",
    "python/test_notebook.py",
    "extraction/test_reduce.py",
    "evaluation/test_metrics.py",
    "training/test_steps.py",
    "pipelines/test_crossing.py",
    "pipelines/test_damage.py",
)


def pytest_collection_finish(session):
    """What is imported by now stays: no search for garbage looks at it again.

    Keras 3.15 finds out anew for each layer that it saves or loads which attributes are no state, as it looks for what it
    has found under another name than it keeps it: a tenth of a short run.
    """
    if saving := sys.modules.get("keras.src.saving.saving_lib"):
        saving.get_attr_skipset = functools.cache(saving.get_attr_skipset)
    if runtimes := sys.modules.get("tlkit.exporting.runtimes"):
        runtimes.RUNS = 5  # no test asks how steady the latency of an artifact is
    if "tensorflow" in sys.modules:
        without_names_for_debugging()
    gc.collect()
    gc.freeze()


def without_names_for_debugging():
    """TensorFlow 2.21 keeps nothing any more that it would only put into messages of its own errors.

    That is where in Python each operation of a graph was made, found by going through the hundred calls that a test stands
    on; and the name of a variable, by which it prepares anew what makes variables: 0.4 of the 0.7 ms that one takes.
    """
    parts = ("util.tf_stack", "ops.gen_resource_variable_ops", "eager.context")
    stacks, variables, context = (sys.modules[f"tensorflow.python.{part}"] for part in parts)
    here, made = stacks.extract_stack(), variables.var_handle_op
    stacks.extract_stack = lambda stacklevel=1: here
    variables.var_handle_op = lambda *, debug_name, **given: made(
        debug_name="" if context.executing_eagerly() else debug_name, **given
    )


def pytest_collection_modifyitems(items):
    """Files by length, each file's tests as they stand in it (`--no-loadscope-reorder` keeps that order)."""
    places = {str(Path(__file__).parent / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """36 images, 40x32 pixels, in three class folders that differ in colour."""
    root = tmp_path_factory.mktemp("data") / "colours"
    random = np.random.default_rng(0)
    for name, colour in CLASSES.items():
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.normal(colour, 40, (32, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """A user's .keras file, 32 pixels: three blocks with BatchNorm, random weights, a grid of 4x4x16."""
    import keras

    keras.utils.set_random_seed(1)
    tensor = images = keras.Input((32, 32, 3))
    tensor = keras.layers.Rescaling(1 / 255)(tensor)
    for number, width in enumerate((8, 12, 16), start=1):
        tensor = keras.layers.Conv2D(width, 3, strides=2, padding="same", name=f"block{number}_conv")(tensor)
        tensor = keras.layers.BatchNormalization(name=f"block{number}_bn")(tensor)
        tensor = keras.layers.ReLU(name=f"block{number}_relu")(tensor)
    path = tmp_path_factory.mktemp("backbone") / "tiny.keras"
    keras.Model(images, tensor).save(path)
    return path


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A feature store with nothing in it."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shared_file():
    """A path below the folder of shared test material; where it is absent, the test is skipped."""
    root = Path(os.environ.get("TLKIT_SHARED", Path(__file__).parents[2] / "shared"))

    def find(name):
        if not (root / name).exists():
            pytest.skip(f"no {name} under {root}; TLKIT_SHARED names the folder that holds it")
        return root / name

    return find


@pytest.fixture
def server():
    """A server on this machine that misbehaves as asked; see tests/serving.py."""
    from tests.misbehaving import Misbehaving

    with Misbehaving() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()
