"""DINOv2 (Oquab et al. 2023), with registers (Darcet et al. 2024) or without."""

from typing import Any

import numpy as np

from tlkit.backbones.transformers.convert import Values, attention, block, dense, norm, number, tokens
from tlkit.backbones.transformers.network import Architecture
from tlkit.backbones.transformers.positions import interpolated


def read(body: Any, size: tuple[int, int]) -> tuple[Architecture, Values]:
    """The architecture and weights of a DINOv2 of KerasHub, with positions for images of (height, width)."""
    encoder, embeddings = body.encoder, body.embeddings
    gated = body.use_swiglu_ffn
    kind = Architecture(
        patch=body.patch_size,
        width=body.hidden_dim,
        blocks=body.num_layers,
        heads=body.num_heads,
        hidden=encoder.layers[0].mlp.actual_intermediate_dim if gated else body.intermediate_dim,
        prefix=1 + body.num_register_tokens,
        activation="silu" if gated else "gelu",
        gated=gated,
    )
    first, places = _positions(body, kind.cells(size))
    prefix = [number(embeddings.cls_token)[0] + first]
    if body.num_register_tokens:
        prefix.append(number(embeddings.register_tokens)[0])  # which have no positions
    values: Values = {
        "tokens": tokens(embeddings.patch_embeddings.projection, prefix, places),
        "norm": norm(body.layernorm),
    }
    for place, layer in enumerate(encoder.layers, start=1):
        name = f"block{place}"
        inner, outer = (number(part.lambda1) for part in (layer.layer_scale1, layer.layer_scale2))
        if gated:
            (kernel, bias), half = dense(layer.mlp.weights_in), kind.hidden
            hidden = ([kernel[:, :half], bias[:half]], dense(layer.mlp.weights_out, outer))
            values[f"{name}_gated"] = [kernel[:, half:], bias[half:]]
        else:
            hidden = (dense(layer.mlp.fc1), dense(layer.mlp.fc2, outer))
        attended = attention(layer.attention.attention, inner)
        values |= block(name, (layer.norm1, layer.norm2), attended, hidden)
    return kind, values


def _positions(body: Any, cells: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the class token (1, C) and of the patches (rows * columns, C).

    Those of the network itself where the image has its size; otherwise those it was trained with, interpolated.
    """
    if cells == _cells(body, body.image_shape):
        table = number(body.embeddings.interpolated_position_embeddings)[0]
        return table[:1], table[1:]
    table = number(body.embeddings.position_embeddings)[0]
    own = _cells(body, body.position_embedding_shape)
    return table[:1], interpolated(table[1:], own, cells, body.antialias_in_interpolation)


def _cells(body: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0] // body.patch_size, shape[1] // body.patch_size
