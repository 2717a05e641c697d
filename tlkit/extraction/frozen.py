"""The fast engine with TensorFlow on a CPU: a frozen graph, and a core for each small batch.

Variables become constants, which TensorFlow's graph optimiser folds and fuses; docs/log.md has the gain of each step. Large
ones of large networks are not part of the graph: they are passed to every call without a copy, so that sessions share one.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, NamedTuple

import keras
import numpy as np

from tlkit.backbones.arithmetic import quicker
from tlkit.backbones.folding import kernel_of, pairs, scale_and_shift
from tlkit.backbones.graph import Call, calls, functional
from tlkit.backbones.runtime import for_processors
from tlkit.base.errors import TlkitError
from tlkit.base.machine import usable_cores

SMALL_BATCH = 8  # images: enough for the matrix products, few enough for the cache

Fetch = Callable[[], tuple[np.ndarray, ...]]


Compute = Callable[[np.ndarray], Sequence[np.ndarray]]


def on_each_core(call: Compute, wide: Callable[[], Compute], cores: int | None = None) -> Callable[[np.ndarray], Fetch]:
    """Run batches of any size through a function of float32 batches that computes in the calling thread.

    Args:
        call: float32 (b, ...) -> one float32 (b, ...) for each output; called from several threads at once.
        wide: gives one that uses every core, for a single image; not requested where others came before it, since the
            last of many is not worth another session.
        cores: number for which batches are divided, see `build`.

    Returns:
        uint8 or float32 (B, ...) -> a function that waits for one float32 (B, ...) per output.
    """
    threads = usable_cores()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tlkit-infer")
    alone: Compute | None = None
    several = False

    def compute(function: Compute, part: np.ndarray) -> Sequence[np.ndarray]:
        return function(part.astype(np.float32, copy=False))

    def begin(inputs: np.ndarray) -> Fetch:
        nonlocal alone, several
        if len(inputs) == 1 and threads > 1 and not several:
            alone = alone or wide()
        several = several or len(inputs) > 1
        function = alone if alone and len(inputs) == 1 else call
        begun = [pool.submit(compute, function, part) for part in parts(inputs, cores or threads)]

        def fetch() -> tuple[np.ndarray, ...]:
            done = [part.result() for part in begun]
            return tuple(np.concatenate(outputs) for outputs in zip(*done, strict=True))

        return fetch

    return begin


def parts(inputs: np.ndarray, threads: int) -> list[np.ndarray]:
    """Batches of at most `SMALL_BATCH`, of about equal size, equally many for each thread."""
    rounds = -(-len(inputs) // (SMALL_BATCH * threads))
    return np.array_split(inputs, max(1, min(len(inputs), rounds * threads)))


# -- The engine itself -------------------------------------------------------------------------

HANDED_BYTES = 2**25  # of all weights, from which copies of the large ones cost more than passing them to every call
LARGE = 2**16  # numbers of a weight
MOST_BYTES = 2**31 - 2**27  # a TensorFlow graph holds less than 2 GiB, its constants included


def why_not(model: keras.Model) -> str:
    """Why a model cannot use this engine, "" if it can."""
    if keras.backend.backend() != "tensorflow":
        return f"computing with {keras.backend.backend()}"
    size = _bytes(model)
    return f"{size / 2**30:.1f} GiB of weights are more than one graph holds" if size > MOST_BYTES else ""


def _bytes(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) * 4 for weight in model.weights)


def build(
    model: keras.Model, precision: str, *, own: bool = True, cores: int | None = None
) -> Callable[[np.ndarray], Fetch]:
    """The forward pass of a model with one input.

    Args:
        model: floating-point input of any shape -> one tensor or several.
        precision: `float32` or `bfloat16` (convolutions and products in bfloat16, results in float32).
        own: a session for each thread; otherwise one for all of them, which has crashed once.
        cores: number for which batches are divided, by default that of this process: the last digits depend on how many
            images are computed at once, and a worker of another process must give the same as the requesting process.

    Raises:
        TlkitError: when this processor cannot compute in bfloat16.
    """
    frozen = _graph(model)
    sessions = [_session(frozen.graph, precision) for _ in range(usable_cores() if own else 1)]
    if precision == "bfloat16":
        _refuse_unless_used(sessions[0], frozen)

    def turns(sessions: list[Any], *, shared: bool = False) -> Compute:
        return _taking_turns([frozen.computed_by(session) for session in sessions], shared)

    alone = lambda: turns([_session(frozen.graph, precision, threads=usable_cores())])  # noqa: E731
    return on_each_core(turns(sessions, shared=not own), alone, cores)


def _taking_turns(calls: list[Compute], shared: bool) -> Compute:
    """A function that passes each call to a free one of `calls`; with `shared`, the single one is called concurrently.

    TensorFlow allows a session to be called by several threads at once. One such process in about twenty ended with a
    segmentation fault in an atomic increment inside TensorFlow, which could not be reproduced.
    """
    if shared:
        return calls[0]
    free: SimpleQueue[Compute] = SimpleQueue()
    for call in calls:
        free.put(call)

    def compute(part: np.ndarray) -> Any:
        call = free.get()
        try:
            return call(part)
        finally:
            free.put(call)

    return compute


class Frozen(NamedTuple):
    """A graph without variables.

    Args:
        graph: of TensorFlow.
        image: its input.
        outputs: what it computes.
        handed: its other inputs by name, with the weights to pass.
    """

    graph: Any
    image: Any
    outputs: list[Any]
    handed: dict[str, np.ndarray]

    def computed_by(self, session: Any) -> Compute:
        """float32 (b, ...) -> one float32 (b, ...) for each output."""
        weights = list(self.handed.values())  # aligned as TensorFlow requires, so that it reads them without a copy
        call = session.make_callable(self.outputs, [self.image, *map(self.graph.get_tensor_by_name, self.handed)])
        return lambda part: call(part, *weights)


def _graph(model: keras.Model) -> Frozen:
    """The graph of a model.

    Weights are constants from the beginning: tracing variables and then turning them into constants took four seconds and
    a gigabyte more with ResNet50. A session holds each constant several times.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tensorflow.python.framework.func_graph import func_graph_from_py_func

    compute = folded(model, constant=True)

    def forward(inputs: Any) -> list[Any]:
        return [tf.cast(output, tf.float32) for output in compute(inputs)]

    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    traced = func_graph_from_py_func("forward", forward, (signature,), {})
    captures = {inner.name: tensor for tensor, inner in traced.captures}
    if any(tensor.dtype == tf.resource for tensor in captures.values()):  # variables that belong to no layer
        function = tf.function(forward, autograph=False).get_concrete_function(signature)
        traced, captures = convert_variables_to_constants_v2(function).graph, {}
    names = [traced.inputs[0].name, *(output.name for output in traced.outputs)]
    handed = {
        name: np.asarray(memoryview(tensor))
        for name, tensor in captures.items()
        if np.prod(tensor.shape, dtype=int) >= LARGE
    }
    graph = tf.Graph()
    with graph.as_default():
        # The numbers of Normalization are not weights
        numbers = {name: tf.constant(tensor.numpy()) for name, tensor in captures.items() if name not in handed}
        image, *outputs = tf.import_graph_def(traced.as_graph_def(), numbers, return_elements=names, name="")
    return Frozen(graph, image, outputs, handed)


def _session(graph: Any, precision: str, threads: int = 1) -> Any:
    """A session whose calls compute entirely in the calling thread, or with `threads` threads within an operation."""
    import tensorflow as tf

    # -1: no threads between operations, a call computes in its own; 1: no further ones within them
    options = tf.compat.v1.ConfigProto(
        inter_op_parallelism_threads=-1, intra_op_parallelism_threads=threads, device_count={"GPU": 0}
    )
    for_processors(options)
    if precision == "bfloat16":
        options.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    with _own_threads():
        return tf.compat.v1.Session(graph=graph, config=options)


def _refuse_unless_used(session: Any, frozen: Frozen) -> None:
    """Raise where the processor has no bfloat16: TensorFlow then silently leaves a graph in float32."""
    import tensorflow as tf

    seen = tf.compat.v1.RunMetadata()
    asked = tf.compat.v1.RunOptions(output_partition_graphs=True)
    drawn = np.zeros((1, *frozen.image.shape[1:]), np.float32)
    session.run(frozen.outputs, {frozen.image: drawn, **frozen.handed}, options=asked, run_metadata=seen)
    kinds = {node.attr["T"].type for graph in seen.partition_graphs for node in graph.node}
    if tf.bfloat16.as_datatype_enum not in kinds:
        raise TlkitError(
            "this processor, or this network, has nothing that TensorFlow computes in bfloat16.",
            "use --precision float32.",
        )


@contextmanager
def _own_threads() -> Iterator[None]:
    """Let a session have threads of its own; otherwise all sessions share those of the first."""
    name = "TF_OVERRIDE_GLOBAL_THREADPOOL"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


# -- BatchNorm folded into the convolution before it (Jacob et al. 2018, section 3.2): one pass over memory less ---
#
# TensorFlow's graph optimiser fuses the two operations but still scales the result, and then cannot fuse the addition of
# a residual and the activation that follow.


class Fold(NamedTuple):
    """A convolution that includes its BatchNorm: other values for its weights, and a bias if it has none."""

    values: list[tuple[Any, Any]]
    shift: np.ndarray | None


def folded(model: keras.Model, *, constant: bool = False) -> Callable[[Any], list[Any]]:
    """The forward pass of a model in inference mode: input tensor -> list of output tensors.

    The values are taken from the current weights. Where nothing else reads a convolution, the BatchNorm after it
    disappears; everything else is computed as in the model.

    Args:
        model: with one input.
        constant: weights that are not folded become constants as well, instead of variables; large ones are tensors,
            which a graph captures instead of copying.
    """
    graph = calls(functional(model))
    found, gone = folds(graph, {id(tensor) for tensor in model.outputs})
    held: dict[int, Any] = {}
    if constant:
        least = LARGE if _bytes(model) >= HANDED_BYTES else np.inf
        held = {id(variable): _held(variable, least) for variable in model.variables}
        for fold in found.values():
            fold.values[:] = [(variable, _held(value, least)) for variable, value in fold.values]

    def forward(inputs: Any) -> list[Any]:
        table = {id(model.inputs[0]): inputs}
        for call in graph:
            if isinstance(call.operation, keras.layers.InputLayer):
                continue
            node = id(call.node)
            made = (
                table[call.inputs[0]] if node in gone else _called(call, table, found.get(node, Fold([], None)), held)
            )
            table |= dict(zip(map(id, call.outputs), keras.tree.flatten(made), strict=True))
        return [table[id(tensor)] for tensor in model.outputs]

    return forward


def _held(value: Any, least: float) -> Any:
    """A weight for a graph: an array, or a tensor if it has at least so many numbers; a variable's tensor shares its memory."""
    import tensorflow as tf

    if np.prod(value.shape, dtype=int) < least:
        return np.asarray(value)
    return tf.convert_to_tensor(value.value if isinstance(value, keras.Variable) else value)


def _called(call: Call, table: dict[int, Any], fold: Fold, held: dict[int, Any]) -> Any:
    arguments, options = call.node.arguments.fill_in(table)
    if "training" in inspect.signature(call.operation.call).parameters:
        options = {**options, "training": False}
    own = {id(variable): variable for variable in getattr(call.operation, "variables", ()) if id(variable) in held}
    values = {name: (variable, held[name]) for name, variable in own.items()}
    values |= {id(variable): (variable, value) for variable, value in fold.values}
    compute = quicker(call.operation) or call.operation
    if not values:
        return compute(*arguments, **options)
    mapping = [(variable, keras.ops.convert_to_tensor(value)) for variable, value in values.values()]
    with keras.StatelessScope(state_mapping=mapping):
        made = compute(*arguments, **options)
    return made if fold.shift is None else keras.ops.add(made, fold.shift)


def folds(graph: list[Call], outputs: set[int]) -> tuple[dict[int, Fold], set[int]]:
    """Folded convolutions by node, and the nodes of the BatchNorms folded into them."""
    found = pairs(graph, outputs)
    folded = {id(pair.convolution.node): _fold(pair.convolution.operation, pair.norm.operation) for pair in found}
    return folded, {id(pair.norm.node) for pair in found}


def _fold(convolution: Any, norm: Any) -> Fold:
    """The norm's `scale * (convolution - mean) + beta`, with the scale in the kernel and the rest in the bias."""
    kernel, bias = kernel_of(convolution), np.asarray(convolution.bias) if convolution.use_bias else 0.0
    scale, shift = scale_and_shift(convolution, norm, bias)
    mapping, added = [(kernel, (np.asarray(kernel) * scale).astype(np.float32))], shift.astype(np.float32)
    return Fold([*mapping, (convolution.bias, added)], None) if convolution.use_bias else Fold(mapping, added)
