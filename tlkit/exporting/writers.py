"""A classifier to the file of each format. TensorFlow traces the graph, the converters translate what it traced."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import copy_weights
from tlkit.base.errors import TlkitError
from tlkit.classifier.model import Classifier, save, with_features
from tlkit.exporting.encoded import decoded

OPSET = 17  # ONNX; of 2022, everything that runs ONNX today reads it
SERVING, ENCODED = "serving_default", "encoded"  # the signatures of a SavedModel


def write(name: str, classifier: Classifier, path: Path, calibration: np.ndarray | None) -> None:
    """Write a classifier in a format.

    Args:
        name: of the format.
        classifier: what to write.
        path: of the model, as the format's row names it.
        calibration: uint8 (n, H, W, 3), training images for a quantised format.

    Raises:
        TlkitError: Keras runs on another backend than TensorFlow, or the converter gives up; with its own words.
    """
    if name == "keras":
        save(classifier, path)
        return
    if keras.backend.backend() != "tensorflow":
        raise TlkitError(
            f"--format {name} is made by TensorFlow, and Keras computes with {keras.backend.backend()} here.",
            "KERAS_BACKEND=tensorflow tlkit export ...; the run itself may have been trained with any backend.",
        )
    try:
        with _quiet():
            if name == "litert-int8":
                _write_litert(classifier, path, calibration)
            else:
                _WRITERS[name](classifier, path)
    except TlkitError:
        raise
    except Exception as error:  # converters raise whatever they stumble over
        raise TlkitError(
            f"this network cannot be written as {name}: {type(error).__name__}: {_first_line(error)}",
            "another format may do; `tlkit export RUN --format keras` always does. TLKIT_DEBUG=1 shows all.",
        ) from error


def carries_features(name: str, classifier: Classifier) -> bool:
    """Whether a format's graph gives the features too, for unfamiliarity; in 8 bits they are too coarse."""
    return classifier.familiarity is not None and name != "litert-int8"


def has_encoded(name: str, classifier: Classifier) -> bool:
    """Whether it has a signature for the bytes of files: TensorFlow reads samples as bytes, so not where levels are stated."""
    return name == "savedmodel" and classifier.facts.contract.levels is None


def _forward(name: str, classifier: Classifier) -> Callable[[Any], dict[str, Any]]:
    """What is traced: images float32 (B, H, W, 3) -> logits (B, K), and features (B, C) where the format carries them."""
    import tensorflow as tf

    features = carries_features(name, classifier)
    model = with_erf(with_features(classifier) if features else classifier.model)

    def forward(images: Any) -> dict[str, Any]:
        outputs = model(images, training=False)
        given = dict(zip(("logits", "features"), outputs, strict=True)) if features else {"logits": outputs}
        return {output: tf.identity(tf.cast(value, tf.float32), name=output) for output, value in given.items()}

    return forward


def with_erf(model: keras.Model) -> keras.Model:
    """The same network, GELU (Hendrycks & Gimpel 2016) written with the error function where it is written with `erfc`.

    TensorFlow computes the exact GELU by `Erfc`, which ONNX lacks; this form is equal to 1e-7. A network without GELU is
    given back as it is.
    """
    if not any(_is_exact_gelu(layer) for layer in model.layers):
        return model

    def copied(layer: keras.Layer) -> keras.Layer:
        copy = type(layer).from_config(layer.get_config())
        if _is_exact_gelu(layer):
            copy.activation = _gelu
        return copy

    copy = keras.models.clone_model(model, clone_function=copied)
    copy_weights(model, copy)
    return copy


def _is_exact_gelu(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    approximate = getattr(activation, "keywords", {}).get("approximate", False)
    return getattr(activation, "func", activation) is keras.activations.gelu and not approximate


def _gelu(values: Any) -> Any:
    return 0.5 * values * (1.0 + keras.ops.erf(values * 0.7071067811865476))


def _images(classifier: Classifier, batch: int | None = None) -> Any:
    """What goes in."""
    import tensorflow as tf

    contract = classifier.facts.contract
    return tf.TensorSpec((batch, contract.height, contract.width, 3), tf.float32, name="images")


def _traced(name: str, classifier: Classifier, batch: int | None = None) -> Any:
    """A function of TensorFlow's; whoever calls it inside of another shares its graph."""
    import tensorflow as tf

    return tf.function(_forward(name, classifier), input_signature=[_images(classifier, batch)], autograph=False)


def _archive(classifier: Classifier, traced: Any) -> Any:
    """A SavedModel to be, with the signature that takes images."""
    archive = keras.export.ExportArchive()
    archive.track(classifier.model)
    archive.add_endpoint(SERVING, lambda images: traced(images), input_signature=list(traced.input_signature))
    return archive


def _write_savedmodel(classifier: Classifier, path: Path) -> None:
    """With a second signature, for the bytes of image files, where there can be one."""
    import tensorflow as tf

    traced = _traced("savedmodel", classifier)

    def from_bytes(images_bytes: Any) -> dict[str, Any]:
        return traced(decoded(classifier.facts.contract, images_bytes))

    archive = _archive(classifier, traced)
    if has_encoded("savedmodel", classifier):
        contents = tf.TensorSpec((None,), tf.string, name="images_bytes")
        archive.add_endpoint(ENCODED, from_bytes, input_signature=[contents])
    archive.write_out(str(path), verbose=False)


def _write_litert(classifier: Classifier, path: Path, calibration: np.ndarray | None = None) -> None:
    """One image to a call; in 8 bits where there are images to find the ranges on, with float32 in and out."""
    import tensorflow as tf

    name = "litert" if calibration is None else "litert-int8"
    # Not `from_keras_model`: it knows Keras 3 (TensorFlow 2.21), but leaves the number of images open, and its signature
    # is not ours. Nor a concrete function, whose variables would be left out.
    with tempfile.TemporaryDirectory() as folder:
        _archive(classifier, _traced(name, classifier, batch=1)).write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SERVING])
        converter.experimental_enable_resource_variables = False  # constants
        path.write_bytes(converter.convert() if calibration is None else _quantised(converter, calibration))


def _quantised(converter: Any, calibration: np.ndarray) -> bytes:
    """In 8 bits, ranges found on images (Jacob et al. 2018); the dense layers and what they read stay in float32.

    A head gives channels that hardly vary large weights, beside which 8 bits flatten all others; it is small anyway.
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


def _write_onnx(classifier: Classifier, path: Path) -> None:
    import onnx
    import tf2onnx

    traced = _traced("onnx", classifier)
    model, _ = tf2onnx.convert.from_function(traced, input_signature=traced.input_signature, opset=OPSET)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _write_openvino(classifier: Classifier, path: Path) -> None:
    """Weights stay float32: OpenVINO would halve them unasked."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        _archive(classifier, _traced("openvino", classifier)).write_out(folder, verbose=False)
        model = openvino.convert_model(folder)
    openvino.save_model(model, str(path), compress_to_fp16=False)


_WRITERS: dict[str, Callable[[Classifier, Path], None]] = {
    "savedmodel": _write_savedmodel,
    "litert": _write_litert,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Converters print, log and warn about their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
