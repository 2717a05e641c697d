"""A head of convolutions."""

from typing import Any

import keras

from tlkit.classifier.heads.build import activated, penalty
from tlkit.options.groups import HeadOptions


def conv(grid: Any, options: HeadOptions) -> Any:
    """3x3 convolutions with `options.hidden` filters each, then the mean: (B, h, w, C) -> (B, last filters)."""
    for number, filters in enumerate(options.hidden, start=1):
        grid = keras.layers.Conv2D(
            filters, 3, padding="same", kernel_regularizer=penalty(options), name=f"head_conv_{number}"
        )(grid)
        grid = activated(grid, options, f"head_activation_{number}")
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="head_mean")(grid)
