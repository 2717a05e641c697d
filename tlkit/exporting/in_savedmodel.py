"""The format `savedmodel`, with a second signature for the bytes of image files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.options.formats import Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call, Outputs

IMPORTS = "import tensorflow as tf"
RUN = """
model = tf.saved_model.load(str(HERE / "model"))
signature = model.signatures["serving_default"]


def outputs_of(images):
    return {name: value.numpy() for name, value in signature(images=tf.constant(images)).items()}
"""

ENCODED = "encoded"  # the second signature


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """Both signatures share one graph."""
    import tensorflow as tf

    from tlkit.exporting.encoded import decoded
    from tlkit.exporting.writers import archive_of, traced_graph

    traced = traced_graph(row, classifier)

    def from_bytes(images_bytes: Any) -> dict[str, Any]:
        return traced(decoded(classifier.facts.contract, images_bytes))

    archive = archive_of(classifier, traced)
    archive.add_endpoint(ENCODED, from_bytes, input_signature=[tf.TensorSpec((None,), tf.string, name="images_bytes")])
    archive.write_out(str(path), verbose=False)


def open_model(path: Path) -> "Call":
    """What runs images, float32 (n, H, W, 3): logits, and features where the file gives them."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def call(images: np.ndarray) -> "Outputs":
        with tf.device("/CPU:0"):
            return {name: value.numpy() for name, value in signature(images=tf.constant(images)).items()}

    return call


def open_encoded(path: Path) -> Callable[[list[bytes]], np.ndarray]:
    """The second signature of a SavedModel: the bytes of image files -> logits (n, K)."""
    import tensorflow as tf

    from tlkit.exporting.runtimes import quiet

    with quiet(), tf.device("/CPU:0"):
        signature = tf.saved_model.load(str(path)).signatures[ENCODED]

    def call(contents: list[bytes]) -> np.ndarray:
        with tf.device("/CPU:0"):
            return signature(images_bytes=tf.constant(contents))["logits"].numpy()

    return call


def as_png(image: np.ndarray) -> bytes:
    """An image uint8 (H, W, 3) as the bytes of a PNG file, which keeps every pixel."""
    import tensorflow as tf

    return tf.io.encode_png(image).numpy()
