"""What augmentation buys and costs: 1, 4 or 8 stored views of each training image, or fresh ones every epoch.

    python benchmarks/views.py hymenoptera sign-digits --weights mobilenetv2_0.35_224_no_top.h5 --no-flip sign-digits

MobileNetV2 (0.35), head and top stages, every run from an empty store. A set without a split of its own is split by
each seed (`--val`, `--test`: 20 % are left for training); accuracy is that of the test images,
or of the validation images where the set brings its own split without test.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from measure import machine

VIEWS = {"1": 1, "4": 4, "8": 8, "fresh": 0}


def one(images: Path, options: argparse.Namespace, views: int, seed: int) -> tuple[float, float, float]:
    """(accuracy, log loss, seconds) of one run."""
    from tlkit.core.config import FinetuneConfig
    from tlkit.pipelines.finetune import run

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TLKIT_CACHE"] = f"{scratch}/cache"
        config = FinetuneConfig(
            images=str(images),
            backbone="mobilenetv2:alpha=0.35",
            weights=options.weights,
            views=views,
            flip=images.name not in options.no_flip,
            val=options.val,
            test=options.test,
            out=f"{scratch}/run",
            seed=seed,
        )
        started = time.perf_counter()
        metrics = run(config)["metrics"]
        seconds = time.perf_counter() - started
    held = metrics.get("test") or metrics["val"]
    return held["accuracy"]["value"], held["log_loss"]["value"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file in Keras's format")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--val", type=float, default=0.1)
    parser.add_argument("--test", type=float, default=0.7)
    parser.add_argument("--no-flip", nargs="*", default=[], help="names of sets whose images must not be mirrored")
    options = parser.parse_args()
    print("| set | views | accuracy, mean | each seed | log loss, mean | seconds, median |\n|---|---|---|---|---|---|")
    for images in options.images:
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in VIEWS}
        for seed in range(options.seeds):
            for name, views in VIEWS.items():
                found[name].append(one(images, options, views, seed))
        for name, rows in found.items():
            accuracies, losses, seconds = zip(*rows, strict=True)
            each = ", ".join(f"{value:.3f}" for value in accuracies)
            print(
                f"| {images.name} | {name} | {statistics.mean(accuracies):.3f} | {each} | {statistics.mean(losses):.3f} "
                f"| {statistics.median(seconds):.0f} |",
                flush=True,
            )
    print("\n" + machine())


if __name__ == "__main__":
    main()
