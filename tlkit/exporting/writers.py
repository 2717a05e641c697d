"""The classifier to export, and its conversion to a format: TensorFlow traces the graph, converters translate it."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import copy_weights
from tlkit.base.errors import TlkitError
from tlkit.base.machine import full_disk
from tlkit.base.process import native_stderr_silenced
from tlkit.classifier.model import Classifier, with_features
from tlkit.exporting.formats import batch_of, module_of
from tlkit.exporting.golden import Inputs
from tlkit.extraction.onnx_engine import Outputs
from tlkit.options.catalog import Format
from tlkit.tasks.task import Task

# -- the reference for artifacts: the classifier in Keras, on drawn and on real images -------------


@dataclass(frozen=True)
class CheckImages:
    """Images of the run on which decisions are compared.

    Args:
        split: where they are from.
        files: image files; for clips those of all existing frames, clip by clip.
        samples: n images or clips.
        labels: int32 (n,), indices of classes; or int8 (n, K), 1 where the image has the class, where it may have several.
        logits: float32 (n, K), of the classifier in Keras.
    """

    split: str
    files: Sequence[Path]
    samples: Inputs
    labels: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Subject:
    """A classifier and its outputs in Keras.

    Args:
        classifier: the classifier.
        sha256: hex, of its file.
        golden: drawn samples.
        expected: its outputs for them.
        check: images of the run; None where there are none.
        calibration: uint8 (n, H, W, 3), training images; None unless a format is quantised.
    """

    classifier: Classifier
    sha256: str
    golden: Inputs
    expected: Outputs
    check: CheckImages | None = None
    calibration: np.ndarray | None = None

    @property
    def task(self) -> Task:
        """What its logits mean."""
        return self.classifier.facts.task


FEW = 2


def in_keras(classifier: Classifier, samples: Inputs) -> Outputs:
    """Logits (n, K), and features (n, C) where the classifier has a familiarity.

    Args:
        classifier: in memory.
        samples: n images, or clips.
    """
    known = classifier.familiarity is not None
    names = ("logits", "features") if known else ("logits",)
    with keras.device("cpu"):  # a GPU would multiply in lower precision
        source = with_features(classifier) if known else classifier.model
        model = keras.Model(source.input, source.outputs)
        model.compile(jit_compile=False)
        step = batch_of(samples.images)
        inputs = [samples.arrays(start, step) for start in range(0, len(samples), step)]
        # So few batches take less time than tracing the network.
        once = len(inputs) <= FEW and keras.backend.backend() == "tensorflow"
        call = partial(model, training=False) if once else model.predict_on_batch
        parts = [keras.tree.flatten(call(list(given) if len(given) > 1 else given[0])) for given in inputs]
    return {name: np.concatenate([np.asarray(part[i]) for part in parts]) for i, name in enumerate(names)}


# -- what the formats share ------------------------------------------------------------------------

SERVING = "serving_default"  # the signature of a SavedModel that takes images


def write(row: Format, classifier: Classifier, path: Path, calibration: np.ndarray | None) -> None:
    """Write a classifier in a format.

    Args:
        row: the format.
        classifier: what to write.
        path: of the model, as the format's row names it.
        calibration: uint8 (n, H, W, 3), training images for a quantised format.

    Raises:
        TlkitError: Keras runs on another backend than TensorFlow, or the converter fails; with its message.
    """
    if row.writing and keras.backend.backend() != "tensorflow":
        raise TlkitError(
            f"--format {row.name} is made by TensorFlow, but Keras computes with {keras.backend.backend()} here.",
            "KERAS_BACKEND=tensorflow tlkit export ...; the run itself may have been trained with any backend.",
        )
    said: list[str] = []
    try:
        with _quiet() as said:
            module_of(row).write(row, classifier, path, calibration)
    except TlkitError:
        raise
    except Exception as error:  # converters raise any kind of error
        if no_room := full_disk(error, path):
            raise no_room from error
        raise TlkitError(
            f"this network cannot be written as {row.name}: {reason(error, said)}",
            "another format may do; `tlkit export RUN --format keras` always does. TLKIT_DEBUG=1 shows all.",
        ) from error


def carries_features(row: Format, classifier: Classifier) -> bool:
    """Whether a format's graph also outputs the features, for unfamiliarity; in 8 bits they are too coarse."""
    return classifier.familiarity is not None and row.exact


def has_encoded(row: Format, classifier: Classifier) -> bool:
    """Whether it has a signature for the bytes of image files: not where levels are given, as TensorFlow reads samples as bytes."""
    return row.encoded and classifier.facts.contract.levels is None and classifier.facts.clip is None


def _forward(row: Format, classifier: Classifier) -> Callable[[Any], dict[str, Any]]:
    """The traced function: images float32 (B, H, W, 3), or clips and a mask -> logits (B, K), and features (B, C) if the format has them."""
    import tensorflow as tf

    features = carries_features(row, classifier)
    model = translatable(with_features(classifier) if features else classifier.model)

    def forward(*inputs: Any) -> dict[str, Any]:
        outputs = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
        given = dict(zip(("logits", "features"), outputs, strict=True)) if features else {"logits": outputs}
        return {output: tf.identity(tf.cast(value, tf.float32), name=output) for output, value in given.items()}

    return forward


def _inputs(classifier: Classifier, batch: int | None = None) -> list[Any]:
    """The inputs: images, and for clips a mask."""
    import tensorflow as tf

    contract, clip = classifier.facts.contract, classifier.facts.clip
    image = (contract.height, contract.width, 3)
    if clip is None:
        return [tf.TensorSpec((batch, *image), tf.float32, name="images")]
    return [
        tf.TensorSpec((batch, clip.frames, *image), tf.float32, name="images"),
        tf.TensorSpec((batch, clip.frames), tf.float32, name="mask"),
    ]


def traced_graph(row: Format, classifier: Classifier, batch: int | None = None) -> Any:
    """A TensorFlow function; a call inside another function shares its graph."""
    import tensorflow as tf

    return tf.function(_forward(row, classifier), input_signature=_inputs(classifier, batch), autograph=False)


def save_functions(path: Path, functions: Mapping[str, Any]) -> None:
    """Write a SavedModel with TensorFlow functions, each with its inputs declared, as its signatures.

    Of the network it holds only the variables that they read. Keras's `ExportArchive` would search every object of the
    network for tables, which takes as long as all the rest.
    """
    import tensorflow as tf

    signatures = {name: function.get_concrete_function() for name, function in functions.items()}
    holder = tf.Module()
    holder.held = list({id(one): one for made in signatures.values() for one in made.variables}.values())
    tf.saved_model.save(holder, str(path), signatures=signatures)


# -- Messages of converters --------------------------------------------------------------------

# How they name missing operations: LiteRT, OpenVINO, tf2onnx, ONNX.
_LACKS = (
    r"(?:Custom|TF Select) ops: ([\w, ]+)",
    r"for operations?(?:\(s\))?: ([\w:, ]+)",
    r"Unsupported ops: Counter\(\{(.*?)\}",
    r"No Op registered for (\w+)",
)


def reason(error: Exception, said: Sequence[str]) -> str:
    """Why a converter failed: the operations that its format lacks, else the end of its message, which has the cause.

    Args:
        error: what it raised; its first lines are about its internals.
        said: what it logged meanwhile.
    """
    text = "\n".join([*said, str(error)])
    found = [
        name for pattern in _LACKS for names in re.findall(pattern, text) for name in re.findall(r"[A-Za-z]\w*", names)
    ]
    if found:
        names = list(dict.fromkeys(found))
        return f"the format has no operation {', '.join(names)} ({type(error).__name__})."
    lines = [line.strip() for line in text.splitlines() if re.search(r"[A-Za-z]{3}", line) and "http" not in line]
    return f"{type(error).__name__}: {' '.join(lines[-3:])[-400:] or 'no reason given'}"


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """Suppress everything that converters print, log or warn of; yields what they logged as errors."""
    said: list[str] = []
    listening = logging.Handler(logging.ERROR)
    listening.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    talkers = [logging.getLogger(name) for name in ("", "tf2onnx", "tf2onnx.tfonnx", "tensorflow", "absl", "openvino")]
    before = [(talker, talker.handlers, talker.propagate) for talker in talkers]
    for talker in talkers:
        talker.handlers, talker.propagate = [listening], False
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            native_stderr_silenced(),
        ):
            warnings.simplefilter("ignore")
            yield said
    finally:
        for talker, handlers, propagate in before:
            talker.handlers, talker.propagate = handlers, propagate


# -- A network in operations that other runtimes have: the same outputs, with specific layers of TensorFlow replaced ---


def translatable(model: keras.Model) -> keras.Model:
    """The same network in a form that every format supports; unchanged where it already is.

    Three kinds of layers, as in ConvNeXt, are rewritten. GELU (Hendrycks & Gimpel 2016), which TensorFlow computes by
    `erfc`, uses the error function: equal to 1e-7. A convolution with a group for each channel, which Keras lets XLA
    compile, becomes a depthwise convolution. And Normalization uses constants, which otherwise become inputs of the graph.

    Args:
        model: flat, as from `compose`.
    """
    if not any(_is_exact_gelu(layer) or _is_depthwise(layer) or _normalizes(layer) for layer in model.layers):
        return model
    copy = keras.models.clone_model(model, clone_function=_written)
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):  # that of the copy has another name
            continue
        target = copy.get_layer(layer.name)
        if _is_depthwise(layer):
            kernel, *bias = layer.weights
            target.weights[0].assign(keras.ops.reshape(kernel.value, target.weights[0].shape))
            for old, new in zip(bias, target.weights[1:], strict=True):
                new.assign(old.value)
        else:
            copy_weights(layer, target)
        if _normalizes(layer):
            target.mean, target.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    return copy


def _written(layer: keras.Layer) -> keras.Layer:
    copy = _depthwise(layer) if _is_depthwise(layer) else type(layer).from_config(layer.get_config())
    if _is_exact_gelu(layer):
        copy.activation = _gelu
    return copy


def _normalizes(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Normalization)


def _is_exact_gelu(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    approximate = getattr(activation, "keywords", {}).get("approximate", False)
    return getattr(activation, "func", activation) is keras.activations.gelu and not approximate


def _gelu(values: Any) -> Any:
    return 0.5 * values * (1.0 + keras.ops.erf(values * 0.7071067811865476))


def _is_depthwise(layer: keras.Layer) -> bool:
    """Whether each filter of a convolution reads one channel; its kernel is (h, w, 1, C * m), in the order of the channels."""
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
