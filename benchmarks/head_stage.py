"""Stage 1: epochs of a head on features computed once, and as many frozen epochs of the keras.io guide's recipe.

    python benchmarks/head_stage.py hymenoptera --weights mobilenetv2_0.35_224_no_top.h5

The guide reads the files and runs the frozen network in every epoch, and validates. tlkit starts with an empty store:
it builds its network, decodes and extracts every image once (a view of each; `8 views`: seven more of the training
images), then trains a linear head by gradient descent for as many epochs, validates and checkpoints. Wall time inside
one process, imports aside, the network's construction included on both sides.
"""

import argparse
import os
import tempfile
from pathlib import Path

from measure import in_turn, machine, ratio
from standard_recipes import datasets, fit, folders, network


def guide(options: argparse.Namespace, folder: Path, epochs: int) -> None:
    import keras

    train, val, classes = datasets(options, 64, folder)
    model, _ = network(options, classes, rotation=0.1)
    fit(model, keras.optimizers.Adam(1e-3), train, val, epochs)


def tlkit(options: argparse.Namespace, folder: Path, epochs: int, views: int) -> None:
    from tlkit.core.config import FinetuneConfig
    from tlkit.pipelines.finetune import run

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TLKIT_CACHE"] = f"{scratch}/cache"
        config = FinetuneConfig(
            images=str(folder),
            backbone="mobilenetv2:alpha=0.35",
            weights=options.weights,
            stages=("head",),
            dropout=0.2,  # as in the guide; a head with dropout is trained, not solved
            epochs=(epochs,),
            patience=epochs,
            views=views,
            out=f"{scratch}/run",
            seed=options.seed,
        )
        run(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file in Keras's format")
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| epochs | guide, s | tlkit, s | faster by | tlkit with 8 views, s | faster by |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        folder = folders(options.images, Path(made), options.seed)
        tlkit(options, folder, 1, 1)  # imports and loads what a process loads once
        for epochs in options.epochs:
            seconds = in_turn(
                {
                    "guide": lambda epochs=epochs: guide(options, folder, epochs),
                    "one": lambda epochs=epochs: tlkit(options, folder, epochs, 1),
                    "eight": lambda epochs=epochs: tlkit(options, folder, epochs, 8),
                },
                options.repeats,
            )
            mid = {name: sorted(times)[len(times) // 2] for name, times in seconds.items()}
            one, eight = (ratio(seconds[name], seconds["guide"]) for name in ("one", "eight"))
            print(
                f"| {epochs} | {mid['guide']:.1f} | {mid['one']:.2f} | {one[0]:.1f} ({one[1]:.1f} to {one[2]:.1f}) "
                f"| {mid['eight']:.2f} | {eight[0]:.1f} ({eight[1]:.1f} to {eight[2]:.1f}) |",
                flush=True,
            )
    print("\n" + machine())


if __name__ == "__main__":
    main()
