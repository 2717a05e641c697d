"""The memory of a stage as the plan states it, and as a process really takes it.

    python benchmarks/memory.py

Each row is a process of its own: it builds the network, notes its peak memory, runs two epochs of a stage from random
weights on random inputs, and says by how much the peak grew (`ru_maxrss`).
"""

import argparse
import json
import resource
import subprocess
import sys

CASES = {
    "mobilenetv2:alpha=0.35": ("top", "all"),
    "resnet50": ("top", "all"),
    "vgg16": ("top", "all"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--one", nargs=2, metavar=("BACKBONE", "STAGE"), help="run only this one, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one, options.batch_size)))
        return
    print("| backbone | stage | stated, MB | measured, MB | stated / measured |\n|---|---|---|---|---|")
    for name, stages in CASES.items():
        for stage in stages:
            command = [sys.executable, __file__, "--batch-size", str(options.batch_size), "--one", name, stage]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            stated, found = json.loads(done.stdout.splitlines()[-1])
            print(f"| {name} | {stage} | {stated:,.0f} | {found:,.0f} | {stated / found:.2f} |", flush=True)


def peak() -> float:
    """MB of this process at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(name: str, stage: str, batch_size: int) -> tuple[float, float]:
    import keras
    import numpy as np

    from tlkit.backbones.build import build_backbone
    from tlkit.options.commands import FinetuneConfig
    from tlkit.training.costs import estimate
    from tlkit.training.examples import Examples
    from tlkit.training.fit import build_epoch
    from tlkit.training.optimizer import Updates, unfreeze_and_compile
    from tlkit.training.plan import parameters, planned_blocks

    config = FinetuneConfig(images="images")
    backbone = build_backbone(name, weights="none")
    logits = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(backbone.model.output))
    learn = planned_blocks(backbone.blocks, backbone) if stage == "top" else len(backbone.blocks)
    start = (
        backbone.model.get_layer(backbone.blocks[-learn - 1].output).output if stage == "top" else backbone.model.input
    )
    model = keras.Model(start, logits)
    layers = model.layers[1:] if stage == "top" else model.layers
    stated = estimate(model, layers, parameters(layers), config.optimizer)
    weights = 4 * parameters(layers)  # which the process holds before it trains
    inputs = np.random.default_rng(0).random((batch_size, *model.input_shape[1:]), dtype=np.float32)
    rows = 2 * batch_size
    examples = Examples(
        read=lambda positions, epoch: inputs[positions % batch_size],
        labels=np.arange(rows) % 10,
        weights=np.ones(rows, np.float32),
        classes=10,
        batch_size=batch_size,
        seed=0,
    )
    unfreeze_and_compile(model, config, blocks=backbone.blocks, learn=learn, updates=Updates(1e-3, 4))
    slots = sum(4 * int(np.prod(variable.shape)) for variable in model.optimizer.variables)
    before = peak()
    epoch = build_epoch(model)
    for number in range(2):
        epoch(examples, number)
    grown = (peak() - before) * 2**20
    return stated.total(batch_size) / 2**20, (grown + weights + slots) / 2**20


if __name__ == "__main__":
    main()
