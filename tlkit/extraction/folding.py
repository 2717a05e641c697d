"""BatchNorm folded into the convolution before it (Jacob et al. 2018, section 3.2): one pass over memory less.

TensorFlow's graph optimiser fuses the two operations but goes on scaling the result, and then cannot fuse the addition
of a residual and the activation that follow.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from tlkit.backbones.graph import Call, calls, functional

_KERNELS = {"Conv2D": "kernel", "DepthwiseConv2D": "kernel", "SeparableConv2D": "pointwise_kernel"}


class _Fold(NamedTuple):
    """A convolution that computes what its BatchNorm would: other values for its weights, and a sum if it has no bias."""

    values: list[tuple[Any, np.ndarray]]
    shift: np.ndarray | None


def folded(model: keras.Model) -> Callable[[Any], list[Any]]:
    """The forward pass of a model in inference mode: input tensor -> list of output tensors.

    The values are taken from the weights now. Where nothing else reads a convolution, the BatchNorm after it
    disappears; everything else is computed as the model does.
    """
    graph = calls(functional(model))
    folds, gone = _folds(graph, {id(tensor) for tensor in model.outputs})

    def forward(inputs: Any) -> list[Any]:
        table = {id(model.inputs[0]): inputs}
        for call in graph:
            if isinstance(call.operation, keras.layers.InputLayer):
                continue
            node = id(call.node)
            made = table[call.inputs[0]] if node in gone else _called(call, table, folds.get(node))
            table |= dict(zip(map(id, call.outputs), keras.tree.flatten(made), strict=True))
        return [table[id(tensor)] for tensor in model.outputs]

    return forward


def _called(call: Call, table: dict[int, Any], fold: _Fold | None) -> Any:
    arguments, options = call.node.arguments.fill_in(table)
    if "training" in inspect.signature(call.operation.call).parameters:
        options = {**options, "training": False}
    if fold is None:
        return call.operation(*arguments, **options)
    values = [(variable, keras.ops.convert_to_tensor(value)) for variable, value in fold.values]
    with keras.StatelessScope(state_mapping=values):
        made = call.operation(*arguments, **options)
    return made if fold.shift is None else keras.ops.add(made, fold.shift)


def _folds(graph: list[Call], outputs: set[int]) -> tuple[dict[int, _Fold], set[int]]:
    """Folded convolutions by their node, and the nodes of the BatchNorms in them."""
    readers: dict[int, list[Call]] = {}
    for call in graph:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call)
    folds, gone = {}, set()
    for call in graph:
        made = id(call.outputs[0])
        reading = readers.get(made, [])
        if len(reading) == 1 and made not in outputs and _foldable(call.operation, reading[0].operation):
            folds[id(call.node)] = _fold(call.operation, reading[0].operation)
            gone.add(id(reading[0].node))
    return folds, gone


def _foldable(convolution: Any, norm: Any) -> bool:
    return (
        type(norm) is keras.layers.BatchNormalization
        and norm.axis in (-1, 3)
        and type(convolution).__name__ in _KERNELS
        and convolution.activation is keras.activations.linear
        and convolution.data_format == "channels_last"
        and isinstance(getattr(convolution, _KERNELS[type(convolution).__name__]), keras.Variable)
    )


def _fold(convolution: Any, norm: Any) -> _Fold:
    """The norm's `scale * (convolution - mean) + beta`, with the scale in the kernel and the rest in the bias."""
    kernel = getattr(convolution, _KERNELS[type(convolution).__name__])
    values = np.asarray(kernel)
    scale = 1 / np.sqrt(np.asarray(norm.moving_variance, np.float64) + norm.epsilon)
    scale = scale * np.asarray(norm.gamma) if norm.scale else scale
    channels = values.shape[2:] if type(convolution).__name__ == "DepthwiseConv2D" else values.shape[3:]
    mapping = [(kernel, (values * scale.reshape(channels)).astype(np.float32))]
    bias = np.asarray(convolution.bias) if convolution.use_bias else 0.0
    shift = (bias - np.asarray(norm.moving_mean)) * scale + (np.asarray(norm.beta) if norm.center else 0.0)
    shift = shift.astype(np.float32)
    if not convolution.use_bias:
        return _Fold(mapping, shift)
    return _Fold([*mapping, (convolution.bias, shift)], None)
