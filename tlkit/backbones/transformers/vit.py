"""ViT (Dosovitskiy et al. 2021) and DeiT (Touvron et al. 2021)."""

from typing import Any

import numpy as np

from tlkit.backbones.transformers.convert import Values, attention, block, dense, norm, number, tokens
from tlkit.backbones.transformers.network import Architecture
from tlkit.backbones.transformers.positions import interpolated
from tlkit.base.errors import TlkitError


def read(body: Any, size: tuple[int, int]) -> tuple[Architecture, Values]:
    """The architecture and weights of a ViT or DeiT of KerasHub, with positions for images of (height, width)."""
    distilled = type(body).__name__ == "DeiTBackbone"
    patching = next(layer for layer in body.layers if layer.name.endswith("patching_and_embedding"))
    encoder = next(layer for layer in body.layers if layer.name.endswith("_encoder"))
    prefix = 2 if distilled else int(body.use_class_token)
    kind = Architecture(
        patch=_side(patching.patch_size),
        width=body.hidden_dim,
        blocks=body.num_layers,
        heads=body.num_heads,
        hidden=body.intermediate_dim if distilled else body.mlp_dim,
        prefix=prefix,
        epsilon=body.layer_norm_epsilon,
        pools="token" if prefix else None,
    )
    table = number(patching.position_embedding if distilled else patching.position_embedding.embeddings)
    table = table.reshape(-1, body.hidden_dim)
    names = ("class_token", "distillation_token")[:prefix]
    first = [number(getattr(patching, name))[0] + table[i : i + 1] for i, name in enumerate(names)]
    places = interpolated(table[prefix:], kind.cells(patching.image_size), kind.cells(size))
    values: Values = {"tokens": tokens(patching.patch_embedding, first, places), "norm": norm(encoder.layer_norm)}
    for place, layer in enumerate(encoder.encoder_layers, start=1):
        hidden = (layer.mlp.dense, layer.output_layer.dense) if distilled else (layer.mlp.dense_1, layer.mlp.dense_2)
        norms = (layer.layer_norm_1, layer.layer_norm_2)
        values |= block(f"block{place}", norms, attention(layer.mha), (dense(hidden[0]), dense(hidden[1])))
    return kind, values


def _side(patch: int | tuple[int, int]) -> int:
    sides = set(np.atleast_1d(patch).tolist())
    if len(sides) > 1:
        raise TlkitError(f"patches of {patch} are not square.", "choose a preset with square patches.")
    return sides.pop()
