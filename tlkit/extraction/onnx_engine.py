"""Prediction without TensorFlow: the ONNX file that a run keeps beside its classifier, and the engine that runs it.

    RUN/model.keras          the classifier
       /answer/model.onnx    its graph, raw RGB 0..255 in, logits and features out
              /answer.json   the network it was made from, its checksum, its difference from Keras
              /head.onnx     for a classifier of clips, whose model.onnx gives the features of a frame: features to logits

The file is trusted only while it is unchanged (its sha256) and belongs to the network in `model.keras` (the checksums of
its members that hold the graph and the weights, which the archive itself contains). Class names, temperature, threshold
and familiarity are read from `model.keras`, so that they may change independently.
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
PART = 4  # images that a core computes at once, where the file does not say it
AT_ONCE = "images_at_once"  # its name in the metadata of a file
_NETWORK = ("config.json", "model.weights.h5")  # members of a `.keras` file that determine what it computes

Outputs = dict[str, np.ndarray]


def answer_folder(model: Path) -> Path:
    """The folder of the answering file of a classifier."""
    return model.with_name("answer")


def network_key(model: Path) -> dict[str, int]:
    """`{member: CRC-32}` of what determines the outputs of a `.keras` file; only the archive's directory is read.

    Raises:
        TlkitError: it is not such a file.
    """
    try:
        with zipfile.ZipFile(model) as archive:
            return {name: archive.getinfo(name).CRC for name in _NETWORK}
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise TlkitError(f"{str(model)!r} is not a classifier: {error}.", "give a run folder.") from error


def why_not(model: Path) -> str | None:
    """Why the answering file of the classifier in `model` cannot be used; None where it can."""
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
    """Whether the answering file is used: not where another engine was asked for, nor where there is none, which is reported.

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
    """`weights` (sha256), `output` and `channels` of the frame features in the answering file of a classifier of clips."""
    return read_json(answer_folder(model) / "answer.json")["frames"]


def open_answer(model: Path) -> Engine:
    """The engine of a classifier's answering file: images -> logits, and features where the classifier has a familiarity.

    For a classifier of clips: frames -> features.

    Args:
        model: the `.keras` file, for which `why_not` gives None.
    """
    return _answering(answer_folder(model) / "model.onnx", usable_cores())


def _answering(file: Path | bytes, cores: int) -> Engine:
    """The same from an ONNX file, or the bytes of one; batches are divided for so many cores."""
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
    """The engine of an ONNX file of a network of features, or of the bytes of one; batches are divided for so many cores."""
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

    These are images (n, H, W, 3), RGB 0..255; for clips (n, T, H, W, 3) and a mask (n, T).
    """
    begin = open_parts(path, alone=True, cores=cores)
    return lambda *inputs: begin(*inputs)()


def open_parts(
    path: Path | bytes, *, alone: bool = False, cores: int | None = None
) -> Callable[..., Callable[[], Outputs]]:
    """The same without waiting: the inputs -> a function that waits for the outputs by name.

    A single image is computed by all cores. Of several, each core computes some from beginning to end, few at a time: threads
    that wait for one another at every layer take longer, most of all where others use the cores too, and few need less memory.
    Each of the two ways has its own session, and so its own copy of the weights, opened on first use.

    Args:
        path: the file, or its bytes.
        alone: open the session for single images now and use it for all of them; otherwise a single image that follows
            many, the last of a list, is computed like them.
        cores: number for which batches are divided, by default that of this process: the last digits may depend on how many
            images are computed at once, and a worker of another process must give the same as the requesting process.
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
    """A session of ONNX Runtime for a file, or the bytes of one, with so many threads, which sleep while they wait."""
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
    """The content of `answer.json` for an ONNX file made from a classifier.

    Args:
        model: the `.keras` file.
        file: the ONNX file.
        difference: the largest of its logits from those of Keras, in units of the tolerance.
        versions: of the packages that wrote it.
        frames: for a classifier of clips, see `frames_of`.
    """
    return {
        **({} if frames is None else {"frames": {**frames, "head_sha256": sha256_file(file.with_name(HEAD))}}),
        "format": FORMAT,
        "network": network_key(model),
        "sha256": sha256_file(file),
        "difference": difference,
        "versions": versions,
    }
