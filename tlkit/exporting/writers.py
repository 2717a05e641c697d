"""A classifier to the file of a format: what all of them share. TensorFlow traces the graph, converters translate it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import copy_weights
from tlkit.base.errors import TlkitError
from tlkit.classifier.model import Classifier, with_features
from tlkit.exporting.formats import module_of
from tlkit.options.catalog import Format

SERVING = "serving_default"  # the signature of a SavedModel that takes images


def write(row: Format, classifier: Classifier, path: Path, calibration: np.ndarray | None) -> None:
    """Write a classifier in a format.

    Args:
        row: the format.
        classifier: what to write.
        path: of the model, as the format's row names it.
        calibration: uint8 (n, H, W, 3), training images for a quantised format.

    Raises:
        TlkitError: Keras runs on another backend than TensorFlow, or the converter gives up; with its own words.
    """
    if row.writing and keras.backend.backend() != "tensorflow":
        raise TlkitError(
            f"--format {row.name} is made by TensorFlow, and Keras computes with {keras.backend.backend()} here.",
            "KERAS_BACKEND=tensorflow tlkit export ...; the run itself may have been trained with any backend.",
        )
    try:
        with _quiet():
            module_of(row).write(row, classifier, path, calibration)
    except TlkitError:
        raise
    except Exception as error:  # converters raise whatever they stumble over
        raise TlkitError(
            f"this network cannot be written as {row.name}: {type(error).__name__}: {_first_line(error)}",
            "another format may do; `tlkit export RUN --format keras` always does. TLKIT_DEBUG=1 shows all.",
        ) from error


def carries_features(row: Format, classifier: Classifier) -> bool:
    """Whether a format's graph gives the features too, for unfamiliarity; in 8 bits they are too coarse."""
    return classifier.familiarity is not None and row.exact


def has_encoded(row: Format, classifier: Classifier) -> bool:
    """Whether it has a signature for the bytes of files: TensorFlow reads samples as bytes, so not where levels are stated."""
    return row.encoded and classifier.facts.contract.levels is None


def _forward(row: Format, classifier: Classifier) -> Callable[[Any], dict[str, Any]]:
    """What is traced: images float32 (B, H, W, 3) -> logits (B, K), and features (B, C) where the format carries them."""
    import tensorflow as tf

    features = carries_features(row, classifier)
    model = translatable(with_features(classifier) if features else classifier.model)

    def forward(images: Any) -> dict[str, Any]:
        outputs = model(images, training=False)
        given = dict(zip(("logits", "features"), outputs, strict=True)) if features else {"logits": outputs}
        return {output: tf.identity(tf.cast(value, tf.float32), name=output) for output, value in given.items()}

    return forward


def _images(classifier: Classifier, batch: int | None = None) -> Any:
    """What goes in."""
    import tensorflow as tf

    contract = classifier.facts.contract
    return tf.TensorSpec((batch, contract.height, contract.width, 3), tf.float32, name="images")


def traced_graph(row: Format, classifier: Classifier, batch: int | None = None) -> Any:
    """A function of TensorFlow's; whoever calls it inside of another shares its graph."""
    import tensorflow as tf

    return tf.function(_forward(row, classifier), input_signature=[_images(classifier, batch)], autograph=False)


def archive_of(classifier: Classifier, traced: Any) -> Any:
    """A SavedModel to be, with the signature that takes images."""
    archive = keras.export.ExportArchive()
    archive.track(classifier.model)
    archive.add_endpoint(SERVING, lambda images: traced(images), input_signature=list(traced.input_signature))
    return archive


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


# -- A network in operations that other runtimes have: the same numbers, other layers where TensorFlow's are its own ---


def translatable(model: keras.Model) -> keras.Model:
    """The same network, written so that every format can hold it; as it is given where that is so already.

    Two layers of ConvNeXt, and whatever else has them, are written anew. GELU (Hendrycks & Gimpel 2016), which TensorFlow
    computes by `erfc`, with the error function: equal to 1e-7. A convolution with a group for each channel, which Keras
    has XLA compile, as the depthwise convolution that it is.

    Args:
        model: flat, as `compose` makes it.
    """
    if not any(_is_exact_gelu(layer) or _is_depthwise(layer) for layer in model.layers):
        return model
    copy = keras.models.clone_model(model, clone_function=_written)
    for layer in filter(lambda layer: layer.weights, model.layers):  # the copy's input has another name
        target = copy.get_layer(layer.name)
        if _is_depthwise(layer):
            kernel, *bias = layer.weights
            target.weights[0].assign(keras.ops.reshape(kernel.value, target.weights[0].shape))
            for old, new in zip(bias, target.weights[1:], strict=True):
                new.assign(old.value)
        else:
            copy_weights(layer, target)
    return copy


def _written(layer: keras.Layer) -> keras.Layer:
    copy = _depthwise(layer) if _is_depthwise(layer) else type(layer).from_config(layer.get_config())
    if _is_exact_gelu(layer):
        copy.activation = _gelu
    return copy


def _is_exact_gelu(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    approximate = getattr(activation, "keywords", {}).get("approximate", False)
    return getattr(activation, "func", activation) is keras.activations.gelu and not approximate


def _gelu(values: Any) -> Any:
    return 0.5 * values * (1.0 + keras.ops.erf(values * 0.7071067811865476))


def _is_depthwise(layer: keras.Layer) -> bool:
    """Whether each filter of a convolution sees one channel; its kernel is (h, w, 1, C * m), in the order of the channels."""
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups > 1
        and layer.kernel.shape[2] == 1
        and layer.strides[0] == layer.strides[1]
    )


def _depthwise(layer: keras.layers.Conv2D) -> keras.layers.DepthwiseConv2D:
    config = layer.get_config()
    shared = ("name", "kernel_size", "strides", "padding", "dilation_rate", "data_format", "activation", "use_bias")
    multiplier = layer.filters // layer.groups
    return keras.layers.DepthwiseConv2D(**{name: config[name] for name in shared}, depth_multiplier=multiplier)
