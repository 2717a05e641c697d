"""A vision transformer: its forward pass beside other runtimes, and a step of its last blocks beside Keras's `fit`.

    python benchmarks/transformers.py                          # ViT-S/16 at 224 pixels, all of it
    python benchmarks/transformers.py --forward --bfloat16
    python benchmarks/transformers.py --step --bfloat16
    python benchmarks/transformers.py --memory --images 96     # one process each

Random weights and random images: only the time matters. The forward pass goes from uint8 pixels in memory to the mean of the
patch tokens, in float32 but for rows that say otherwise; ONNX Runtime and OpenVINO run the file that tlkit writes of the
network, PyTorch one of the same sizes with `scaled_dot_product_attention`. What is not installed is left out, and said. The
step is that of `cut_stage.py`. Memory is the most that a process held which computes the features of so many images, 32 at a
time, network and libraries included.
"""

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cut_stage
import keras
import numpy as np
from cold import run
from measure import in_turn, machine, table

from tlkit.backbones.blocks import find_blocks
from tlkit.backbones.build import Backbone
from tlkit.backbones.transformers.network import Architecture, build
from tlkit.base.errors import TlkitError
from tlkit.base.machine import usable_cores
from tlkit.extraction.engine import build_engine
from tlkit.extraction.onnx_graph import to_onnx

SMALL = Architecture(patch=16, width=384, blocks=12, heads=6, hidden=1536)
SIDE, BATCH, LEARN = 224, 32, 4

Run = Callable[[], np.ndarray]


def network() -> keras.Model:
    """ViT-S/16, images to patch tokens."""
    keras.utils.set_random_seed(0)
    whole = build(SMALL, (SIDE, SIDE))
    return keras.Model(whole.input, whole.outputs[0])


def rows(images: np.ndarray, bfloat16: bool, folder: Path) -> dict[str, Run]:
    """Every way at hand, images -> features (B, 384)."""
    grid = network()
    model = keras.Model(grid.input, keras.layers.GlobalAveragePooling2D()(grid.output))
    floats = images.astype(np.float32)
    engine = build_engine(model)
    found: dict[str, Run] = {
        "tlkit": lambda: engine.run(images)[0],
        "Keras predict": lambda: model.predict(floats, batch_size=BATCH, verbose=0),
    }
    if bfloat16:
        try:
            quick = build_engine(model, precision="bfloat16")
            found["tlkit, bfloat16"] = lambda: quick.run(images)[0]
        except TlkitError as error:
            print(error.message, flush=True)
    file = folder / "network.onnx"
    file.write_bytes(to_onnx(model).SerializeToString())
    for name, module, make in (
        ("ONNX Runtime", "onnxruntime", lambda: _onnxruntime(file, floats)),
        ("OpenVINO", "openvino", lambda: _openvino(file, floats)),
        ("PyTorch", "torch", lambda: _torch(floats)),
    ):
        if importlib.util.find_spec(module):
            found[name] = make()
        else:
            print(f"{name} is not installed", flush=True)
    return found


def _onnxruntime(file: Path, floats: np.ndarray) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    return lambda: session.run(None, {"images": floats})[0]


def _openvino(file: Path, floats: np.ndarray) -> Run:
    import openvino

    compiled = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda: compiled([floats])[0]


def _torch(floats: np.ndarray) -> Run:
    import torch
    from torch import nn

    torch.set_num_threads(usable_cores())
    width, heads, hidden = SMALL.width, SMALL.heads, SMALL.hidden

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
            self.three, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.dense = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            batch, count, _ = tokens.shape
            three = self.three(self.norm1(tokens)).reshape(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(*three.unbind(0))
            tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
            return tokens + self.dense(self.norm2(tokens))

    patches = nn.Conv2d(3, width, SMALL.patch, SMALL.patch)
    blocks = nn.Sequential(*[Block() for _ in range(SMALL.blocks)], nn.LayerNorm(width, 1e-6)).eval()
    first, places = torch.zeros(1, 1, width), torch.randn(1, 1 + (SIDE // SMALL.patch) ** 2, width) * 0.02

    def features() -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(floats).permute(0, 3, 1, 2) / 127.5 - 1
            embedded = patches(pixels).flatten(2).transpose(1, 2)
            tokens = torch.cat([first.expand(len(pixels), -1, -1), embedded], dim=1) + places
            return blocks(tokens)[:, 1:].mean(dim=1).numpy()

    return features


def forward(count: int, repeats: int, bfloat16: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        ways = rows(images, bfloat16, Path(folder))
        expected = ways["Keras predict"]()
        for name in sorted(set(ways) - {"PyTorch"}):  # which has other weights
            apart = np.abs(ways[name]() - expected).max() / np.abs(expected).max()
            print(f"{name}: differs by {apart:.1e} of the largest feature", flush=True)
        in_turn(ways, 1)  # compiles, and warms caches
        seconds = in_turn(ways, repeats)
    print(f"\nViT-S/16, {count} images of {SIDE} pixels at once\n")
    print(table(seconds, count, "images", "tlkit"), flush=True)


def step(count: int, repeats: int, bfloat16: bool) -> None:
    model = network()
    backbone = Backbone("ViT-S/16", model, (SIDE, SIDE), "hub", "none", "", find_blocks(model))
    with tempfile.TemporaryDirectory() as folder:
        cut_stage.compare(backbone, LEARN, count, repeats, Path(folder), bfloat16=bfloat16)


# -- Memory: a process for each row ---


def alone(name: str, count: int) -> None:
    """What the process of a row does: the features of drawn images, batch by batch."""
    grid, random = network(), np.random.default_rng(0)
    model = keras.Model(grid.input, keras.layers.GlobalAveragePooling2D()(grid.output))
    batches = (random.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8) for _ in range(count // BATCH))
    if name == "Keras predict":
        model.predict(((batch.astype(np.float32),) for batch in batches), steps=count // BATCH, verbose=0)
        return
    engine = build_engine(model, precision="bfloat16" if name.endswith("bfloat16") else "float32")
    for batch in batches:
        engine.run(batch)


def memory(count: int, repeats: int) -> None:
    print(f"\nViT-S/16, {count} images of {SIDE} pixels, {BATCH} at a time\n")
    print("| | MB, median | least to most | of Keras |\n|---|---|---|---|")
    costs: dict[str, list[float]] = {"Keras predict": [], "tlkit": [], "tlkit, bfloat16": []}
    for _ in range(repeats):
        for name, found in costs.items():
            found.append(run([sys.executable, __file__, "--alone", name, "--images", str(count)]).megabytes)
    for name, found in costs.items():
        share = median(found) / median(costs["Keras predict"])
        print(f"| {name} | {median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} | {share:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forward", action="store_true", help="the forward pass alone")
    parser.add_argument("--step", action="store_true", help="the step alone")
    parser.add_argument("--memory", action="store_true", help="peak memory alone")
    parser.add_argument("--alone", metavar="ROW", help="what the process of a row of --memory does")
    parser.add_argument("--bfloat16", action="store_true", help="also in bfloat16")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.alone:
        alone(options.alone, options.images)
        return
    everything = not (options.forward or options.step or options.memory)
    if options.memory or everything:  # first, for a child starts with the greatest resident set of its parent
        memory(options.images, options.repeats)
    if options.forward or everything:
        forward(options.images, options.repeats, options.bfloat16)
    if options.step or everything:
        step(options.images, options.repeats, options.bfloat16)
    print("\n" + machine())


if __name__ == "__main__":
    main()
