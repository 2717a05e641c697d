"""Answering without TensorFlow: the ONNX file that a run keeps beside its classifier, and the engine that runs it.

    RUN/model.keras          the classifier
       /answer/model.onnx    its graph, raw RGB 0..255 in, logits and features out
              /answer.json   of which network it was made, its sum, how far it was from Keras
              /head.onnx     of a classifier of clips, whose model.onnx gives the features of a frame: features to logits

The file is believed only while it is the one that was written (its sha256) and belongs to the network in `model.keras`
(the checksums of its members that hold the graph and the weights, which the archive itself carries). Class names,
temperature, threshold and familiarity are read from `model.keras`, so that they may change without it.
"""

import importlib.util
import math
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import read_json, sha256_file
from tlkit.base.machine import usable_cores
from tlkit.base.story import Story
from tlkit.extraction.engine import Engine
from tlkit.options.groups import EngineOptions

FORMAT = 1
HEAD = "head.onnx"
PART = 4  # images that a core computes at once, where the file does not say
AT_ONCE = "images_at_once"  # what a file calls it
_NETWORK = ("config.json", "model.weights.h5")  # members of a `.keras` file that decide what it computes

Outputs = dict[str, np.ndarray]


def answer_folder(model: Path) -> Path:
    """Where the answering file of a classifier lies."""
    return model.with_name("answer")


def network_key(model: Path) -> dict[str, int]:
    """`{member: CRC-32}` of what decides the numbers in a `.keras` file; only the archive's directory is read.

    Raises:
        TlkitError: it is no such file.
    """
    try:
        with zipfile.ZipFile(model) as archive:
            return {name: archive.getinfo(name).CRC for name in _NETWORK}
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise TlkitError(f"{str(model)!r} is not a classifier: {error}.", "give a run folder.") from error


def why_not(model: Path) -> str | None:
    """Why the classifier in `model` cannot be asked by way of its answering file; None where it can."""
    folder = answer_folder(model)
    if not (folder / "answer.json").is_file():
        return "it has no answering file"
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed"
    try:
        about = read_json(folder / "answer.json")
        known = about["format"] == FORMAT and about["network"] == network_key(model)
        whole = known and sha256_file(folder / "model.onnx") == about["sha256"]
        if whole and "frames" in about:
            whole = sha256_file(folder / HEAD) == about["frames"]["head_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return "its answering file is damaged"
    if not known:
        return "its answering file is of another network"
    return None if whole else "its answering file is damaged"


def answering(model: Path, config: EngineOptions, story: Story) -> bool:
    """Whether the answering file computes; where another engine was asked for it does not, nor where there is none, which is said.

    Raises:
        TlkitError: it was asked for, and there is none.
    """
    if config.engine not in ("auto", "onnx") or config.precision == "bfloat16":
        return False
    obstacle = why_not(model)
    if obstacle is None:
        return True
    if config.engine == "onnx":
        raise TlkitError(
            f"--engine onnx cannot compute {str(model)!r}: {obstacle}.",
            "use --engine auto; runs that `tlkit finetune` finishes with onnx, tf2onnx and onnxruntime installed have one.",
        )
    story.say(f"loading Keras to answer: {obstacle}")
    return False


def frames_of(model: Path) -> dict[str, Any]:
    """Of the answering file of a classifier of clips: `weights` (sha256), `output` and `channels` of the features of a frame."""
    return read_json(answer_folder(model) / "answer.json")["frames"]


def open_answer(model: Path) -> Engine:
    """The engine of a classifier's answering file: images -> logits, and features where the classifier knows its training.

    Of a classifier of clips: frames -> features.

    Args:
        model: the `.keras` file, for which `why_not` gives None.
    """
    return _answering(answer_folder(model) / "model.onnx", usable_cores())


def _answering(file: Path | bytes, cores: int) -> Engine:
    """The same of an ONNX file, or of the bytes of one; batches are cut for so many cores."""
    call = open_session(file, cores)

    def run(images: np.ndarray) -> tuple[np.ndarray, ...]:
        found = call(images)
        return tuple(found[name] for name in ("logits", "features") if name in found)

    return Engine(
        run,
        "onnx",
        "the file that the run keeps for answering; TensorFlow is not loaded",
        part=PART * cores,
        portable=lambda: partial(_answering, file if isinstance(file, bytes) else file.read_bytes(), cores),
    )


def features_engine(file: Path | bytes, reason: str, cores: int) -> Engine:
    """The engine of an ONNX file of a network of features, or of the bytes of one; batches are cut for so many cores."""
    begin = open_parts(file, cores=cores)

    def start(images: np.ndarray) -> Callable[[], tuple[np.ndarray, ...]]:
        wait = begin(images)
        return lambda: tuple(wait().values())

    return Engine(
        lambda images: start(images)(),
        "onnx",
        reason,
        start=start,
        portable=lambda: partial(
            features_engine, file if isinstance(file, bytes) else file.read_bytes(), reason, cores
        ),
    )


def open_session(path: Path | bytes, cores: int | None = None) -> Callable[..., Outputs]:
    """An ONNX file in ONNX Runtime on the processor: its inputs, of any type, in order -> its outputs by name.

    Those are images (n, H, W, 3), RGB 0..255; of clips (n, T, H, W, 3) and a mask (n, T).
    """
    begin = open_parts(path, alone=True, cores=cores)
    return lambda *inputs: begin(*inputs)()


def open_parts(
    path: Path | bytes, *, alone: bool = False, cores: int | None = None
) -> Callable[..., Callable[[], Outputs]]:
    """The same without waiting: the inputs -> a function that waits for the outputs by name.

    One image is computed by all cores. Of several, each core computes some from beginning to end, few at a time: threads that
    wait for one another at every layer take longer, most of all where others use the cores too, and few keep little memory.
    Each of the two ways has a session, and so a copy of the weights, of its own, opened when it is first needed.

    Args:
        path: the file, or its bytes.
        alone: open the one for single images now and use it for all of them; otherwise an image that comes after many, the
            last of a list, is computed as they were.
        cores: for which batches are cut, those of this process unless given: the last digits may depend on how many images are
            computed at once, and a worker of another process is to give those of the process that asks.
    """
    threads = usable_cores()
    sessions: dict[int, Any] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tlkit-onnx")

    def session(number: int) -> Any:
        if number not in sessions:
            sessions[number] = open_file(path, number)
        return sessions[number]

    def run(session: Any, names: list[str], batch: list[np.ndarray]) -> list[np.ndarray]:
        named = zip((given.name for given in session.get_inputs()), batch, strict=True)
        return session.run(names, {name: values.astype(np.float32, copy=False) for name, values in named})

    def begin(*inputs: np.ndarray) -> Callable[[], Outputs]:
        count = len(inputs[0])
        wide = count <= 1 and (alone or 1 not in sessions)
        chosen = session(threads if wide else 1)
        names = [output.name for output in chosen.get_outputs()]
        part = int(chosen.get_modelmeta().custom_metadata_map.get(AT_ONCE, PART))
        step = max(1, min(part, math.ceil(count / (cores or threads))))
        batches = [[values[start : start + step] for values in inputs] for start in range(0, max(1, count), step)]
        begun = [pool.submit(run, chosen, names, batch) for batch in batches]

        def fetch() -> Outputs:
            parts = [part.result() for part in begun]
            return {name: np.concatenate(found) for name, found in zip(names, zip(*parts, strict=True), strict=True)}

        return fetch

    if alone:
        session(threads)
    return begin


def open_file(path: Path | bytes, threads: int) -> Any:
    """A file, or the bytes of one, in ONNX Runtime, computed by so many threads that sleep while they wait."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(
        path if isinstance(path, bytes) else str(path), options, providers=["CPUExecutionProvider"]
    )


def describe_answer(
    model: Path, file: Path, difference: float, versions: dict[str, Any], frames: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What `answer.json` says of an ONNX file made from a classifier.

    Args:
        model: the `.keras` file.
        file: the ONNX file.
        difference: the greatest of its logits from those of Keras, in units of what is allowed.
        versions: of what wrote it.
        frames: of a classifier of clips, see `frames_of`.
    """
    return {
        **({} if frames is None else {"frames": {**frames, "head_sha256": sha256_file(file.with_name(HEAD))}}),
        "format": FORMAT,
        "network": network_key(model),
        "sha256": sha256_file(file),
        "difference": difference,
        "versions": versions,
    }
