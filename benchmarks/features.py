"""`tlkit features` on a real folder: order, values against Keras's own forward pass, peak memory.

    python benchmarks/features.py flowers --weights mobilenetv2_0.35_224_no_top.h5

Peak memory is that of the whole process (`ru_maxrss`), on 400 images of the folder and on all of
them, each from an empty store.
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

BACKBONE = "mobilenetv2:alpha=0.35"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--some", type=int, default=400, help="images of the smaller run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        part = some_of(options.images, Path(folder) / "some", options.some)
        small = peak(part, options.weights, Path(folder) / "some.csv")
        large = peak(options.images, options.weights, Path(folder) / "all.csv")
        paths, values = read(Path(folder) / "all.csv")
        difference = against_keras(options.images, options.weights, paths, values)
    print(f"rows: {len(paths)}, in order: {paths == sorted(paths)}, features: {values.shape[1]}")
    print(f"greatest difference from Keras's predict on the same decoded pixels: {difference:.2e}")
    print(f"peak memory: {small:.0f} MB on {options.some} images, {large:.0f} MB on all: {large - small:+.0f} MB")


def some_of(images: Path, into: Path, count: int) -> Path:
    """Links to `count` images, evenly over the classes."""
    from tlkit.data.scan import scan

    dataset = scan(images)
    for index in np.linspace(0, len(dataset) - 1, count).astype(int):
        link = into / dataset.label_name(index) / f"{index}{dataset.file(index).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(dataset.file(index).resolve())
    return into


def peak(images: Path, weights: str, out: Path) -> float:
    """MB of the largest child so far; the runs go from small to large, so it is this one's."""
    command = [sys.executable, "-m", "tlkit", "features", str(images), "--backbone", BACKBONE]
    environment = os.environ | {"TLKIT_CACHE": f"{out}.cache"}
    subprocess.run([*command, "--weights", weights, "--out", str(out)], env=environment, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def read(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([row[3:] for row in rows], np.float32)


def against_keras(images: Path, weights: str, paths: list[str], values: np.ndarray) -> float:
    from tlkit.backbones.build import build_backbone
    from tlkit.data.dataset import InputContract
    from tlkit.data.decode import decode

    model = build_backbone(BACKBONE, weights=weights).model
    contract = InputContract(height=224, width=224)
    worst = 0.0
    for start in range(0, len(paths), 64):
        pixels = np.stack([decode(images / path, contract) for path in paths[start : start + 64]])
        features = model.predict_on_batch(pixels).mean(axis=(1, 2))
        worst = max(worst, float(np.abs(features - values[start : start + 64]).max()))
    return worst


if __name__ == "__main__":
    main()
