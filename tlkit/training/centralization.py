"""Gradient centralization (Yong et al. 2020): of which kernels, and on how many images.

With BatchNorm frozen nothing takes back a shift of a filter's mean, which steps of about the same size in every weight,
as Adam's are, add up to. Without the mean of its gradient a filter is less free: on some hundred images that gained up to
two points and a half, on 2,800 it cost as much (docs/log.md).
"""

import keras

from tlkit.core.config import FinetuneConfig

FREE_FROM = 2000  # training images


def is_centralized(options: FinetuneConfig, train: int) -> tuple[bool, str]:
    """Whether gradients are centralized, and a note for the plan.

    Args:
        options: what was asked for.
        train: training images.
    """
    if options.centralize != "auto":
        return options.centralize == "on", f"centralize  {options.centralize}, asked for"
    few = train < FREE_FROM
    bound = f"{'fewer than' if few else 'not fewer than'} {FREE_FROM:,}"
    return few, f"centralize  {'on' if few else 'off'}, {train:,} training images, {bound}"


def filters(model: keras.Model) -> set[int]:
    """Ids of the kernels of its convolutions; those of depthwise ones have a single input and are left alone."""
    return {id(layer.kernel) for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
