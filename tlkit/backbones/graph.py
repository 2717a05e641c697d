"""Functional graphs: the calls of a model in order, and their replay as one flat graph.

The only file that knows how Keras 3 stores a graph (`_nodes_by_depth` and the nodes of each layer, the same since 3.0).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np


class Call(NamedTuple):
    """One layer (or bare operation) called once.

    Args:
        operation: a `keras.Layer`, or an operation such as `keras.ops.add` that is not one.
        inputs: ids of the tensors it reads.
        outputs: the symbolic tensors it returns.
        node: Keras's own record of the call.
    """

    operation: Any
    inputs: tuple[int, ...]
    outputs: tuple[Any, ...]
    node: Any


def functional(model: keras.Model) -> keras.Model:
    """A Sequential or Functional model as a functional one over the same layers; anything else is a ValueError."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(model, "_nodes_by_depth"):
        raise ValueError(f"{type(model).__name__} is a subclassed model, not a graph of layers")
    return model


def calls(model: keras.Model) -> list[Call]:
    """The calls of a functional model, inputs included, each after those it depends on."""
    by_depth = functional(model)._nodes_by_depth
    return [
        Call(node.operation, tuple(id(tensor) for tensor in node.input_tensors), tuple(node.outputs), node)
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
    ]


def cuts(graph: list[Call], outputs: Iterable[Any]) -> list[int]:
    """Indices of the calls on whose single output everything later depends (articulation points).

    Any path from the input to the output passes through such a call, so every other call comes
    wholly before or wholly after it in any order. A layer called several times keeps all its calls
    on one side of each cut.
    """
    maker = {id(tensor): index for index, call in enumerate(graph) for tensor in call.outputs}
    last_call = {id(call.operation): index for index, call in enumerate(graph)}
    last_use = [last_call[id(call.operation)] for call in graph]
    for index, call in enumerate(graph):
        for tensor in call.inputs:
            last_use[maker[tensor]] = max(last_use[maker[tensor]], index)
    for tensor in outputs:
        last_use[maker[id(tensor)]] = len(graph)
    found, horizon = [], -1
    for index, call in enumerate(graph):
        alone = horizon <= index and last_call[id(call.operation)] == index
        if alone and len(call.outputs) == 1 and isinstance(call.operation, keras.Layer):
            found.append(index)
        horizon = max(horizon, last_use[index])
    return found


def is_automatic(operation: Any) -> bool:
    """Whether Keras generated the name (`conv2d_17`); such names count all layers that the process ever created."""
    return re.fullmatch(_snake(type(operation).__name__) + r"(_\d+)?", operation.name) is not None


class Names:
    """Names that do not depend on what else the process built: generated ones are renumbered from the start."""

    def __init__(self, *taken: str) -> None:
        self.taken = set(taken)

    def name(self, operation: Any) -> str:
        """The stable name of the next operation."""
        return self.unique(_snake(type(operation).__name__) if is_automatic(operation) else operation.name)

    def unique(self, stem: str) -> str:
        """`stem`, or `stem_1`, `stem_2`, ... when taken."""
        name, count = stem, 0
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name


def is_flat(model: keras.Model) -> bool:
    """Whether the model is one graph of layers: nothing nested, no bare operations, names as in a fresh process."""
    names = Names()
    return all(
        isinstance(call.operation, keras.Layer)
        and not isinstance(call.operation, keras.Model)
        and names.name(call.operation) == call.operation.name
        for call in calls(model)
    )


def replay(
    model: keras.Model,
    images: Any,
    *,
    until: int | None = None,
    weights: bool = True,
    take: bool = False,
    after: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Replay a model's calls on `images` with fresh copies of its layers, as one flat graph.

    Nested models are replayed in place, bare sums and products become layers, and generated names are
    renumbered from the start, so that the result is the same in every process.

    Args:
        model: functional or Sequential, one input.
        images: the tensor that replaces its input.
        until: index in `calls(model)` to stop after; by default the whole graph.
        weights: copy the values of the weights; fresh random ones otherwise.
        take: use its layers themselves instead of copies, in half the time; the model is unusable afterwards.
        after: called with (original layer, tensor) after each call, returns the tensor to continue with.

    Returns:
        The model's single output, or that of call `until`.
    """
    return _Player(weights, take, after).play(model, images, until)


class _Player:
    """Copies or takes each layer once, under a stable name, however deep it is nested."""

    def __init__(self, weights: bool, take: bool, after: Callable[[Any, Any], Any] | None) -> None:
        self.weights, self.take, self.after = weights, take, after
        self.copies: dict[int, Any] = {}
        self.names = Names("images")

    def play(self, model: keras.Model, start: Any, until: int | None = None) -> Any:
        model = functional(model)
        graph = calls(model)
        table: dict[int, Any] = {}
        for call in graph if until is None else graph[: until + 1]:
            made = start if isinstance(call.operation, keras.layers.InputLayer) else self.call(call, table)
            if self.after is not None:
                made = self.after(call.operation, made)
            table |= dict(zip(map(id, call.outputs), keras.tree.flatten(made), strict=True))
        outputs = model.outputs if until is None else graph[until].outputs[:1]
        made = [table[id(tensor)] for tensor in outputs]
        return made if len(made) > 1 else made[0]

    def call(self, call: Call, table: dict[int, Any]) -> Any:
        operation = call.operation
        args, kwargs = call.node.arguments.fill_in(table)
        if isinstance(operation, keras.Model):
            return self.play(operation, args[0])
        if (inner := _unfolded(operation, args, kwargs)) is not None:
            return self.play(inner, args[0])
        if (layer := _arithmetic_layer(operation, args, kwargs)) is not None:
            kind, options = layer
            tensors = [arg for arg in args if keras.backend.is_keras_tensor(arg)]
            return kind(name=self.names.name(operation), **options)(tensors if len(tensors) > 1 else tensors[0])
        if id(operation) in self.copies:
            return self.copies[id(operation)](*args, **kwargs)
        if self.take and isinstance(operation, keras.Layer):
            self.copies[id(operation)] = _released(operation, self.names.name(operation))
            return operation(*args, **kwargs)
        config = {**operation.get_config(), "name": self.names.name(operation)}
        copy = self.copies[id(operation)] = type(operation).from_config(config)
        made = copy(*args, **kwargs)
        if self.weights and getattr(operation, "weights", None):
            copy_weights(operation, copy)
        return made


def _released(layer: Any, name: str) -> Any:
    """The layer detached from its graph, under another name, with which the paths of its weights begin as well."""
    before = layer.path or layer.name
    layer._inbound_nodes, layer._outbound_nodes, layer.name = [], [], name
    for part in (*layer._flatten_layers(), *layer.variables):
        if part.path and f"{part.path}/".startswith(f"{before}/"):
            part._path = name + part.path.removeprefix(before)
    return layer


def copy_weights(source: Any, target: Any) -> None:
    """Give `target`'s weights, in order, the values of `source`'s; both are layers or models of one shape."""
    for old, new in zip(source.weights, target.weights, strict=True):
        new.assign(keras.ops.copy(old.value))  # JAX would share the buffer, and a training step donates buffers
    for layer in getattr(target, "layers", [target]):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization computes with copies of its weights, which this makes


def _arithmetic_layer(operation: Any, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]] | None:
    """The layer for a bare `a + b` or `a * b`, so that every step of the graph has one."""
    operator = type(operation).__name__
    if operator == "Mean" and operation.keepdims and sorted(axis % 4 for axis in operation.axis) == [1, 2]:
        return keras.layers.GlobalAveragePooling2D, {"keepdims": True}
    if isinstance(operation, keras.Layer) or kwargs or len(args) != 2:
        return None
    if all(map(keras.backend.is_keras_tensor, args)):
        kind = {"Add": keras.layers.Add, "Multiply": keras.layers.Multiply}.get(operator)
        return (kind, {}) if kind and len({len(arg.shape) for arg in args}) == 1 else None
    number = next((arg for arg in args if isinstance(arg, (int, float))), None)
    options = {"Add": {"scale": 1.0, "offset": number}, "Multiply": {"scale": number}}.get(operator)
    return (keras.layers.Rescaling, options) if number is not None and options else None


def _snake(name: str) -> str:
    """`Conv2D` -> `conv2d`, `ZeroPadding2D` -> `zero_padding2d`: how Keras derives names from classes."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def is_foreign(operation: Any) -> bool:
    """Whether its class is not Keras's own, so that a file with it needs another package to load."""
    return not type(operation).__module__.startswith("keras.")


def _unfolded(operation: Any, args: Any, kwargs: Any) -> keras.Model | None:
    """The graph inside a layer of another package that only calls layers and operations of Keras.

    Its `call` is run on a symbolic tensor, which records every call, and the recorded graph is checked against the layer
    itself on noise. A layer that also computes with weights of its own, or with the number of images, has no such graph.
    """
    alone = len(args) == 1 and keras.backend.is_keras_tensor(args[0]) and not kwargs
    if not (alone and is_foreign(operation) and isinstance(operation, keras.Layer)):
        return None
    start = keras.Input(batch_shape=args[0].shape, dtype=args[0].dtype)
    noise = np.random.default_rng(0).normal(size=(2, *args[0].shape[1:])).astype(args[0].dtype)
    try:
        inner = keras.Model(start, operation.call(start))
        found, expected = (keras.tree.flatten(each(noise, training=False)) for each in (inner, operation))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):  # its author expected an array
        return None
    own = {id(weight) for weight in inner.weights} == {id(weight) for weight in operation.weights}
    known = own and all(_close(*pair) for pair in zip(found, expected, strict=True))
    return inner if known and all(map(_can_be_copied, calls(inner))) else None


def _can_be_copied(call: Call) -> bool:
    operation, arguments = call.operation, call.node.arguments
    if is_foreign(operation):
        return _unfolded(operation, arguments.args, arguments.kwargs) is not None
    function = getattr(operation, "activation", None)  # a layer of Keras may hold a function of another package
    return function is None or getattr(function, "__module__", "").startswith("keras.")


def _close(one: Any, other: Any) -> bool:
    one, other = keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-4)


def foreign_layers(model: keras.Model) -> tuple[str, ...]:
    """Classes in a graph that are not Keras's own, so that a file of it needs another package to load."""
    return tuple(sorted({type(call.operation).__name__ for call in calls(model) if is_foreign(call.operation)}))
