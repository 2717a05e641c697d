"""From RGB 0..255 to what a pretrained network was trained on, inside the graph and of plain Keras layers.

The four modes are those of `keras.applications`' `preprocess_input` functions; no `Lambda` and no custom object, so
that a saved model loads wherever Keras does and exports as slices, products and sums.
"""

from typing import Any

import keras

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
        Symbolic float32 (B, H, W, 3), whatever the global dtype policy: half precision starts after the scaling.
    """
    if mode == "identity":
        return images
    pixels = _bgr(images) if mode == "caffe" else images
    scale, offset = AFFINE[mode]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocess_scale")(pixels)


def _bgr(images: Any) -> Any:
    """Channels in reverse order, by cutting them out one by one: the only way with layers that have no weights.

    `Cropping2D` crops the last two axes when it believes that channels come first; here those are width and colour.
    """
    channels = [
        keras.layers.Cropping2D(
            ((0, 0), (index, 2 - index)), data_format="channels_first", dtype="float32", name=f"preprocess_{name}"
        )(images)
        for index, name in ((2, "blue"), (1, "green"), (0, "red"))
    ]
    return keras.layers.Concatenate(axis=-1, dtype="float32", name="preprocess_bgr")(channels)
