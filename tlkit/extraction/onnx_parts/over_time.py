"""The layers of heads over time as ONNX, each as (graph, call, layer); their tensors are (B, T, C), their masks bool (B, T).

Recurrent layers are unrolled step by step: those of ONNX take the length of a sequence, but no mask.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import Call
from tlkit.extraction.onnx_parts.writing import Graph, Untranslatable

STEPS = 128  # frames up to which a recurrent layer is unrolled
BOOL, FLOAT = 9, 1  # TensorProto


def _not_equal(graph: Graph, call: Call, operation: Any) -> None:
    made = graph.node("Equal", *_each(graph, call))
    graph.give(call.outputs[0], graph.node("Not", made))


def _each(graph: Graph, call: Call) -> list[str]:
    """The arguments of an operation, tensors and numbers."""
    return [
        graph.value(id(one), False) if keras.backend.is_keras_tensor(one) else graph.constant(one)
        for one in call.node.arguments.args
    ]


def _any(graph: Graph, call: Call, operation: Any) -> None:
    numbers = graph.node("Cast", graph.value(call.inputs[0], False), to=FLOAT)
    most = graph.node("ReduceMax", numbers, axes=_axes(operation), keepdims=int(operation.keepdims))
    graph.give(call.outputs[0], graph.node("Cast", most, to=BOOL))


def _axes(operation: Any) -> list[int]:
    return [operation.axis] if isinstance(operation.axis, int) else list(operation.axis)


def _largest(graph: Graph, call: Call, operation: Any) -> None:
    source, keep = graph.value(call.inputs[0], False), int(operation.keepdims)
    graph.give(call.outputs[0], graph.node("ReduceMax", source, axes=_axes(operation), keepdims=keep))


def _where(graph: Graph, call: Call, operation: Any) -> None:
    graph.give(call.outputs[0], graph.node("Where", *_each(graph, call)))


def _aligned(graph: Graph, call: Call, operation: Any) -> None:
    axes = graph.constant([operation.axis], np.int64)
    graph.give(call.outputs[0], graph.node("Unsqueeze", graph.value(call.inputs[0], False), axes))


def _convolution(graph: Graph, call: Call, layer: Any) -> None:
    width = layer.kernel_size[0]
    plain = (layer.padding, layer.strides[0], layer.dilation_rate[0], layer.groups, layer.data_format)
    if plain != ("same", 1, 1, 1, "channels_last") or layer.activation is not keras.activations.linear:
        raise Untranslatable(f"{layer.name} is a convolution of another kind")
    source = graph.node("Transpose", graph.value(call.inputs[0], False), perm=(0, 2, 1))
    inputs = [source, graph.constant(np.asarray(layer.kernel).transpose(2, 1, 0))]
    inputs += [graph.constant(layer.bias)] if layer.use_bias else []
    made = graph.node("Conv", *inputs, pads=[(width - 1) // 2, width // 2])
    graph.give(call.outputs[0], graph.node("Transpose", made, perm=(0, 2, 1)))


# -- Recurrent layers ---

# (graph, projection of the frame, projection of the states, states) -> states; the first is the output
Cell = Callable[[Graph, str, str, list[str]], list[str]]


def _split(graph: Graph, gates: str, count: int) -> list[str]:
    """Equal parts of the last axis."""
    from onnx import helper

    names = [f"t{len(graph.nodes)}_{part}" for part in range(count)]
    graph.nodes.append(helper.make_node("Split", [gates], names, name=f"Split_{len(graph.nodes)}", axis=-1))
    return names


def _simple(graph: Graph, seen: str, known: str, states: list[str]) -> list[str]:
    """Elman 1990."""
    return [graph.node("Tanh", graph.node("Add", seen, known))]


def _lstm(graph: Graph, seen: str, known: str, states: list[str]) -> list[str]:
    """Hochreiter & Schmidhuber 1997."""
    taken, kept, new, shown = _split(graph, graph.node("Add", seen, known), 4)
    taken, kept, shown = (graph.node("Sigmoid", gate) for gate in (taken, kept, shown))
    added = graph.node("Mul", taken, graph.node("Tanh", new))
    cell = graph.node("Add", graph.node("Mul", kept, states[1]), added)
    return [graph.node("Mul", shown, graph.node("Tanh", cell)), cell]


def _gru(graph: Graph, seen: str, known: str, states: list[str]) -> list[str]:
    """Cho et al. 2014, the reset gate after the product."""
    (kept, reset, new), (kept_too, reset_too, held) = (_split(graph, gates, 3) for gates in (seen, known))
    kept, reset = (graph.node("Sigmoid", graph.node("Add", *pair)) for pair in ((kept, kept_too), (reset, reset_too)))
    new = graph.node("Tanh", graph.node("Add", new, graph.node("Mul", reset, held)))
    change = graph.node("Mul", kept, graph.node("Sub", states[0], new))
    return [graph.node("Add", new, change)]


def _recurrent(cell: Cell, states: int) -> Callable[[Graph, Call, Any], None]:
    def write(graph: Graph, call: Call, layer: Any) -> None:
        steps, kept = call.node.input_tensors[0].shape[1], ("tanh", "sigmoid")
        found = [getattr(layer, name, None) for name in ("activation", "recurrent_activation")]
        asked = (layer.go_backwards, layer.stateful, layer.return_state, not getattr(layer, "reset_after", True))
        other = any(each is not None and each.__name__ not in kept for each in found) or any(asked)
        if other or not steps or steps > STEPS or len(call.inputs) > 2 or not layer.use_bias:
            raise Untranslatable(f"{layer.name} is a recurrent layer of another kind")
        bias = np.atleast_2d(np.asarray(layer.cell.bias))
        product = graph.node("MatMul", graph.value(call.inputs[0], False), graph.constant(layer.cell.kernel))
        seen = graph.node("Add", product, graph.constant(bias[0]))
        kernel = graph.constant(layer.cell.recurrent_kernel)
        held = [graph.constant(np.zeros((1, layer.units)))] * states
        shown = []
        for step in range(steps):
            known = graph.node("MatMul", held[0], kernel)
            known = graph.node("Add", known, graph.constant(bias[1])) if len(bias) > 1 else known
            new = cell(graph, _at(graph, seen, step), known, held)
            if len(call.inputs) > 1:
                there = graph.node(
                    "Gather", graph.value(call.inputs[1], False), graph.constant([step], np.int64), axis=1
                )
                new = [graph.node("Where", there, *pair) for pair in zip(new, held, strict=True)]
            held = new
            shown.append(held[0])
        made = held[0]
        if layer.return_sequences:
            axis = graph.constant([1], np.int64)
            made = graph.node("Concat", *[graph.node("Unsqueeze", one, axis) for one in shown], axis=1)
        graph.give(call.outputs[0], made)

    return write


def _at(graph: Graph, rows: str, step: int) -> str:
    """(B, n) at one step of (B, T, n)."""
    row = graph.node("Gather", rows, graph.constant([step], np.int64), axis=1)
    return graph.node("Squeeze", row, graph.constant([1], np.int64))


# layer or operation of Keras -> its writer
TIME_LAYERS: dict[str, Callable[[Graph, Call, Any], None]] = {
    "NotEqual": _not_equal,
    "Any": _any,
    "Max": _largest,
    "Where": _where,
    "ExpandDims": _aligned,
    "Conv1D": _convolution,
    "SimpleRNN": _recurrent(_simple, 1),
    "LSTM": _recurrent(_lstm, 2),
    "GRU": _recurrent(_gru, 1),
}
