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
    from tlkit.options.commands import FinetuneConfig
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--val", type=float, default=0.1)
    parser.add_argument("--test", type=float, default=0.7)
    parser.add_argument("--no-flip", nargs="*", default=[], help="names of sets whose images must not be mirrored")
    options = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    print("| set | views | seed | accuracy | log loss | seconds |\n|---|---|---|---|---|---|")
    for images in options.images:
        for seed in options.seeds:
            for name, views in VIEWS.items():
                accuracy, loss, seconds = one(images, options, views, seed)
                found.setdefault((images.name, name), []).append((accuracy, loss, seconds))
                print(f"| {images.name} | {name} | {seed} | {accuracy:.3f} | {loss:.3f} | {seconds:.0f} |", flush=True)
    print("\n| set | views | accuracy, mean | log loss, mean | seconds, median |\n|---|---|---|---|---|")
    for (images_name, name), rows in found.items():
        accuracies, losses, seconds_each = zip(*rows, strict=True)
        print(
            f"| {images_name} | {name} | {statistics.mean(accuracies):.3f} | {statistics.mean(losses):.3f} "
            f"| {statistics.median(seconds_each):.0f} |"
        )
    print("\n" + machine())


if __name__ == "__main__":
    main()
