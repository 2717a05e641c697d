"""`nano`: a small backbone whose pretrained weights travel inside the package, for a first run without a network.

A plain convolutional network with residual blocks (He et al. 2015), pretrained on drawn images and two photographs by
distilling an ImageNet network (`training_nano/`, model card in `docs/nano.md`). ImageNet backbones are better; this one
is always there, and fast.
"""

from pathlib import Path

import keras
import numpy as np

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
