"""A frozen network as ONNX, written layer by layer from Keras's own graph, with any backend and without computing anything.

BatchNorm is folded into the convolution before it, as in `frozen`. Grids are held with their channels first, as in ONNX,
and transposed only for layers that work on the last axis; input images and output grids have channels last.
A layer that is not in `LAYERS` is refused, never approximated.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tlkit.backbones.arithmetic import spared
from tlkit.backbones.graph import Call, calls, functional
from tlkit.extraction.frozen import folds
from tlkit.extraction.onnx_engine import AT_ONCE, PART
from tlkit.extraction.onnx_parts import winograd
from tlkit.extraction.onnx_parts.over_time import TIME_LAYERS
from tlkit.extraction.onnx_parts.tokens import TOKEN_LAYERS
from tlkit.extraction.onnx_parts.writing import Graph, Pads, Untranslatable, gelu

OPSET, IR = 17, 8  # of 2022; all current ONNX runtimes read them
# Bytes of grids passed from layer to layer; measured with VGG16, which gains a fifth by it, and with three others
ROOM = 2**24
AXIS_FIRST = {0: 0, 1: 2, 2: 3, 3: 1}  # where an axis of (B, h, w, C) is in (B, C, h, w)


def to_onnx(model: keras.Model, outputs: Sequence[str] = (), given: str = "images", *, lean: bool = False) -> Any:
    """An ONNX model of a network with one input.

    Args:
        model: images float32 (B, H, W, 3), or any floating-point input -> one tensor or several.
        outputs: their names; by default `output0`, `output1`, ...
        given: name of the input.
        lean: write what is faster in ONNX Runtime on a CPU: convolutions with fewer multiplications (`winograd`), and the
            number of images a core should compute at once.

    Returns:
        `onnx.ModelProto`: the input and the outputs are float32, with any number of images.

    Raises:
        Untranslatable: naming the layer.
    """
    from onnx import TensorProto, helper

    every = calls(functional(model))
    found, gone = folds(every, {id(tensor) for tensor in model.outputs})
    graph = Graph(found, lean)
    graph.give(model.inputs[0], given, first=False)
    for call in every:
        if id(call.node) in gone:
            _rename(graph, call)
        elif not isinstance(call.operation, keras.layers.InputLayer):
            _write(graph, call)
    names = [graph.value(id(tensor), first=False) for tensor in model.outputs]
    called = outputs or [f"output{number}" for number in range(len(names))]
    graph.nodes += [helper.make_node("Identity", [name], [output]) for name, output in zip(names, called, strict=True)]
    described = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["images", *tensor.shape[1:]])
        for name, tensor in zip((given, *called), (model.inputs[0], *model.outputs), strict=True)
    ]
    made = helper.make_graph(graph.nodes, "network", described[:1], described[1:], graph.constants)
    written = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    if lean:
        helper.set_model_props(written, {AT_ONCE: str(_together(every))})
    return written


def _together(every: list[Call]) -> int:
    """How many images a core computes at once: as many as fit into its caches by their largest grid, `PART` at most."""
    largest = max(4 * math.prod(side or 1 for side in made.shape[1:]) for call in every for made in call.outputs)
    return max(1, min(PART, ROOM // largest))


def _write(graph: Graph, call: Call) -> None:
    layer = call.operation
    kind = type(layer).__name__
    if kind not in LAYERS or not type(layer).__module__.startswith("keras."):
        raise Untranslatable(f"{layer.name} is a {kind}, which has no row here")
    if getattr(layer, "data_format", None) == "channels_first" and kind != "Cropping2D":
        raise Untranslatable(f"{layer.name} takes channels first")
    LAYERS[kind](graph, call, layer)


def _rename(graph: Graph, call: Call) -> None:
    """A BatchNorm that is already folded into the convolution before it."""
    graph.give(call.outputs[0], graph.value(call.inputs[0], True))


# -- Layers, each as (graph, call, layer) ---


def _convolution(graph: Graph, call: Call, layer: Any) -> None:
    fold = graph.fold.get(id(call.node))
    weights = {id(variable): value for variable, value in fold.values} if fold else {}
    values = {
        name: weights.get(id(variable), np.asarray(variable))
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel", "bias")
        if isinstance(variable := getattr(layer, name, None), keras.Variable)
    }
    shift = fold.shift if fold and fold.shift is not None else values.get("bias")
    (tensor, pads), (height, width) = _edge(graph, call, layer)
    place = {"strides": layer.strides, "dilations": layer.dilation_rate, "pads": pads}
    kind = type(layer).__name__
    if graph.lean and spared(call):
        sides = call.outputs[0].shape[1:3]
        made = winograd.convolution(graph, graph.value(tensor, False), values["kernel"], shift, pads, sides)
        graph.give(call.outputs[0], _activated(graph, made, layer, call, first=False), first=False)
        return
    source = graph.value(tensor, True)
    if kind == "Conv2D":
        kernels, groups = [values["kernel"].transpose(3, 2, 0, 1)], [layer.groups]
    else:
        deep = values["kernel" if kind == "DepthwiseConv2D" else "depthwise_kernel"]
        kernels, groups = [deep.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)], [deep.shape[2]]
    if kind == "SeparableConv2D":
        source = graph.node("Conv", source, graph.constant(kernels.pop()), group=groups.pop(), **place)
        kernels, groups, place = [values["pointwise_kernel"].transpose(3, 2, 0, 1)], [1], {}
    inputs = [source, graph.constant(kernels[0]), *([] if shift is None else [graph.constant(shift)])]
    made = graph.node("Conv", *inputs, group=groups[0], **place)
    graph.give(call.outputs[0], _activated(graph, made, layer, call, first=True))


def _edge(graph: Graph, call: Call, layer: Any) -> tuple[tuple[int, Pads], tuple[int, int]]:
    """The tensor that a convolution reads, its zero padding, and the sides of its kernel."""
    size = getattr(layer, "kernel_size", None)
    if layer.padding not in ("same", "valid") or size is None or len(size) != 2:
        raise Untranslatable(f"{layer.name} has padding {layer.padding!r}")
    tensor = call.inputs[0]
    if tensor in graph.framed and layer.padding == "valid":
        return graph.framed[tensor], size
    return (tensor, _pads(call, size, layer)), size


def _pads(call: Call, size: tuple[int, int], layer: Any) -> Pads:
    """The zero padding of `same`: as in TensorFlow, one more at the end where the number is odd."""
    if layer.padding == "valid":
        return (0, 0, 0, 0)
    dilation = getattr(layer, "dilation_rate", (1, 1))
    before, after = [], []
    for axis in (0, 1):
        side, stride = call.node.input_tensors[0].shape[1 + axis], layer.strides[axis]
        if side is None:
            raise Untranslatable(f"{layer.name} takes images of any size")
        more = max(0, (-(-side // stride) - 1) * stride + (size[axis] - 1) * dilation[axis] + 1 - side)
        before.append(more // 2)
        after.append(more - more // 2)
    return (before[0], before[1], after[0], after[1])


def _pooling(kind: str, **attributes: Any) -> Callable[[Graph, Call, Any], None]:
    def write(graph: Graph, call: Call, layer: Any) -> None:
        place = {"kernel_shape": layer.pool_size, "strides": layer.strides, "pads": _pads(call, layer.pool_size, layer)}
        graph.give(call.outputs[0], graph.node(kind, graph.value(call.inputs[0], True), **place, **attributes))

    return write


def _global(kind: str) -> Callable[[Graph, Call, Any], None]:
    def write(graph: Graph, call: Call, layer: Any) -> None:
        made = graph.node(kind, graph.value(call.inputs[0], True))
        graph.give(call.outputs[0], made if layer.keepdims else graph.node("Flatten", made, axis=1))

    return write


def _batch_norm(graph: Graph, call: Call, layer: Any) -> None:
    if len(call.outputs[0].shape) != 4 or layer.axis not in (-1, 3):
        raise Untranslatable(f"{layer.name} is over axis {layer.axis}")
    count = layer.moving_mean.shape[0]
    scale = np.asarray(layer.gamma) if layer.scale else np.ones(count)
    offset = np.asarray(layer.beta) if layer.center else np.zeros(count)
    numbers = [graph.constant(each) for each in (scale, offset, layer.moving_mean, layer.moving_variance)]
    source = graph.value(call.inputs[0], True)
    graph.give(call.outputs[0], graph.node("BatchNormalization", source, *numbers, epsilon=layer.epsilon))


def _layer_norm(graph: Graph, call: Call, layer: Any) -> None:
    rank = len(call.outputs[0].shape)
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if [axis % rank for axis in axes] != [rank - 1] or getattr(layer, "rms_scaling", False):
        raise Untranslatable(f"{layer.name} is over axes {axes}")
    width = call.outputs[0].shape[-1]
    scale = np.asarray(layer.gamma) if layer.scale else np.ones(width)
    offset = np.asarray(layer.beta) if layer.center else np.zeros(width)
    inputs = (graph.value(call.inputs[0], False), graph.constant(scale), graph.constant(offset))
    made = graph.node("LayerNormalization", *inputs, axis=-1, epsilon=layer.epsilon)
    graph.give(call.outputs[0], made, first=False)


def _dense(graph: Graph, call: Call, layer: Any) -> None:
    made = graph.node("MatMul", graph.value(call.inputs[0], False), graph.constant(layer.kernel))
    if layer.use_bias:
        made = graph.node("Add", made, graph.constant(layer.bias))
    graph.give(call.outputs[0], _activated(graph, made, layer, call, first=False), first=False)


def _affine(numbers: Callable[[Any], tuple[Any, Any]]) -> Callable[[Graph, Call, Any], None]:
    """A layer that multiplies by a number, or one for each channel, and adds another."""

    def write(graph: Graph, call: Call, layer: Any) -> None:
        found, shape = numbers(layer), call.outputs[0].shape
        places = any(np.ndim(value) > 1 for value in found)  # numbers for positions, as in rotary embeddings
        first = graph.is_first(call.inputs[0]) and not places
        made = graph.value(call.inputs[0], first)
        for kind, value, nothing in zip(("Mul", "Add"), found, (1, 0), strict=True):
            fits = np.ndim(value) < len(shape) if np.ndim(value) > 1 else np.size(value) in (1, shape[-1])
            if not fits:
                raise Untranslatable(f"{layer.name} has {np.shape(value)} numbers")
            if np.any(np.asarray(value) != nothing):
                made = graph.node(kind, made, graph.for_channels(value, call, first))
        graph.give(call.outputs[0], made, first)

    return write


def _normalization(layer: Any) -> tuple[Any, Any]:
    """Factor and summand of Normalization, which divides by the deviation or by Keras's epsilon, whichever is larger."""
    mean, variance = (np.asarray(value).astype(np.float64).ravel() for value in (layer.mean, layer.variance))
    scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        raise Untranslatable(f"{layer.name} is an inverse")
    return scale, -mean * scale


def _joined(kind: str) -> Callable[[Graph, Call, Any], None]:
    """An elementwise operation on tensors of one rank."""

    def write(graph: Graph, call: Call, layer: Any) -> None:
        if len({graph.ranks[tensor] for tensor in call.inputs}) > 1:
            raise Untranslatable(f"{layer.name} joins tensors of several ranks")
        first = graph.is_first(*call.inputs)
        made = graph.value(call.inputs[0], first)
        for tensor in call.inputs[1:]:
            made = graph.node(kind, made, graph.value(tensor, first))
        graph.give(call.outputs[0], made, first)

    return write


def _scaled_sum(graph: Graph, call: Call, layer: Any) -> None:
    """The layer of InceptionResNetV2: the first of two grids, plus a multiple of the second."""
    base, branch = (graph.value(tensor, True) for tensor in call.inputs)
    graph.give(call.outputs[0], graph.node("Add", base, graph.node("Mul", branch, graph.constant(layer.scale))))


def _concatenate(graph: Graph, call: Call, layer: Any) -> None:
    rank = len(call.outputs[0].shape)
    first = graph.is_first(*call.inputs)
    axis = AXIS_FIRST[layer.axis % rank] if first and rank == 4 else layer.axis % rank
    graph.give(
        call.outputs[0],
        graph.node("Concat", *[graph.value(tensor, first) for tensor in call.inputs], axis=axis),
        first,
    )


def _frame(graph: Graph, call: Call, layer: Any) -> None:
    (top, bottom), (left, right) = layer.padding
    graph.ranks[id(call.outputs[0])] = 4
    source, (above, before, below, after) = graph.framed.get(call.inputs[0], (call.inputs[0], (0, 0, 0, 0)))
    graph.framed[id(call.outputs[0])] = (source, (above + top, before + left, below + bottom, after + right))


def _crop(graph: Graph, call: Call, layer: Any) -> None:
    axes = (1, 2) if layer.data_format == "channels_last" else (2, 3)
    first, shape = graph.is_first(call.inputs[0]), call.node.input_tensors[0].shape
    starts = [start for start, _ in layer.cropping]
    ends = [shape[axis] - end for axis, (_, end) in zip(axes, layer.cropping, strict=True)]
    along = [AXIS_FIRST[axis] if first else axis for axis in axes]
    bounds = [graph.constant(each, np.int64) for each in (starts, ends, along)]
    graph.give(call.outputs[0], graph.node("Slice", graph.value(call.inputs[0], first), *bounds), first)


def _reshape(graph: Graph, call: Call, layer: Any) -> None:
    shape = graph.constant((0, *call.outputs[0].shape[1:]), np.int64)  # 0: as many images as there are
    graph.give(call.outputs[0], graph.node("Reshape", graph.value(call.inputs[0], False), shape), first=False)


def _same(graph: Graph, call: Call, layer: Any) -> None:
    """The identity, outside training."""
    first = graph.is_first(call.inputs[0])
    graph.give(call.outputs[0], graph.value(call.inputs[0], first), first)


def _activation(graph: Graph, call: Call, layer: Any) -> None:
    first = graph.is_first(call.inputs[0])
    made = _activated(graph, graph.value(call.inputs[0], first), layer, call, first)
    graph.give(call.outputs[0], made, first)


def _rectified(graph: Graph, call: Call, layer: Any) -> None:
    if layer.threshold or (layer.negative_slope and layer.max_value is not None):
        raise Untranslatable(f"{layer.name} is a ReLU with a threshold, or a slope and a limit")
    first = graph.is_first(call.inputs[0])
    source = graph.value(call.inputs[0], first)
    if layer.max_value is not None:
        made = _clip(graph, source, float(layer.max_value))
    else:
        made = graph.node("LeakyRelu", source, alpha=layer.negative_slope) if layer.negative_slope else ""
    graph.give(call.outputs[0], made or graph.node("Relu", source), first)


# layer of Keras -> its writer
LAYERS: dict[str, Callable[[Graph, Call, Any], None]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "SeparableConv2D": _convolution,
    "MaxPooling2D": _pooling("MaxPool"),
    "AveragePooling2D": _pooling("AveragePool", count_include_pad=0),
    "GlobalAveragePooling2D": _global("GlobalAveragePool"),
    "GlobalMaxPooling2D": _global("GlobalMaxPool"),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Dense": _dense,
    "Rescaling": _affine(lambda layer: (layer.scale, layer.offset)),
    "Normalization": _affine(_normalization),
    "LayerScale": _affine(lambda layer: (np.asarray(layer.gamma), 0)),
    "Add": _joined("Add"),
    "Multiply": _joined("Mul"),
    "CustomScaleLayer": _scaled_sum,
    "Concatenate": _concatenate,
    "ZeroPadding2D": _frame,
    "Cropping2D": _crop,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Activation": _activation,
    "ReLU": _rectified,
    **TOKEN_LAYERS,
    **TIME_LAYERS,
    **dict.fromkeys(("Dropout", "SpatialDropout2D", "GaussianNoise", "StochasticDepth"), _same),
}


# -- Activations, each as (graph, name of the input) -> name of the output ---


def _clip(graph: Graph, source: str, most: float) -> str:
    return graph.node("Clip", source, graph.constant(0.0), graph.constant(most))


def _silu(graph: Graph, source: str) -> str:
    return graph.node("Mul", source, graph.node("Sigmoid", source))


def _plain(kind: str, **attributes: Any) -> Callable[[Graph, str], str]:
    return lambda graph, source: graph.node(kind, source, **attributes)


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "linear": lambda graph, source: source,
    "relu": _plain("Relu"),
    "relu6": lambda graph, source: _clip(graph, source, 6.0),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "silu": _silu,
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_silu": _plain("HardSwish"),
    "gelu": gelu,
}


def _activated(graph: Graph, source: str, layer: Any, call: Call, first: bool) -> str:
    function = layer.activation
    name = getattr(function, "__name__", type(function).__name__)
    if name == "softmax" and (not first or len(call.outputs[0].shape) != 4):
        return graph.node("Softmax", source, axis=-1)
    if name not in ACTIVATIONS or getattr(keras.activations, name, None) is not function:
        raise Untranslatable(f"{layer.name} has the activation {name}")
    return ACTIVATIONS[name](graph, source)
