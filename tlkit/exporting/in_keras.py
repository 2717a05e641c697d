"""The format `keras`: a `.keras` file that plain Keras loads."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlkit.base.process import settle_backend
from tlkit.options.catalog import Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call, Outputs

IMPORTS = "import keras"
RUN = """
model = keras.models.load_model(HERE / "model.keras", compile=False)


def outputs_of(*inputs):
    return {"logits": model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)}
"""

# Plain Keras gives only logits; the grid whose mean is the features, or the mean of a clip's frames, is a layer inside.
RUN_WITH_FEATURES = """
classifier = keras.models.load_model(HERE / "model.keras", compile=False)
if "mask" in CONTRACT:
    features = classifier.get_layer("head_time_mean").output
else:
    grid = classifier.get_layer(CONTRACT["grid_layer"]).output
    features = keras.layers.GlobalAveragePooling2D(dtype="float32")(grid)
model = keras.Model(classifier.input, {"logits": classifier.output, "features": features})


def outputs_of(*inputs):
    return model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
"""


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """Write the file as tlkit saves it."""
    from tlkit.classifier.model import save

    save(classifier, path)


def open_model(path: Path) -> "Call":
    """A function of images, float32 (n, H, W, 3), or clips and a mask: logits, and features where the file has them."""
    settle_backend()
    import keras

    with keras.device("cpu"):
        model = keras.models.load_model(path, compile=False)
        compiled = keras.Model(model.input, model.output)
        compiled.compile(jit_compile=False)

    def call(*inputs: np.ndarray) -> "Outputs":
        with keras.device("cpu"):
            return {"logits": np.asarray(compiled.predict_on_batch(list(inputs) if len(inputs) > 1 else inputs[0]))}

    return call
