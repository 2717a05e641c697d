"""Keras on NumPy: build networks, read weights and compute a few images without importing TensorFlow, JAX or PyTorch.

Keras has a NumPy backend, meant for small computations, whose convolutions and pooling windows are JAX's. `start` provides
the four functions of JAX that these need, written here with NumPy, so that it is available wherever Keras is and loads in a
second. It is for a separate process, since the backend of a process is chosen once.
"""

import itertools
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tlkit.base.process import do_without_tensorflow, lean_imports

_STANDINS = ("jax", "jax.lax", "keras.src.backend.jax", "keras.src.backend.jax.math")


def start() -> None:
    """Import Keras on NumPy, without TensorFlow.

    Raises:
        RuntimeError: this process has imported Keras already.
        ImportError: this version of Keras needs more of JAX.
    """
    if "keras" in sys.modules:
        raise RuntimeError("keras is imported already, on a backend of its own")
    os.environ["KERAS_BACKEND"] = "numpy"
    kept = {name: sys.modules.get(name) for name in _STANDINS}
    sys.modules.update(_standins())
    try:
        with lean_imports():
            import keras  # noqa: F401
        do_without_tensorflow()
    finally:  # other imports of JAX find what there was before
        for name, module in kept.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _standins() -> dict[str, ModuleType]:
    made = {name: ModuleType(name) for name in _STANDINS}
    jax, lax, backend, transforms = made.values()
    vars(lax).update(
        ConvDimensionNumbers=Dimensions, conv_general_dilated=convolve, reduce_window=reduce_window, add=np.add
    )
    vars(lax)["max"] = np.maximum
    vars(transforms).update(fft=_refuse, fft2=_refuse)
    jax.__path__, backend.__path__ = [], []
    vars(jax).update(lax=lax, __getattr__=_absent)
    vars(backend).update(math=transforms)
    return made


def _absent(name: str) -> Any:
    """Raise ImportError for other parts of JAX, which Keras does without where JAX is not installed."""
    raise ImportError(f"jax.{name} is not here")


def _refuse(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("no Fourier transforms here")


class Dimensions(NamedTuple):
    """The axes of the input, of the kernel and of the output."""

    lhs_spec: tuple[int, ...]
    rhs_spec: tuple[int, ...]
    out_spec: tuple[int, ...]


def convolve(
    inputs: np.ndarray,
    kernel: np.ndarray,
    strides: Sequence[int],
    padding: str,
    *,
    rhs_dilation: Sequence[int],
    dimension_numbers: Dimensions,
    feature_group_count: int,
) -> np.ndarray:
    """Convolution in two dimensions, channels last: a matrix product for each position in the kernel.

    Args:
        inputs: (B, H, W, C).
        kernel: (h, w, C / groups, K).
        strides: of rows and columns.
        padding: `same` or `valid`, in any case.
        rhs_dilation: of rows and columns.
        dimension_numbers: the order of the axes.
        feature_group_count: number of groups.

    Returns:
        (B, H', W', K).

    Raises:
        NotImplementedError: for another number of dimensions or order of axes.
    """
    if inputs.ndim != 4 or dimension_numbers.lhs_spec != (0, 3, 1, 2):
        raise NotImplementedError("convolutions of images (B, H, W, C) alone")
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel.shape[:2], rhs_dilation, strict=True)]
    padded, sides = _framed(inputs, spans, strides, padding, 0.0)
    outputs = np.zeros((len(inputs), *sides, kernel.shape[3]), inputs.dtype)
    for row, column in itertools.product(*map(range, kernel.shape[:2])):
        seen = _seen(padded, (row * rhs_dilation[0], column * rhs_dilation[1]), sides, strides)
        outputs += _products(seen, kernel[row, column], feature_group_count)
    return outputs


def reduce_window(
    inputs: np.ndarray, start: float, reduce: Any, window: Sequence[int], strides: Sequence[int], padding: str
) -> np.ndarray:
    """Reduce (B, H, W, C) over windows (1, h, w, 1): (B, H', W', C).

    Raises:
        NotImplementedError: for another number of dimensions or order of axes.
    """
    if inputs.ndim != 4 or (window[0], window[3]) != (1, 1):
        raise NotImplementedError("windows of images (B, H, W, C) alone")
    padded, sides = _framed(inputs, window[1:3], strides[1:3], padding, start)
    outputs = np.full((len(inputs), *sides, inputs.shape[3]), start, inputs.dtype)
    for place in itertools.product(*map(range, window[1:3])):
        outputs = reduce(outputs, _seen(padded, place, sides, strides[1:3]))
    return outputs


def _framed(
    inputs: np.ndarray, spans: Sequence[int], strides: Sequence[int], padding: str, value: float
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The padded images, and the sides of the output."""
    frame, sides = [(0, 0)], []
    for size, span, stride in zip(inputs.shape[1:3], spans, strides, strict=True):
        same = padding.lower() == "same"
        side = -(-size // stride) if same else (size - span) // stride + 1
        more = max(0, (side - 1) * stride + span - size) if same else 0
        frame.append((more // 2, more - more // 2))
        sides.append(side)
    return np.pad(inputs, (*frame, (0, 0)), constant_values=value), tuple(sides)


def _seen(padded: np.ndarray, start: Sequence[int], sides: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """The inputs at one position of the window, (B, H', W', C)."""
    rows, columns = (
        slice(first, first + (side - 1) * stride + 1, stride)
        for first, side, stride in zip(start, sides, strides, strict=True)
    )
    return padded[:, rows, columns]


def _products(seen: np.ndarray, kernel: np.ndarray, groups: int) -> np.ndarray:
    """Product of (B, H, W, C) with one position of a kernel, (C / groups, K): (B, H, W, K)."""
    if len(kernel) == 1:  # depthwise
        return np.repeat(seen, kernel.shape[1] // groups, axis=3) * kernel[0]
    parts = zip(np.split(seen, groups, axis=3), np.split(kernel, groups, axis=1), strict=True)
    made = [(part.reshape(-1, part.shape[3]) @ own).reshape(*part.shape[:3], -1) for part, own in parts]
    return made[0] if groups == 1 else np.concatenate(made, axis=3)
