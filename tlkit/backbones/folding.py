"""BatchNorm folded into the convolution before it (Jacob et al. 2018, section 3.2): one pass over memory less.

A network that learns with its BatchNorm frozen can be computed likewise: kernel times scale, as long as the scale is
constant, has the same outputs and the same gradients. `learning_forward` does so while a stage trains.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from tlkit.backbones.arithmetic import convolve, exactly_biased, is_small, is_split, normed, quicker, unbiased
from tlkit.backbones.graph import Call, calls, functional

KERNELS = {"Conv2D": "kernel", "DepthwiseConv2D": "kernel", "SeparableConv2D": "pointwise_kernel"}


class Pair(NamedTuple):
    """A convolution and the BatchNorm that is its only reader."""

    convolution: Call
    norm: Call


def pairs(graph: list[Call], outputs: set[int]) -> list[Pair]:
    """The convolutions whose BatchNorm can be folded into them, in the order of the graph; outputs by their ids."""
    readers, found = _readers(graph), []
    for call in graph:
        made = id(call.outputs[0])
        reading = readers.get(made, [])
        if len(reading) == 1 and made not in outputs and _foldable(call.operation, reading[0].operation):
            found.append(Pair(call, reading[0]))
    return found


def _readers(graph: list[Call]) -> dict[int, list[Call]]:
    """The calls that read each tensor, by its id."""
    readers: dict[int, list[Call]] = {}
    for call in graph:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call)
    return readers


def _foldable(convolution: Any, norm: Any) -> bool:
    return (
        type(norm) is keras.layers.BatchNormalization
        and norm.axis in (-1, 3)
        and type(convolution).__name__ in KERNELS
        and convolution.activation is keras.activations.linear
        and convolution.data_format == "channels_last"
        and isinstance(kernel_of(convolution), keras.Variable)
    )


def kernel_of(convolution: Any) -> Any:
    """The weights whose last axes are the channels that a norm after it scales."""
    return getattr(convolution, KERNELS[type(convolution).__name__])


def scale_and_shift(convolution: Any, norm: Any, bias: Any = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Float64: the factor of the kernel, of the shape of its channels; and the resulting bias (C,)."""
    scale = 1 / np.sqrt(np.asarray(norm.moving_variance).astype(np.float64) + norm.epsilon)
    scale = scale * np.asarray(norm.gamma) if norm.scale else scale
    shift = (bias - np.asarray(norm.moving_mean)) * scale + (np.asarray(norm.beta) if norm.center else 0.0)
    shape = kernel_of(convolution).shape
    channels = shape[2:] if type(convolution).__name__ == "DepthwiseConv2D" else shape[3:]
    return scale.reshape(channels), shift


# -- The forward pass of a network that learns ------------------------------------------------------
#
# 1x1 convolutions are matrix products, which oneDNN computes faster than convolutions where they have few channels: a step
# of the last blocks of MobileNetV2-0.35 takes 0.78 of the time of Keras's layers, folding included, and one of ResNet50's as
# long as before (docs/log.md).


def learning_forward(model: keras.Model, *, training: bool = True) -> Callable[[Any], Any]:
    """The forward pass of a model that learns, tensor -> tensor, with the gradients of the model's own weights.

    BatchNorm layers that do not learn are folded into the convolutions before them, with their current statistics. Scale and
    offset of layer normalisations go into the products after them. Everything else is computed as in the model.

    Args:
        model: functional, with one input and one output; which of its layers learn is settled.
        training: whether the pass is part of a training step, or of a measurement between steps.
    """
    model = functional(model)
    graph = calls(model)
    frozen = [pair for pair in pairs(graph, {id(model.outputs[0])}) if not pair.norm.operation.trainable]
    folded = {id(pair.convolution.node): _folded(pair.convolution.operation, pair.norm.operation) for pair in frozen}
    gone = {id(pair.norm.node) for pair in frozen}
    split = _split(graph, id(model.outputs[0]))

    def forward(inputs: Any) -> Any:
        table = {id(model.inputs[0]): keras.ops.cast(inputs, model.inputs[0].dtype)}
        for call in graph:
            node = id(call.node)
            if isinstance(call.operation, keras.layers.InputLayer):
                continue
            if node in gone:
                made = table[call.inputs[0]]
            elif node in folded:
                made = folded[node](table[call.inputs[0]])
            elif node in split:
                made = normed(call.operation, table[call.inputs[0]])
            else:
                made = _called(call, table, training)
            table |= dict(zip(map(id, call.outputs), keras.tree.flatten(made), strict=True))
        return table[id(model.outputs[0])]

    return forward


def _split(graph: list[Call], output: int) -> set[int]:
    """Layer normalisations, by the ids of their nodes, whose scale and offset go into the products after them."""
    readers, found = _readers(graph), set()
    for call in graph:
        reading = readers.get(made := id(call.outputs[0]), [])
        if (
            reading
            and all(_plainly(each, made) for each in reading)
            and made != output
            and is_split(call.operation, [each.operation for each in reading])
        ):
            found.add(id(call.node))
    return found


def _plainly(call: Call, tensor: int) -> bool:
    """Whether a layer is called with only that tensor: a dense layer, or self-attention."""
    return call.inputs in ((tensor,), (tensor, tensor)) and not any(call.node.arguments.kwargs.values())


def _called(call: Call, table: dict[int, Any], training: bool) -> Any:
    """Compute a call as the model does."""
    arguments, options = call.node.arguments.fill_in(table)
    if "training" in inspect.signature(call.operation.call).parameters:
        options = {**options, "training": training}
    compute = quicker(call.operation) or exactly_biased(call.operation) or call.operation
    return compute(*arguments, **options)


def _folded(convolution: Any, norm: Any) -> Callable[[Any], Any]:
    """The convolution with its norm folded in, tensor -> tensor."""
    scale, added = scale_and_shift(convolution, norm)
    factors, channels = scale.astype(np.float32), scale.ravel().astype(np.float32)
    kernel, bias = kernel_of(convolution), convolution.bias if convolution.use_bias else None

    def convolved(inputs: Any) -> Any:
        values = keras.ops.convert_to_tensor(kernel) * factors
        shift: Any = added.astype(np.float32)
        if bias is not None:
            shift = keras.ops.convert_to_tensor(bias) * channels + shift
        # The type in which the layer computes when it is called, which may be lower than that of its weights.
        inputs, values, shift = (keras.ops.cast(each, convolution.compute_dtype) for each in (inputs, values, shift))
        if _is_pointwise(convolution):
            rows = keras.ops.reshape(inputs, (-1, inputs.shape[-1]))
            # The gradient of `values[0, 0]` would be a copy into zeros.
            made = keras.ops.matmul(rows, keras.ops.reshape(values, values.shape[2:])) + shift
            return keras.ops.reshape(made, (-1, *inputs.shape[1:-1], values.shape[-1]))
        if is_small(convolution):
            return convolve(inputs, values, convolution.strides, convolution.padding) + shift
        if bias is None or convolution.compute_dtype != "float32":  # see `exactly_biased`
            with keras.StatelessScope(state_mapping=[(kernel, values)]):
                return unbiased(convolution, inputs) + shift
        with keras.StatelessScope(state_mapping=[(kernel, values), (bias, shift)]):
            return convolution(inputs)

    return convolved


def _is_pointwise(convolution: Any) -> bool:
    """Whether it is a 1x1 convolution with stride 1 over all channels."""
    return (
        type(convolution) is keras.layers.Conv2D
        and convolution.kernel_size == (1, 1)
        and convolution.strides == (1, 1)
        and convolution.groups == 1
    )
