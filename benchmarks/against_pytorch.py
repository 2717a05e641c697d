"""Converted vision transformers against `transformers` in PyTorch, with the same random weights.

    pip install torch transformers
    PYTHONPATH=benchmarks python -P benchmarks/against_pytorch.py        # -P: transformers.py beside it is another one

A model of `transformers` with random weights is saved, opened by KerasHub as a checkpoint of Hugging Face, converted as any
preset is (`tlkit/backbones/transformers`), and both look at the same pixels. What is printed is the largest difference of the
tokens after the last normalisation, over the largest of them; 1e-3 is the goal.
"""

import tempfile

import keras
import numpy as np
import torch
import transformers
from measure import machine

from tlkit.backbones.graph import functional
from tlkit.backbones.transformers.convert import convert

SIDE = 112
SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": SIDE}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224}
SWIN = {"image_size": 224, "embed_dim": 48, "depths": [2, 2, 2, 2], "num_heads": [3, 6, 12, 24]}
# name -> (a model of transformers, tokens before those of patches)
MODELS = {
    "ViT": lambda: (transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, intermediate_size=256)), 1),
    "ViT-B/16": lambda: (transformers.ViTForImageClassification(transformers.ViTConfig(**BASE)), 1),
    "DINOv2": lambda: (transformers.Dinov2Model(transformers.Dinov2Config(**SMALL)), 1),
    "DINOv2 base": lambda: (transformers.Dinov2Model(transformers.Dinov2Config(**BASE)), 1),
    "DINOv2, registers": lambda: (
        transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)),
        5,
    ),
    "Swin": lambda: (transformers.SwinModel(transformers.SwinConfig(**SWIN)), 0),
}


def random_weights(model: torch.nn.Module) -> None:
    """Every weight as training leaves it: nothing zero or one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def difference(name: str, side: int | None = None) -> float:
    """Largest difference over the largest token, at another image size than the model's own if one is given."""
    import keras_hub

    torch.manual_seed(0)
    model, before = MODELS[name]()
    random_weights(model.eval())
    side = side or model.config.image_size
    pixels = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    with torch.inference_mode():
        body_of = getattr(model, "vit", model)
        expected = body_of(torch.from_numpy(pixels).permute(0, 3, 1, 2)).last_hidden_state[:, before:].numpy()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        body = keras_hub.models.Backbone.from_preset(folder)
    grid = keras.tree.flatten(convert(functional(body), (side, side), 1.0, 0.0)(pixels))[0]
    found = keras.ops.convert_to_numpy(grid).reshape(expected.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def main() -> None:
    print("| network | largest difference, over the largest token |\n|---|---|")
    for name, side in (*((name, None) for name in MODELS), ("Swin", 256)):
        try:
            shown = f"{difference(name, side):.1e}"
        except (KeyError, TypeError, ValueError) as error:  # KerasHub does not read such a checkpoint
            shown = f"not read by KerasHub: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
        print(f"| {name}{f' at {side} pixels' if side else ''} | {shown} |", flush=True)
    print(f"\n{machine()}; torch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
