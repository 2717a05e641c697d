"""The format `onnx`: written from Keras's layers, or translated from TensorFlow's graph by tf2onnx; run by ONNX Runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.extraction.onnx_engine import open_session
from tlkit.options.catalog import Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call

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
    """Checked before it is written.

    Layer by layer where `extraction.onnx_graph` knows them all, which takes a quarter to a half of the time; else by way of TensorFlow.
    """
    import onnx

    from tlkit.classifier.model import with_features
    from tlkit.exporting.writers import carries_features
    from tlkit.extraction.onnx_graph import Untranslatable, to_onnx

    features = carries_features(row, classifier)
    try:
        model = to_onnx(
            with_features(classifier) if features else classifier.model,
            ("logits", "features") if features else ("logits",),
        )
    except Untranslatable:
        model = _by_tensorflow(row, classifier)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _by_tensorflow(row: Format, classifier: "Classifier") -> Any:
    import tf2onnx

    from tlkit.exporting.writers import traced_graph
    from tlkit.extraction.onnx_graph import OPSET

    traced = traced_graph(row, classifier)
    return tf2onnx.convert.from_function(traced, input_signature=traced.input_signature, opset=OPSET)[0]


def open_model(path: Path) -> "Call":
    """What runs images, float32 (n, H, W, 3): logits, and features where the file gives them."""
    return open_session(path)
