"""Swin (Liu et al. 2021): attention in windows, stages of halved resolution."""

from typing import Any

import numpy as np

from tlkit.backbones.transformers.convert import Values, dense, norm, number
from tlkit.backbones.transformers.windows import Stages

NEIGHBOURS = (0, 2, 1, 3)  # positions of (row, column) = 00, 01, 10, 11 among the neighbours that KerasHub joins


def read(body: Any, size: tuple[int, int]) -> tuple[Stages, Values]:
    """The architecture and weights of a Swin of KerasHub."""
    del size  # positions are relative
    blocks = [block for stage in body.stages for block in stage.blocks]
    kind = Stages(
        patch=body.patch_size,
        width=body.embed_dim,
        blocks=tuple(body.depths),
        heads=tuple(body.num_heads),
        window=body.window_size,
        hidden=body.mlp_ratio,
        normed=body.patch_embedding.norm is not None,
        positions=tuple(number(block.attn._get_rel_pos_bias()) for block in blocks),
    )
    kernel, bias = dense(body.patch_embedding.proj)
    values: Values = {"tokens": [kernel.reshape(-1, kernel.shape[-1]), bias], "grid": norm(body.norm)}
    if kind.normed:
        values["tokens_norm"] = norm(body.patch_embedding.norm)
    for place, block in enumerate(blocks, start=1):
        values |= _block(f"block{place}", block)
    ends = np.cumsum(kind.blocks)[:-1].tolist()
    for end, stage in zip(ends, body.stages, strict=False):
        width, name = stage.dim, f"block{end + 1}_merge"
        order = np.concatenate([np.arange(width) + width * part for part in NEIGHBOURS])
        values[f"{name}_norm"] = [array[order] for array in norm(stage.downsample.norm)]
        values[f"{name}_halved"] = [number(stage.downsample.reduction.kernel)[order]]
    return kind, values


def _block(name: str, block: Any) -> Values:
    """The layers of one block; the scale of queries goes into their kernel."""
    kernel, bias = dense(block.attn.qkv)
    kernels, biases = np.split(kernel, 3, axis=-1), np.split(bias, 3)
    values: Values = {
        f"{name}_norm1": norm(block.norm1),
        f"{name}_norm2": norm(block.norm2),
        f"{name}_attention": dense(block.attn.proj),
        f"{name}_expand": dense(block.mlp.fc1),
        f"{name}_contract": dense(block.mlp.fc2),
    }
    for part, one, other, scale in zip(
        ("query", "key", "value"), kernels, biases, (block.attn.scale, 1, 1), strict=True
    ):
        values[f"{name}_{part}"] = [one * scale, other * scale]
    return values
