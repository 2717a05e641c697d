"""The format `onnx`: written from Keras's layers, or translated from TensorFlow's graph by tf2onnx; run by ONNX Runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.extraction.onnx_engine import HEAD, open_session
from tlkit.options.catalog import Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call
    from tlkit.extraction.source import FeatureSource

IMPORTS = """import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or importing it writes a device ID and an event for its maker
import onnxruntime  # noqa: E402"""
RUN = """
session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]


def outputs_of(*inputs):
    return dict(zip(names, session.run(names, dict(zip(("images", "mask"), inputs)))))
"""


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """Write the file after checking it.

    Layer by layer where `extraction.onnx_graph` knows them all, which takes a quarter to a half of the time; otherwise, and
    for every head over time, by way of TensorFlow.
    """
    import onnx

    from tlkit.extraction.onnx_graph import Untranslatable

    try:
        by_layers = classifier.facts.clip is None
        model = _by_layers(row, classifier) if by_layers else _by_tensorflow(row, classifier)
    except Untranslatable:
        model = _by_tensorflow(row, classifier)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _by_layers(row: Format, classifier: "Classifier") -> Any:
    from tlkit.classifier.model import with_features
    from tlkit.exporting.writers import carries_features
    from tlkit.extraction.onnx_graph import to_onnx

    if carries_features(row, classifier):
        return to_onnx(with_features(classifier), ("logits", "features"))
    return to_onnx(classifier.model, ("logits",))


def _by_tensorflow(row: Format, classifier: "Classifier") -> Any:
    import tf2onnx

    from tlkit.exporting.writers import traced_graph
    from tlkit.extraction.onnx_graph import OPSET

    traced = traced_graph(row, classifier)
    return tf2onnx.convert.from_function(traced, input_signature=traced.input_signature, opset=OPSET)[0]


def write_for_clips(classifier: "Classifier", path: Path, source: "FeatureSource | None" = None) -> dict[str, Any]:
    """Write a classifier of clips as two files: frames to features in `path`, features to logits in `HEAD` beside it.

    Args:
        classifier: of clips.
        path: of the file of frames.
        source: of the features of its frames, where it is available.

    Returns:
        The identity of these features in the store: `weights`, `output` and `channels`.
    """
    import onnx

    from tlkit.classifier.model import over_time
    from tlkit.extraction.onnx_graph import Untranslatable, to_onnx
    from tlkit.extraction.source import FeatureSource

    source, head = source or FeatureSource.of_classifier(classifier), over_time(classifier)
    parts = ((source.built, "images", "features", path), (head, "features", "logits", path.with_name(HEAD)))
    for model, given, output, file in parts:
        try:
            made = to_onnx(model, (output,), given)
        except Untranslatable:
            made = _traced(model, given, output)
        onnx.checker.check_model(made)
        onnx.save(made, str(file))
    channels = int(source.built.output_shape[-1])
    return {"weights": source.weights_sha256, "output": source.outputs[0], "channels": channels}


def _traced(model: Any, given: str, output: str) -> Any:
    """A network with one input as ONNX, by way of TensorFlow."""
    import tensorflow as tf
    import tf2onnx

    from tlkit.extraction.onnx_graph import OPSET

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=given)]
    traced = tf.function(
        lambda values: {output: tf.identity(model(values, training=False), name=output)},
        input_signature=signature,
        autograph=False,
    )
    return tf2onnx.convert.from_function(traced, input_signature=signature, opset=OPSET)[0]


def open_model(path: Path) -> "Call":
    """A function of images, float32 (n, H, W, 3), or clips and a mask: logits, and features where the file has them."""
    return open_session(path)
