"""The formats `litert` and `litert-int8`: one image per call, in float32 or in 8 bits."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.base.process import scratch
from tlkit.exporting.formats import runner
from tlkit.options.catalog import FORMATS, Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call

IMPORTS = "from ai_edge_litert.interpreter import Interpreter"
RUN = """
signature = Interpreter(model_path=str(HERE / "model.tflite")).get_signature_runner()


def outputs_of(*inputs):
    one_by_one = [signature(**{name: one[None] for name, one in zip(("images", "mask"), each)}) for each in zip(*inputs)]
    return {name: np.concatenate([outputs[name] for outputs in one_by_one]) for name in one_by_one[0]}
"""


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """Write the file, for the 8-bit format quantised as `finds_ranges` says; with float32 in and out."""
    import tensorflow as tf

    from tlkit.exporting.writers import SERVING, save_functions, traced_graph

    # Not `from_keras_model`, which does not know Keras 3, nor a concrete function, whose variables would be left out.
    with scratch() as folder:
        save_functions(folder, {SERVING: traced_graph(row, classifier, batch=1)})
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[SERVING])
        converter.experimental_enable_resource_variables = False  # constants
        if not row.exact and finds_ranges(classifier):
            if calibration is None:
                raise ValueError("ranges are found on images, and there are none")
            path.write_bytes(_quantised(converter, calibration))
            return
        if not row.exact:  # weights are quantised once, activations for each image by their own range
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path.write_bytes(converter.convert())


def finds_ranges(classifier: "Classifier") -> bool:
    """Whether a classifier in 8 bits has ranges that were found on images; else only weights are stored in 8 bits.

    Dense layers on tokens hold most weights of a vision transformer. With ranges they differ three times as much from
    float32 as without, and are no faster (benchmarks/results/transformers.md).
    """
    import keras

    dense = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.MultiHeadAttention)
    model = classifier.model
    on_tokens = (layer for layer in model.layers if isinstance(layer, dense) and len(layer.output.shape) > 2)
    return sum(layer.count_params() for layer in on_tokens) < model.count_params() / 2


def _quantised(converter: Any, calibration: np.ndarray) -> bytes:
    """Quantise to 8 bits with ranges found on images (Jacob et al. 2018); dense layers and their inputs stay in float32.

    A head gives large weights to channels that hardly vary, next to which 8 bits flatten all others; it is small anyway.
    """
    import tensorflow as tf

    def images() -> Iterator[list[np.ndarray]]:
        for image in calibration:
            yield [image[None].astype(np.float32)]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = images
    kept = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["FULLY_CONNECTED", "MEAN"])
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=images, debug_options=kept)
    return debugger.get_nondebug_quantized_model()


def open_model(path: Path) -> "Call":
    """A function of images, float32 (n, H, W, 3), or clips and a mask: logits, and features where the file has them."""
    if runner(FORMATS["litert"]) == "ai_edge_litert":
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tensorflow import lite

        Interpreter = lite.Interpreter  # noqa: N806 - the name of a class
    signature = Interpreter(model_path=str(path)).get_signature_runner()
    return lambda *inputs: {
        name: np.array(value)
        for name, value in signature(**dict(zip(("images", "mask"), inputs, strict=False))).items()
    }
