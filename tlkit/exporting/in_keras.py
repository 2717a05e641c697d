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


def outputs_of(images):
    return {"logits": model.predict(images, verbose=0)}
"""

# Plain Keras gives logits alone; the grid that features are the mean of is a layer inside.
RUN_WITH_FEATURES = """
classifier = keras.models.load_model(HERE / "model.keras", compile=False)
grid = classifier.get_layer(CONTRACT["grid_layer"]).output
features = keras.layers.GlobalAveragePooling2D(dtype="float32")(grid)
model = keras.Model(classifier.input, {"logits": classifier.output, "features": features})


def outputs_of(images):
    return model.predict(images, verbose=0)
"""


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """As tlkit saves it."""
    from tlkit.classifier.model import save

    save(classifier, path)


def open_model(path: Path) -> "Call":
    """What runs images, float32 (n, H, W, 3): logits, and features where the file gives them."""
    settle_backend()
    import keras

    with keras.device("cpu"):
        model = keras.models.load_model(path, compile=False)
        compiled = keras.Model(model.input, model.output)
        compiled.compile(jit_compile=False)

    def call(images: np.ndarray) -> "Outputs":
        with keras.device("cpu"):
            return {"logits": np.asarray(compiled.predict_on_batch(images))}

    return call
