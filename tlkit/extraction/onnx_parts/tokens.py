"""The layers of transformers as ONNX, each as (graph, call, layer); their tensors are (B, tokens, channels)."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tlkit.backbones.graph import Call
from tlkit.extraction.onnx_parts.writing import Graph, Untranslatable, gelu

FLOAT = 1  # TensorProto
MASKED = -1e9  # the score of a masked token, as in Keras


def _embedded(graph: Graph, call: Call, layer: Any) -> None:
    """EinsumDense as a matrix product, with a bias for each token."""
    if layer.equation not in ("abc,cd->abd", "btc,cd->btd") or layer.activation is not keras.activations.linear:
        raise Untranslatable(f"{layer.name} computes {layer.equation}")
    made = graph.node("MatMul", graph.value(call.inputs[0], False), graph.constant(layer.kernel))
    graph.give(call.outputs[0], made if layer.bias is None else graph.node("Add", made, graph.constant(layer.bias)))


def _padded_tokens(graph: Graph, call: Call, layer: Any) -> None:
    pads = graph.constant((0, layer.padding[0], 0, 0, layer.padding[1], 0), np.int64)
    graph.give(call.outputs[0], graph.node("Pad", graph.value(call.inputs[0], False), pads))


def _cropped_tokens(graph: Graph, call: Call, layer: Any) -> None:
    start, end = layer.cropping[0], call.node.input_tensors[0].shape[1] - layer.cropping[1]
    bounds = [graph.constant([each], np.int64) for each in (start, end, 1)]
    graph.give(call.outputs[0], graph.node("Slice", graph.value(call.inputs[0], False), *bounds))


def _permuted(graph: Graph, call: Call, layer: Any) -> None:
    made = graph.node("Transpose", graph.value(call.inputs[0], False), perm=(0, *layer.dims))
    graph.give(call.outputs[0], made, first=False)


def _softmax(graph: Graph, call: Call, layer: Any) -> None:
    if len(call.outputs[0].shape) == 4 or not isinstance(layer.axis, int):
        raise Untranslatable(f"{layer.name} is over axes {layer.axis}")
    graph.give(call.outputs[0], graph.node("Softmax", graph.value(call.inputs[0], False), axis=layer.axis))


def _token_mean(graph: Graph, call: Call, layer: Any) -> None:
    if layer.data_format != "channels_last":
        raise Untranslatable(f"{layer.name} takes channels first")
    source, keep = graph.value(call.inputs[0], False), int(layer.keepdims)
    if len(call.inputs) == 1:
        graph.give(call.outputs[0], graph.node("ReduceMean", source, axes=[1], keepdims=keep))
        return
    there = graph.node("Cast", graph.value(call.inputs[1], False), to=FLOAT)
    there = graph.node("Unsqueeze", there, graph.constant([2], np.int64))
    axis = graph.constant([1], np.int64)
    total, count = (
        graph.node("ReduceSum", each, axis, keepdims=keep) for each in (graph.node("Mul", source, there), there)
    )
    graph.give(call.outputs[0], graph.node("Div", total, count))


def _attention(graph: Graph, call: Call, layer: Any) -> None:
    """Attention (Vaswani et al. 2017) with the projections before and after it, masked where there is a mask."""
    plain, given = layer.get_config(), call.node.arguments.kwargs
    asked = {name: plain.get(name) for name in ("attention_axes", "output_shape", "use_gate")}
    if any(each not in (None, False, (1,), [1]) for each in asked.values()) or set(given) - {"attention_mask"}:
        raise Untranslatable(f"{layer.name} is attention of another kind")
    read = [id(tensor) for tensor in call.node.arguments.args]
    query, value, key = (*read, read[-1])[:3]
    there = None
    if (mask := given.get("attention_mask")) is not None:
        there = graph.node("Unsqueeze", graph.value(id(mask), False), graph.constant([1], np.int64))

    def projected(tensor: int, part: Any) -> str:
        kernel = np.asarray(part.kernel)
        made = graph.node("MatMul", graph.value(tensor, False), graph.constant(kernel.reshape(len(kernel), -1)))
        if part.bias is not None:
            made = graph.node("Add", made, graph.constant(np.asarray(part.bias).ravel()))
        return graph.node("Reshape", made, graph.constant((0, 0, *kernel.shape[1:]), np.int64))

    parts = (layer.query_dense, layer.key_dense, layer.value_dense)
    heads = [projected(*each) for each in zip((query, key, value), parts, strict=True)]
    mixed = _mixed(graph, heads, layer.key_dim**-0.5, there)
    kernel = np.asarray(layer.output_dense.kernel)
    rows = graph.node("Reshape", mixed, graph.constant((0, 0, kernel.shape[0] * kernel.shape[1]), np.int64))
    made = graph.node("MatMul", rows, graph.constant(kernel.reshape(-1, kernel.shape[-1])))
    if layer.output_dense.bias is not None:
        made = graph.node("Add", made, graph.constant(layer.output_dense.bias))
    graph.give(call.outputs[0], made)


def _mixed(graph: Graph, heads: list[str], scale: float, there: str | None = None) -> str:
    """Values weighted by the softmax of scaled products of queries and keys; each (B, tokens, heads, channels).

    `there` names a bool (B, 1, 1, tokens) or (B, 1, tokens, tokens), the keys to attend to; None for all of them.
    """
    query, key, value = (
        graph.node("Transpose", each, perm=order)
        for each, order in zip(heads, ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)), strict=True)
    )
    scores = graph.node("MatMul", graph.node("Mul", query, graph.constant(scale)), key)
    if there is not None:
        scores = graph.node("Where", there, scores, graph.constant(MASKED))
    made = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    return graph.node("Transpose", made, perm=(0, 2, 1, 3))


def _dot_product(graph: Graph, call: Call, operation: Any) -> None:
    given = {name: each for name, each in call.node.arguments.kwargs.items() if each is not None}
    bounded = operation.is_causal or getattr(operation, "attn_logits_soft_cap", None) is not None
    if len(call.inputs) != 3 or bounded or set(given) - {"scale"}:
        raise Untranslatable(f"{operation.name} has a mask, or something else of its own")
    scale = given.get("scale") or call.node.input_tensors[0].shape[-1] ** -0.5
    mixed = _mixed(graph, [graph.value(each, False) for each in call.inputs], scale)
    graph.give(call.outputs[0], mixed, first=False)


def _product(graph: Graph, call: Call, operation: Any) -> None:
    made = graph.node("MatMul", *[graph.value(each, False) for each in call.inputs])
    graph.give(call.outputs[0], made, first=False)


def _gelu_operation(graph: Graph, call: Call, operation: Any) -> None:
    """Hendrycks & Gimpel 2016, with the hyperbolic tangent where it is approximate."""
    first = graph.is_first(call.inputs[0])
    source = graph.value(call.inputs[0], first)
    if not operation.approximate:
        graph.give(call.outputs[0], gelu(graph, source), first)
        return
    cube = graph.node("Mul", graph.node("Mul", source, source), source)
    inner = graph.node("Add", source, graph.node("Mul", cube, graph.constant(0.044715)))
    turned = graph.node("Tanh", graph.node("Mul", inner, graph.constant((2 / np.pi) ** 0.5)))
    half = graph.node("Mul", source, graph.constant(0.5))
    graph.give(call.outputs[0], graph.node("Mul", half, graph.node("Add", turned, graph.constant(1.0))), first)


# layer or operation of Keras -> its writer
TOKEN_LAYERS: dict[str, Callable[[Graph, Call, Any], None]] = {
    "EinsumDense": _embedded,
    "ZeroPadding1D": _padded_tokens,
    "Cropping1D": _cropped_tokens,
    "Permute": _permuted,
    "Softmax": _softmax,
    "GlobalAveragePooling1D": _token_mean,
    "MultiHeadAttention": _attention,
    "DotProductAttention": _dot_product,
    "Matmul": _product,
    "Gelu": _gelu_operation,
}
