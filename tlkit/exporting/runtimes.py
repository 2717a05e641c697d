"""Artifacts run in the runtime they are for; each is imported only when it is asked to run."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.process import settle_backend
from tlkit.exporting.formats import FORMATS, Format, runner, version_of
from tlkit.extraction.onnx_engine import open_session

Outputs = dict[str, np.ndarray]  # logits (n, K), and features (n, C) where the artifact gives them
Call = Callable[[np.ndarray], Outputs]
BATCH = 32
WARM_UP, RUNS, SECONDS = 3, 50, 2.0  # of the latency: at most so many runs, in at most about so long


class Runtime:
    """An artifact ready to run, on the processor.

    Args:
        row: its format.
        folder: of the artifact.

    Raises:
        TlkitError: no runtime for it is installed, or the runtime cannot read it; with its own words.
    """

    def __init__(self, row: Format, folder: Path) -> None:
        module = runner(row)
        if module is None:
            raise TlkitError(f"{row.name} needs {row.running[0]}: not installed.", f"pip install {row.package}.")
        self.row, self.name = row, version_of(module)
        try:
            with _quiet():
                self.call: Call = _OPENERS[row.name](folder / row.model)
        except TlkitError:
            raise
        except Exception as error:  # runtimes raise whatever the file makes them stumble over
            raise TlkitError(
                f"{self.name} cannot load {folder / row.model}: {str(error).strip()[:300]}",
                "it may need another version of the runtime; contract.json names the one it was exported with.",
            ) from error

    def __call__(self, images: np.ndarray) -> Outputs:
        """Run uint8 or float32 images (n, H, W, 3), RGB 0..255, in batches of what the format takes."""
        step = self.row.batch or BATCH
        parts = [self.call(images[i : i + step].astype(np.float32)) for i in range(0, len(images), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def latency(self, image: np.ndarray) -> float:
        """Milliseconds for one image (H, W, 3), decoded already: the median of up to 50 runs."""
        one = image[None].astype(np.float32)
        for _ in range(WARM_UP):
            self.call(one)
        seconds: list[float] = []
        while len(seconds) < RUNS and sum(seconds) < SECONDS:
            started = time.perf_counter()
            self.call(one)
            seconds.append(time.perf_counter() - started)
        return 1000 * median(seconds)


def _open_keras(path: Path) -> Call:
    settle_backend()
    import keras

    with keras.device("cpu"):
        model = keras.models.load_model(path, compile=False)
        compiled = keras.Model(model.input, model.output)
        compiled.compile(jit_compile=False)

    def call(images: np.ndarray) -> Outputs:
        with keras.device("cpu"):
            return {"logits": np.asarray(compiled.predict_on_batch(images))}

    return call


def _open_savedmodel(path: Path) -> Call:
    import tensorflow as tf

    with tf.device("/CPU:0"):
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def call(images: np.ndarray) -> Outputs:
        with tf.device("/CPU:0"):
            return {name: value.numpy() for name, value in signature(images=tf.constant(images)).items()}

    return call


def open_encoded(path: Path) -> Callable[[list[bytes]], np.ndarray]:
    """The second signature of a SavedModel: the bytes of image files -> logits (n, K)."""
    import tensorflow as tf

    with _quiet(), tf.device("/CPU:0"):
        signature = tf.saved_model.load(str(path)).signatures["encoded"]

    def call(contents: list[bytes]) -> np.ndarray:
        with tf.device("/CPU:0"):
            return signature(images_bytes=tf.constant(contents))["logits"].numpy()

    return call


def as_png(image: np.ndarray) -> bytes:
    """An image uint8 (H, W, 3) as the bytes of a PNG file, which keeps every pixel."""
    import tensorflow as tf

    return tf.io.encode_png(image).numpy()


def _open_litert(path: Path) -> Call:
    if runner(FORMATS["litert"]) == "ai_edge_litert":
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tensorflow import lite

        Interpreter = lite.Interpreter  # noqa: N806 - the name of a class
    signature = Interpreter(model_path=str(path)).get_signature_runner()
    return lambda images: {name: np.array(value) for name, value in signature(images=images).items()}


def _open_openvino(path: Path) -> Call:
    import openvino

    # The logits of float32; a processor with bfloat16 would compute in that unasked.
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [min(output.get_names(), key=len) for output in model.outputs]
    return lambda images: {name: np.array(model([images])[i]) for i, name in enumerate(names)}


_OPENERS: dict[str, Callable[[Path], Call]] = {
    "keras": _open_keras,
    "savedmodel": _open_savedmodel,
    "onnx": open_session,
    "litert": _open_litert,
    "litert-int8": _open_litert,
    "openvino": _open_openvino,
}


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Runtimes warn about plans of their makers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
