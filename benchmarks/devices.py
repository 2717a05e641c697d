r"""Training on two devices against one, JAX: the same losses, the same metrics.

    python benchmarks/devices.py [--seeds 0,1,2,3,4] [--out results.md]

The devices are virtual ones of the processor, so that nothing is said about speed. Every seed draws 101 images and trains
head and last blocks of nano on them for three epochs in batches of 32, on one device and on two, to the written report.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import machine
from recipe import listed

PROGRAM = """
import json
import sys

import tlkit
from tlkit.base.story import Silence

folder, devices, seeds = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
options = {"backbone": "nano", "image_size": 64, "head": "mlp", "dropout": 0.3, "epochs": 3, "blocks": 2, "val": 0.3}
for seed in seeds:
    tlkit.finetune(
        f"{folder}/images{seed}", **options, stages=("head", "top"), batch_size=32, devices=devices, seed=int(seed),
        audit=False, out=f"{folder}/run{devices}-{seed}", story=Silence(),
    )
"""


def draw(folder: Path, seed: int, count: int = 101) -> None:
    """Noisy squares of three colours that overlap."""
    from PIL import Image

    random = np.random.default_rng(seed)
    for number in range(count):
        label = number % 3
        pixels = random.integers(0, 150, (48, 48, 3))
        pixels[12:36, 12:36, label] += random.integers(0, 60)
        path = folder / "abc"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def losses(run: Path) -> np.ndarray:
    """Training and validation loss of every epoch."""
    with (run / "history.csv").open(newline="") as file:
        return np.array(
            [float(row[name]) for row in csv.DictReader(file) for name in ("loss", "val_loss") if row[name]]
        )


def test_metrics(run: Path) -> tuple[float, float]:
    """Accuracy and log loss on the test images."""
    found = json.loads((run / "metrics.json").read_text())["test"]
    return found["accuracy"]["value"], found["log_loss"]["value"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=listed, default=["0", "1", "2", "3", "4"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for seed in asked.seeds:
            draw(folder / f"images{seed}", int(seed))
        two = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        for devices in ("1", "2"):
            program = [sys.executable, "-c", PROGRAM, scratch, devices, ",".join(asked.seeds)]
            subprocess.run(program, env=os.environ | two | {"TLKIT_CACHE": f"{scratch}/cache"}, check=True)
        rows = [
            "| seed | epochs' losses differ by at most | test accuracy, one / two | test log loss, one / two |",
            "|---|---|---|---|",
        ]
        for seed in asked.seeds:
            one, other = (folder / f"run{devices}-{seed}" for devices in ("1", "2"))
            apart = np.abs(losses(one) - losses(other)).max()
            (right, loss), (right_too, loss_too) = test_metrics(one), test_metrics(other)
            rows.append(f"| {seed} | {apart:.1e} | {right:.4f} / {right_too:.4f} | {loss:.6f} / {loss_too:.6f} |")
    text = f"{machine()}\n\n" + "\n".join(rows) + "\n"
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
