"""An ONNX graph under construction: nodes, constants, and the names of Keras tensors in it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tlkit.backbones.graph import Call
from tlkit.extraction.frozen import Fold

SMALL = 16  # numbers, of a constant that is shared

Pads = tuple[int, int, int, int]  # top, left, bottom, right


class Untranslatable(Exception):
    """A layer that cannot be translated, or not in this form."""


@dataclass
class Graph:
    """The graph written so far.

    Args:
        fold: node -> the weights of a convolution that include the BatchNorm after it.
        lean: whether convolutions are written with fewer multiplications where that is faster.
        values: (id of a Keras tensor, whether its channels are first) -> its name. Tensors that are not (B, h, w, C)
            have one form, which counts as both.
        small: (bytes, shape, type) of a small constant -> its name.
        framed: id of a padded tensor -> the tensor it pads, before the padding itself is needed.
    """

    fold: dict[int, Fold]
    lean: bool = False
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    values: dict[tuple[int, bool], str] = field(default_factory=dict)
    small: dict[Any, str] = field(default_factory=dict)
    ranks: dict[int, int] = field(default_factory=dict)
    framed: dict[int, tuple[int, Pads]] = field(default_factory=dict)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Write an operation with one output; returns its name."""
        from onnx import helper

        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}_{len(self.nodes)}", **attributes))
        return name

    def split(self, source: str, count: int, axis: int) -> list[str]:
        """Write a split into so many equal parts; returns their names."""
        from onnx import helper

        names = [f"t{len(self.nodes)}.{number}" for number in range(count)]
        self.nodes.append(helper.make_node("Split", [source], names, name=f"Split_{len(self.nodes)}", axis=axis))
        return names

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """Write a constant, a small one only once; returns its name."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(np.asarray(value), kind)
        known = (array.tobytes(), array.shape, array.dtype.str) if array.size <= SMALL else None
        if known in self.small:
            return self.small[known]
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        if known is not None:
            self.small[known] = name
        return name

    def give(self, tensor: Any, name: str, first: bool = True) -> None:
        """Record the name of a Keras tensor; `first` where it is a grid with channels first."""
        self.ranks[id(tensor)] = len(tensor.shape)
        for form in (first,) if len(tensor.shape) == 4 else (True, False):
            self.values[id(tensor), form] = name

    def value(self, tensor: int, first: bool) -> str:
        """The name of a tensor in a form, transposed where it exists only in the other."""
        if tensor in self.framed:
            self._frame(tensor)
        if (tensor, first) not in self.values:
            order = (0, 3, 1, 2) if first else (0, 2, 3, 1)
            self.values[tensor, first] = self.node("Transpose", self.values[tensor, not first], perm=order)
        return self.values[tensor, first]

    def is_first(self, *tensors: int) -> bool:
        """Whether an operation that takes either form is better written with channels first."""
        return any((tensor, True) in self.values or tensor in self.framed for tensor in tensors)

    def for_channels(self, value: Any, call: Call, first: bool) -> str:
        """A number for each channel, or one for all, as a constant that broadcasts along the channels of a call's tensor."""
        value = np.asarray(value, np.float32)
        grid = len(call.outputs[0].shape) == 4 and first
        return self.constant(value.reshape(-1, 1, 1) if grid and value.ndim == 1 else value)

    def _frame(self, tensor: int) -> None:
        """Write the padding of a grid that is read by something other than a convolution."""
        inner, (top, left, bottom, right) = self.framed.pop(tensor)
        pads = self.constant((0, 0, top, left, 0, 0, bottom, right), np.int64)
        self.values[tensor, True] = self.node("Pad", self.value(inner, True), pads)


def gelu(graph: Graph, source: str) -> str:
    """Hendrycks & Gimpel 2016, with the error function."""
    turned = graph.node("Erf", graph.node("Mul", source, graph.constant(0.5**0.5)))
    return graph.node(
        "Mul",
        graph.node("Mul", source, graph.constant(0.5)),
        graph.node("Add", turned, graph.constant(1.0)),
    )
