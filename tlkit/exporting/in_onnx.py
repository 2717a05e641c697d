"""The format `onnx`: translated from TensorFlow's graph by tf2onnx, run by ONNX Runtime."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkit.extraction.onnx_engine import open_session
from tlkit.options.catalog import Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call

OPSET = 17  # of 2022, everything that runs ONNX today reads it
IMPORTS = """import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or importing it writes a device ID and an event for its maker
import onnxruntime  # noqa: E402"""
RUN = """
session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]


def outputs_of(images):
    return dict(zip(names, session.run(names, {"images": images})))
"""


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """Checked before it is written."""
    import onnx
    import tf2onnx

    from tlkit.exporting.writers import traced_graph

    traced = traced_graph(row, classifier)
    model, _ = tf2onnx.convert.from_function(traced, input_signature=traced.input_signature, opset=OPSET)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def open_model(path: Path) -> "Call":
    """What runs images, float32 (n, H, W, 3): logits, and features where the file gives them."""
    return open_session(path)
