"""SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025): the part that reads images.

Its patch tokens are the grid. The vector it compares with words, tokens weighted by attention of one learned query, is the
summary of the whole image.
"""

from typing import Any

import numpy as np

from tlkit.backbones.transformers.convert import Values, attention, block, dense, norm, number, tokens
from tlkit.backbones.transformers.network import Architecture
from tlkit.backbones.transformers.positions import interpolated


def read(body: Any, size: tuple[int, int]) -> tuple[Architecture, Values]:
    """The architecture and weights of a SigLIP of KerasHub, with positions for images of (height, width)."""
    approximate = body.intermediate_activation == "gelu_approximate"
    kind = Architecture(
        patch=body.patch_size,
        width=body.hidden_dim,
        blocks=body.num_layers,
        heads=body.num_heads,
        hidden=body.intermediate_dim,
        prefix=0,
        epsilon=body.layer_norm_epsilon,
        activation="gelu_tanh" if approximate else body.intermediate_activation,
        pools="attention",
    )
    own, table = kind.cells(body.image_shape[:2]), number(body.embedding.position_embedding.embeddings)
    places = interpolated(table, own, kind.cells(size))
    values: Values = {
        "tokens": tokens(body.embedding.patch_embedding, [], places),
        "norm": norm(body.post_layer_norm),
    }
    for place, layer in enumerate(body.encoder_layers, start=1):
        norms = (layer.layer_norm1, layer.layer_norm2)
        hidden = (dense(layer.mlp.fc1), dense(layer.mlp.fc2))
        values |= block(f"block{place}", norms, attention(layer.self_attn), hidden)
    return kind, values | _pooling(body.head, len(places))


def _pooling(head: Any, count: int) -> Values:
    """Attention with one query, the same for every image, folded into its score of a token: a number for each head."""
    query, query_bias, key, key_bias, value, value_bias, output, output_bias = attention(head.attention)
    width, heads, depth = query.shape
    asked = (np.einsum("c,chd->hd", number(head.probe).ravel(), query) + query_bias) / np.sqrt(depth)
    return {
        "pool1_scores": [np.einsum("chd,hd->ch", key, asked), (key_bias * asked).sum(-1)],
        "pool1_values": [value.reshape(width, -1), value_bias.ravel()],
        "pool1_attention": [
            output.reshape(heads * depth, -1) * count,
            output_bias,
        ],  # its input is the mean over tokens
        "pool1_norm": norm(head.layer_norm),
        "pool1_expand": dense(head.mlp.fc1),
        "pool1_contract": dense(head.mlp.fc2),
    }
