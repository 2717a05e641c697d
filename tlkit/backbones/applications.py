"""Networks by name: the constructors of `keras.applications`, by variant and without their classifiers, and `nano`."""

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import is_flat, replay
from tlkit.base.errors import TlkitError, unknown_name
from tlkit.base.process import seeded
from tlkit.options.catalog import BackboneRow

# Arguments of the constructors that tlkit sets, or that only concern the omitted classifier.
RESERVED = {
    *("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation", "name"),
    *("classes_num", "dropout", "dropout_rate", "default_size", "include_preprocessing", "weights_name", "kwargs"),
}


def constructor(row: BackboneRow) -> Any:
    """The function of `keras.applications` behind a row of the catalogue."""
    found = getattr(keras.applications, row.attribute, None)
    if found is None:
        raise TlkitError(
            f"Keras {keras.__version__} has no {row.attribute}.", "upgrade Keras, or choose another backbone."
        )
    return found


def parse_variants(row: BackboneRow, spec: str) -> dict[str, Any]:
    """Parse the part after the colon as arguments of the constructor: `mobilenetv2:alpha=0.35` gives `{"alpha": 0.35}`.

    Raises:
        TlkitError: for a name that the constructor does not take (with the nearest) or a value of another type.
    """
    _, _, text = spec.partition(":")
    known = _known_variants(row)
    variants: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            takes = ", ".join(f"{key}={default}" for key, default in known.items())
            raise unknown_name(
                f"a variant of {row.name}", name, known, f"it takes {takes}." if takes else "it has no variants."
            )
        if not equals:
            raise TlkitError(f"{spec!r} gives {name} no value.", f"write {row.name}:{name}={known[name]}.")
        variants[name] = _value(row, name, value, known[name])
    return variants


def canonical_name(row: BackboneRow, variants: Mapping[str, Any]) -> str:
    """One spelling for each choice: lower case, variants sorted, defaults left out."""
    known = _known_variants(row)
    parts = [f"{name}={value}" for name, value in sorted(variants.items()) if value != known[name]]
    return f"{row.name}:{','.join(parts)}" if parts else row.name


def check_size(row: BackboneRow, image_size: tuple[int, int]) -> None:
    """Refuse a side below the network's minimum."""
    if min(image_size) < row.minimum:
        raise TlkitError(
            f"an image size of {image_size[0]} by {image_size[1]} is too small for {row.name}, which needs {row.minimum}.",
            f"give --image-size {row.minimum} or more ({row.image_size} is its native size), or choose another backbone.",
        )


def build_network(row: BackboneRow, variants: Mapping[str, Any], image_size: tuple[int, int], seed: int) -> keras.Model:
    """The network as Keras builds it, with preprocessing in front and random weights: images -> grid.

    Weight files of Keras match this graph; `flatten` then makes it one flat graph.

    Args:
        row: of the catalogue.
        variants: arguments of the constructor.
        image_size: height and width in pixels.
        seed: of the random weights.

    Raises:
        TlkitError: when the constructor refuses a variant.
    """
    with seeded(seed):
        if not row.attribute:
            return build_nano(image_size)
        images = keras.Input((*image_size, 3), dtype="float32", name="images")
        try:
            return constructor(row)(
                include_top=False,
                weights=None,
                input_tensor=preprocess(images, row.preprocess),
                input_shape=(*image_size, 3),
                **variants,
            )
        except (ValueError, TypeError) as error:
            raise TlkitError(
                f"keras.applications.{row.attribute} refuses {dict(variants)}: {error}", "correct the variant."
            ) from error


def flatten(row: BackboneRow, network: keras.Model, name: str) -> keras.Model:
    """The network as one flat functional graph with stable names, `images` to grid; its layers and weights are reused."""
    first_efficientnet = row.attribute.startswith("EfficientNetB")
    if is_flat(network) and not first_efficientnet:
        return keras.Model(network.inputs[0], network.outputs[0], name=name)
    images = keras.Input(network.inputs[0].shape[1:], dtype="float32", name="images")
    grid = replay(network, images, take=True, after=_divide_again if first_efficientnet else None)
    return keras.Model(images, grid, name=name)


def _divide_again(layer: Any, tensor: Any) -> Any:
    """EfficientNet's ImageNet weights were trained with the deviation divided out twice.

    Keras adds this layer when, and only when, it loads those weights itself (tensorflow#49930). Here it is always
    there, so that the same file gives the same network however it arrives.
    """
    if not isinstance(layer, keras.layers.Normalization):
        return tensor
    return keras.layers.Rescaling([deviation**-0.5 for deviation in DEVIATION], name="preprocess_scale")(tensor)


def _known_variants(row: BackboneRow) -> dict[str, Any]:
    """Names and defaults of the constructor's own arguments, plain values only."""
    if not row.attribute:
        return {}
    parameters = inspect.signature(constructor(row)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in RESERVED and isinstance(parameter.default, (bool, int, float, str))
    }


def _value(row: BackboneRow, name: str, text: str, default: Any) -> Any:
    """A variant's value in the type of its default."""
    kind = type(default)
    try:
        value = text if kind is str else ast.literal_eval(text.title() if kind is bool else text)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if kind is not type(value):
            raise ValueError
    except (ValueError, SyntaxError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise TlkitError(
            f"{name} of {row.name} is {text!r}, expected {wanted}.", f"write {row.name}:{name}={default}."
        ) from None
    return value


# -- From RGB 0..255 to the input of a pretrained network, inside the graph and in plain Keras layers ---
#
# The four modes are those of `keras.applications`' `preprocess_input` functions, without `Lambda` and custom objects, so
# that a saved model loads with plain Keras and exports as slices, products and sums.

# Of ImageNet's training images: RGB in 0..1 (torch) and BGR in 0..255 (caffe, Simonyan & Zisserman 2014).
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)

# mode -> scale and offset: one number for all channels, or one for each
AFFINE: dict[str, tuple[Any, Any]] = {
    "tf": (1 / 127.5, -1.0),
    "torch": (
        [1 / (255 * deviation) for deviation in DEVIATION],
        [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)],
    ),
    "caffe": (1.0, [-mean for mean in CAFFE_MEAN]),
}

MODES = ("identity", *AFFINE)


def preprocess(images: Any, mode: str) -> Any:
    """Append a mode's layers to a tensor.

    Args:
        images: symbolic float32 (B, H, W, 3), RGB, 0..255.
        mode: `identity` (the network does it itself), `tf` (to -1..1), `torch` (minus ImageNet's mean, by its
            deviation) or `caffe` (BGR, minus the mean).

    Returns:
        Symbolic float32 (B, H, W, 3) under any global dtype policy: half precision starts after the scaling.
    """
    if mode == "identity":
        return images
    pixels = _bgr(images) if mode == "caffe" else images
    scale, offset = AFFINE[mode]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocess_scale")(pixels)


def _bgr(images: Any) -> Any:
    """Channels in reverse order, cropped one by one: the only way with layers without weights.

    `Cropping2D` set to channels first crops the last two axes, which here are width and colour.
    """
    channels = [
        keras.layers.Cropping2D(
            ((0, 0), (index, 2 - index)), data_format="channels_first", dtype="float32", name=f"preprocess_{name}"
        )(images)
        for index, name in ((2, "blue"), (1, "green"), (0, "red"))
    ]
    return keras.layers.Concatenate(axis=-1, dtype="float32", name="preprocess_bgr")(channels)


# -- `nano`: a small backbone whose weights are part of the package, for a first run without a network connection
#
# A plain convolutional network with residual blocks (He et al. 2015), pretrained on drawn images and two photographs by
# distilling an ImageNet network (`training_nano/`, model card in `docs/nano.md`). ImageNet backbones are better; this one
# is always available, and fast.

NANO_WEIGHTS = Path(__file__).with_name("nano.weights.npz")
NATIVE_SIZE = (112, 112)

# One row per block: channels, residual units after the strided convolution. Each block halves the sides.
BLOCKS = ((32, 0), (64, 1), (128, 2), (256, 0))
STEM_CHANNELS = 16
GRID_CHANNELS = 512


def build_nano(image_size: tuple[int, int] = NATIVE_SIZE) -> keras.Model:
    """The architecture with random weights; `load_nano_weights` makes it useful.

    Args:
        image_size: height and width in pixels, 32 or more each; the weights fit every size.

    Returns:
        A functional model from RGB `(B, H, W, 3)`, float 0..255, to a grid `(B, ceil(H / 32), ceil(W / 32), 512)`,
        zero or more.

    Raises:
        ValueError: a side is shorter than 32 pixels.
    """
    if min(image_size) < 32:
        raise ValueError(f"`image_size` must be 32 pixels or more on each side. Received: image_size={image_size}")
    images = keras.Input((*image_size, 3), name="images")
    features = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(images)
    features = _convolution(features, STEM_CHANNELS, "stem", strides=2)
    for number, (channels, units) in enumerate(BLOCKS, start=1):
        features = _convolution(features, channels, f"block{number}_down", strides=2)
        for unit in range(1, units + 1):
            features = _residual_unit(features, channels, f"block{number}_unit{unit}")
    grid = _convolution(features, GRID_CHANNELS, f"block{len(BLOCKS) + 1}_widen", kernel_size=1)
    return keras.Model(images, grid, name="nano")


def load_nano_weights(model: keras.Model, path: Path = NANO_WEIGHTS) -> None:
    """Fill a model made by `build_nano` with the packaged weights (float16 on disk), in place.

    Args:
        model: of any image size.
        path: an `.npz` of arrays named by variable path; another one while pretraining.

    Raises:
        ValueError: the model's variables are not those of the file.
    """
    with np.load(path, allow_pickle=False) as stored:
        unmatched = {variable.path for variable in model.variables} ^ set(stored.files)
        if unmatched:
            raise ValueError(f"The weights of nano need the model of `build_nano`. Unmatched: {sorted(unmatched)}")
        for variable in model.variables:
            variable.assign(stored[variable.path].astype("float32"))


def _convolution(
    features: keras.KerasTensor,
    channels: int,
    name: str,
    kernel_size: int = 3,
    strides: int = 1,
    activate: bool = True,
) -> keras.KerasTensor:
    """Convolution, BatchNorm and, unless told otherwise, ReLU."""
    features = keras.layers.Conv2D(
        channels, kernel_size, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(features)
    features = keras.layers.BatchNormalization(momentum=0.98, name=f"{name}_bn")(features)
    return keras.layers.ReLU(name=f"{name}_relu")(features) if activate else features


def _residual_unit(features: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions beside an identity, as in ResNet's basic block."""
    inner = _convolution(features, channels, f"{name}_first")
    inner = _convolution(inner, channels, f"{name}_second", activate=False)
    summed = keras.layers.Add(name=f"{name}_add")([features, inner])
    return keras.layers.ReLU(name=f"{name}_relu")(summed)
