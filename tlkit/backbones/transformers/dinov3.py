"""DINOv3 (Siméoni et al. 2025): rotary positions, for any number of patches."""

from typing import Any

import numpy as np

from tlkit.backbones.transformers.convert import Values, block, dense, norm, number, tokens
from tlkit.backbones.transformers.network import Architecture


def read(body: Any, size: tuple[int, int]) -> tuple[Architecture, Values]:
    """The architecture and weights of a DINOv3 of KerasHub."""
    gated = body.use_gated_mlp
    kind = Architecture(
        patch=body.patch_size,
        width=body.hidden_dim,
        blocks=body.num_layers,
        heads=body.num_heads,
        hidden=body.intermediate_dim,
        prefix=1 + body.num_register_tokens,
        epsilon=body.layer_norm_eps,
        activation=body.hidden_activation,
        gated=gated,
        rotary=body.rope_theta,
    )
    embeddings, (rows, columns) = body.embeddings, kind.cells(size)
    prefix = [number(embeddings.cls_token)[0]]
    if body.num_register_tokens:
        prefix.append(number(embeddings.register_tokens)[0])
    nowhere = np.zeros((rows * columns, body.hidden_dim), np.float32)
    values: Values = {
        "tokens": tokens(embeddings.patch_embeddings.projection, prefix, nowhere),
        "norm": norm(body.layernorm),
    }
    for place, layer in enumerate(body.encoder.layers, start=1):
        name = f"block{place}"
        inner, outer = (number(part.lambda1) for part in (layer.layer_scale1, layer.layer_scale2))
        values |= _turned(name, layer.attention, kind)
        if gated:
            values[f"{name}_gated"] = dense(layer.mlp.up_proj)
        first = layer.mlp.gate_proj if gated else layer.mlp.up_proj
        hidden = (dense(first), dense(layer.mlp.down_proj, outer))
        attended = dense(layer.attention.output_dense, inner)
        values |= block(name, (layer.norm1, layer.norm2), attended, hidden)
    return kind, values


def _turned(name: str, layer: Any, kind: Architecture) -> Values:
    """Weights of queries and keys, split into the halves of the channels of their heads, and of values."""
    parts = [dense(layer.query_dense), dense(layer.key_dense)]
    half = kind.width // kind.heads // 2
    values: Values = {f"{name}_value": dense(layer.value_dense)}
    for label, place in (("first", slice(half)), ("second", slice(half, None))):
        columns = [[array.reshape(*array.shape[:-1], kind.heads, -1)[..., place] for array in part] for part in parts]
        values[f"{name}_{label}"] = [
            np.concatenate([_flat(part[0]) for part in columns], axis=-1),
            np.concatenate([_flat(part[1]) for part in columns], axis=-1),
        ]
    return values


def _flat(array: np.ndarray) -> np.ndarray:
    """(..., heads, channels) -> (..., heads * channels)."""
    return array.reshape(*array.shape[:-2], -1)
