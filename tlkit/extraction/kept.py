"""Networks kept as ONNX files, so that features of a network, used before or new, need no TensorFlow.

    CACHE/networks/KEY.json     the note of a network, see `recall`
                  /KEY.onnx     the network: raw RGB 0..255 in, features out

The file is written by a separate process (`translate`), which checks it against Keras; it is trusted as long as it is unchanged
(its sha256 is in the note). KEY follows from weights, preprocessing, layer and size, and rows are stored with those of any
engine. The least recently used files are removed beyond `KEPT_BYTES` or a quarter of what the store may hold.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tlkit.base.files import sha256_file
from tlkit.base.machine import absent, accelerators_visible, budget, cache_dir, usable_cores
from tlkit.base.process import usual_backend
from tlkit.base.story import Story
from tlkit.extraction.engine import Engine
from tlkit.options.catalog import family_of
from tlkit.options.commands import FeaturesConfig

KEPT_BYTES = 2 * 2**30  # of networks: twenty of ResNet50's size
ENOUGH = 45.0  # seconds of computing from which TensorFlow, where it is faster, makes up for its start
SHARE = 0.25  # of what the store may hold, where that is less
PATIENCE = 600.0  # seconds that writing may take
# For small products in NumPy, threads that wait for one another take longer, most of all where others use the cores.
_ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TLKIT_OFFLINE": "1"}

# The entry on an ONNX file in a note: `sha256`, `bytes`, `difference`, `seconds` per image and its `gain`; or
# `obstacle`, why there is none.
About = Mapping[str, Any]


def networks_dir() -> Path:
    """The folder of the notes and files."""
    return cache_dir()[0] / "networks"


def why_not(config: FeaturesConfig) -> str:
    """Why the features asked for cannot be computed by an ONNX file, "" if they can."""
    if config.engine != "auto":
        return f"--engine {config.engine}"
    if config.precision == "bfloat16":
        return "--precision bfloat16"
    if config.weights == "none":
        return "random weights are made by the backend that computes"
    if family_of(config.backbone):
        return "a network of another library"
    if (backend := usual_backend()) != "tensorflow":
        return f"computing with {backend}"
    if accelerators_visible():
        return "there is a GPU"
    if not sys.executable:
        return "no Python to start beside this one"
    needed = absent(("onnx", "onnxruntime"))
    return f"{' and '.join(needed)} not installed" if needed else ""


_begun: dict[Path, subprocess.Popen[str]] = {}  # by the path of the note: the process that writes it


def begin(place: Path, config: FeaturesConfig, wish: Mapping[str, Any]) -> None:
    """Start writing the note at `place` and its ONNX file; `write` waits for them.

    Args:
        place: path of the note.
        config: the options.
        wish: the key of the note.
    """
    package = str(Path(__file__).parents[2])
    found = os.environ.get("PYTHONPATH")
    environment = os.environ | _ALONE | {"PYTHONPATH": os.pathsep.join(filter(None, (package, found)))}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", f"{__package__}.translate", str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env=environment,
    )
    _begun[place] = process
    with contextlib.suppress(OSError):  # it has ended already, which `write` reports
        process.stdin.write(json.dumps({"options": asdict(config), "wish": wish}))  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
    process.stdin = None


def write(place: Path, config: FeaturesConfig, wish: Mapping[str, Any], story: Story) -> str:
    """Write the note and its ONNX file, as in `begin`; returns why that is impossible, "" on success."""
    started = time.monotonic()
    try:
        if place not in _begun:
            begin(place, config, wish)
        importlib.import_module("onnxruntime")  # while the other process works
        process = _begun.pop(place)
        with process:
            try:
                said, _ = process.communicate(timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            obstacle = f"writing it ended with {process.returncode}"
        else:
            obstacle = json.loads(said.splitlines()[-1]).get("obstacle", "")
    except (OSError, ImportError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        # A C module that is just being loaded raises an error of its own instead.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        obstacle = f"writing it failed: {error}"
    if obstacle:
        story.say(f"loading TensorFlow, as there is no ONNX file of this network: {obstacle}")
    else:
        waited = time.monotonic() - started
        story.say(f"the network was written as ONNX, for now and later use; waited {waited:.1f} s for it")
        prune(place.with_suffix(".onnx"))
    return obstacle


def abandon(place: Path) -> None:
    """End the process that `begin` started, if nothing waited for it."""
    process = _begun.pop(place, None)
    if process is not None:
        with process:
            process.kill()


def open_kept(place: Path, about: About) -> Engine | None:
    """The engine of the ONNX file of a note; None where the file has changed.

    Args:
        place: path of the note.
        about: its entry in the note.
    """
    file = place.with_suffix(".onnx")
    try:
        if sha256_file(file) != about["sha256"]:
            return None
    except (OSError, KeyError):
        return None
    with contextlib.suppress(OSError):  # it may belong to another user and be read-only
        os.utime(file)
    from tlkit.extraction.onnx_engine import features_engine

    reason = f"the network as ONNX, within {about['difference']:.0e} of Keras; TensorFlow is not loaded"
    return features_engine(file, reason, usable_cores())


class KeptNetwork(NamedTuple):
    """A kept network.

    Args:
        file: its ONNX file.
        bytes: of it.
        used: when, in seconds since the epoch.
    """

    file: Path
    bytes: int
    used: float


def list_kept() -> list[KeptNetwork]:
    """Every ONNX file, the least recently used first."""
    found = []
    for file in networks_dir().glob("[!.]*.onnx"):
        try:
            status = file.stat()
        except FileNotFoundError:  # removed a moment ago
            continue
        found.append(KeptNetwork(file, status.st_size, status.st_mtime))
    return sorted(found, key=lambda kept: kept.used)


def most_bytes() -> int:
    """Bytes that may be kept."""
    return min(KEPT_BYTES, int(SHARE * budget(networks_dir(), 0)[0]))


def prune(newest: Path) -> None:
    """Remove the least recently used files beyond `most_bytes`; `newest`, which is about to be used, stays."""
    kept = list_kept()
    total, most = sum(each.bytes for each in kept), most_bytes()
    for each in kept:
        if total <= most:
            return
        if each.file != newest:
            each.file.unlink(missing_ok=True)
            total -= each.bytes


def clear(older_than: float | None = None) -> int:
    """Remove what is kept, or only what has not been used for so many days; returns how many bytes."""
    gone = [each for each in list_kept() if older_than is None or time.time() - each.used > older_than * 86_400]
    for each in gone:
        each.file.unlink(missing_ok=True)
    return sum(each.bytes for each in gone)
