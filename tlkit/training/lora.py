"""Low-rank adaptation: kernels stay as they are and learn what is added to them, as a product of two thin factors.

Hu et al. 2021 (LoRA: Low-Rank Adaptation of Large Language Models): W + A B with A (inputs, rank) random and B (rank,
outputs) zero, so that it begins as the pretrained network. Keras has it for Dense, EinsumDense and convolutions
(`layer.enable_lora`), not for depthwise ones, and offers no way back; `adapted` is that way: afterwards the layers hold plain
kernels, and nothing that is saved knows of factors.

Keras writes merged kernels into weight files, which is what everybody else wants to read from a checkpoint, and forgets the
factors, which it takes to go on. So they are written beside them, in a group of their own.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from tlkit.backbones.blocks import Block
from tlkit.backbones.build import Backbone
from tlkit.base.errors import TlkitError
from tlkit.training.plan import Stage, parameters

GROUP = "lora"  # in a checkpoint: a group for each layer, with its factors `a` and `b`


def adaptable(layers: Iterable[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Those that can learn by factors."""
    offered = (layer for layer in layers if hasattr(layer, "enable_lora") and hasattr(layer, "kernel"))
    return [layer for layer in offered if layer.kernel_constraint is None]


def learning_layers(stage: Stage, backbone: Backbone) -> list[keras.layers.Layer]:
    """Layers of the blocks that learn in a stage."""
    end = len(backbone.blocks) - stage.skipped
    return backbone.layers_of(end - stage.blocks, end)


def planned(stage: Stage, backbone: Backbone, head: Iterable[keras.layers.Layer], rank: int | None) -> Stage:
    """The stage with what learns where factors do; as it is for the head's stage, and without a rank.

    Args:
        stage: as planned for whole kernels.
        backbone: whose blocks learn in it.
        head: layers of the head, which learns as ever.
        rank: of the factors.

    Raises:
        TlkitError: none of the layers can learn by factors.
    """
    if rank is None or stage.name == "head":
        return stage
    layers = adaptable(learning_layers(stage, backbone))
    if not layers:
        raise TlkitError(
            f"--lora {rank}: no layer of {stage.learns} of {backbone.name} can learn by factors; Keras offers it for Dense, "
            "EinsumDense and convolutions, not for depthwise ones.",
            "let more blocks learn with --blocks, or drop --lora.",
        )
    factors = sum(rank * (int(np.prod(layer.kernel.shape[:-1])) + layer.kernel.shape[-1]) for layer in layers)
    learnt = (
        f"LoRA of rank {rank} on {len(layers)} layers ({factors:,} of the parameters), the rest of the backbone frozen"
    )
    return replace(stage, parameters=parameters(head) + factors, reason=f"{stage.reason}; {learnt}")


@contextmanager
def adapted(stage: Stage, backbone: Backbone, rank: int | None, seed: int) -> Iterator[None]:
    """While it lasts, the layers that learn in a stage have factors; then these are merged into plain kernels.

    Args:
        stage: one by gradient descent.
        backbone: whose layers it trains.
        rank: of the factors; None changes nothing, nor does the head's stage.
        seed: of the random ones.
    """
    layers = adaptable(learning_layers(stage, backbone)) if rank and stage.name != "head" else []
    for number, layer in enumerate(layers):
        layer.enable_lora(rank, a_initializer=keras.initializers.HeUniform(seed=seed + number))
    try:
        yield
    finally:
        for layer in layers:
            _merge(layer)


def hold(model: keras.Model, blocks: Iterable[Block]) -> None:
    """Freeze all of the backbone but the factors, where there are any; `trainable = True` on a layer frees its kernel."""
    own = {layer.name: _factors(layer) for layer in _with_factors(model)}
    known = {name for block in blocks for name in block.layers} if own else set()
    for layer in model.layers:
        if layer.name in own:
            layer.trainable = True
            for variable in layer.variables:
                variable.trainable = any(variable is factor for factor in own[layer.name])
        elif layer.name in known:
            layer.trainable = False


def save_weights(model: keras.Model, path: Path) -> None:
    """Write the weights of a model, kernels merged, and its factors beside them."""
    model.save_weights(path)
    layers = _with_factors(model)
    if layers:
        import h5py

        with h5py.File(path, "a") as file:
            for layer in layers:
                for name, factor in zip("ab", _factors(layer), strict=True):
                    file[f"{GROUP}/{layer.name}/{name}"] = keras.ops.convert_to_numpy(factor)


def load_weights(model: keras.Model, path: Path) -> None:
    """Read what `save_weights` wrote: merged kernels, or factors into a model that has them, whose kernels then stay."""
    layers = _with_factors(model)
    kernels = [np.array(keras.ops.convert_to_numpy(layer._kernel)) for layer in layers]
    model.load_weights(path)
    if layers:
        import h5py

        with h5py.File(path) as file:
            for layer, kernel in zip(layers, kernels, strict=True):
                layer._kernel.assign(kernel)
                for name, factor in zip("ab", _factors(layer), strict=True):
                    factor.assign(file[f"{GROUP}/{layer.name}/{name}"][()])


def _with_factors(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if getattr(layer, "lora_enabled", False)]


def _factors(layer: keras.layers.Layer) -> tuple[keras.Variable, keras.Variable]:
    return layer.lora_kernel_a, layer.lora_kernel_b


def _merge(layer: keras.layers.Layer) -> None:
    """Make the layer what it was before, with the kernel that it has come to. Keras has no public way to do it."""
    merged = np.array(keras.ops.convert_to_numpy(layer.kernel))
    for factor in _factors(layer):
        layer._untrack_variable(factor)
    layer.lora_kernel_a = layer.lora_kernel_b = None
    layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None
    layer._kernel.assign(merged)
    # They were frozen one by one, and TensorFlow's layers pass on no value they have already
    for variable in layer.variables:
        variable.trainable = layer.trainable
