"""Stage 1: epochs of a head on features computed once, and as many frozen epochs of the keras.io guide's recipe.

    python benchmarks/head_stage.py hymenoptera --weights mobilenetv2_0.35_224_no_top.h5

The guide reads the files and runs the frozen network in every epoch, and validates. tlkit starts with an empty store:
it scans, builds its network, decodes and extracts every image once (a view of each; `8 views`: seven more of the
training images), then trains a linear head with the guide's dropout for as many epochs, validates and checkpoints each.
`whole run` is `tlkit finetune --stages head`, that is the same and the plan, the evaluation with its intervals, the
saved classifier and the report. Wall time inside one process, imports aside, the network's construction included.
"""

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from measure import in_turn, machine, ratio
from standard_recipes import SIZE, datasets, folders, network
from standard_recipes import fit as fit_plainly


def guide(options: argparse.Namespace, folder: Path, epochs: int) -> None:
    import keras

    train, val, classes = datasets(options, 64, folder)
    model, _ = network(options, classes, rotation=0.1)
    fit_plainly(model, keras.optimizers.Adam(1e-3), train, val, epochs)


def config_of(options: argparse.Namespace, folder: Path, epochs: int, views: int, out: str = "run") -> object:
    from tlkit.options.commands import FinetuneConfig

    return FinetuneConfig(
        images=str(folder),
        backbone="mobilenetv2:alpha=0.35",
        weights=options.weights,
        stages=("head",),
        dropout=0.2,  # as in the guide; a head with dropout is trained, not solved
        epochs=(epochs,),
        patience=epochs,
        views=views,
        out=out,
        seed=options.seed,
    )


def whole(options: argparse.Namespace, folder: Path, epochs: int) -> None:
    from tlkit.pipelines.finetune import run

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TLKIT_CACHE"] = f"{scratch}/cache"
        run(config_of(options, folder, epochs, 1, f"{scratch}/run"))


def stage(options: argparse.Namespace, folder: Path, epochs: int, views: int) -> None:
    import numpy as np

    from tlkit.backbones.build import build_backbone
    from tlkit.base.story import Silence
    from tlkit.classifier.heads.build import build_head
    from tlkit.data.dataset import InputContract
    from tlkit.data.scan import scan
    from tlkit.data.split import split
    from tlkit.data.views import Augmentation
    from tlkit.extraction.source import FeatureSource, Tap
    from tlkit.training.checkpoint import Checkpoint
    from tlkit.training.examples import Examples, stored_reader
    from tlkit.training.fit import Steps, Stopping, Validation, fit
    from tlkit.training.optimizer import Updates, unfreeze_and_compile

    config, dataset = config_of(options, folder, epochs, views), scan(folder)
    splits = split(dataset, val=0.2, test=0.0, seed=options.seed)
    train, val = splits.indices("train"), splits.indices("val")
    backbone = build_backbone(config.backbone, weights=config.weights)
    head = build_head(config, backbone.grid_shape, len(dataset.classes))
    tap = Tap(backbone.model.layers[-1].name, head.pooling)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TLKIT_CACHE"] = f"{scratch}/cache"
        source = FeatureSource.of_backbone(backbone, InputContract(height=SIZE, width=SIZE), tap)
        found = source.extract(
            dataset,
            views=range(views),
            viewed=train,
            augmentation=Augmentation(seed=options.seed),
        ).features
        held, labels = found[tap.name, 0], dataset.labels
        examples = Examples(
            read=stored_reader([found[tap.name, view].select(train) for view in range(views)], options.seed),
            labels=labels[train],
            weights=np.ones(len(train), np.float32),
            classes=len(dataset.classes),
            batch_size=config.batch_size,
            seed=options.seed,
        )
        fit(
            head.model,
            Steps(
                lambda parts: unfreeze_and_compile(
                    head.model,
                    config,
                    blocks=(),
                    learn=0,
                    updates=Updates(1e-3, epochs * examples.updates, parts=parts),
                )
            ),
            examples,
            Validation(read=lambda positions, epoch: held[val[positions]], labels=labels[val]),
            stage="head",
            stopping=Stopping(epochs=epochs, patience=epochs),
            checkpoint=Checkpoint(Path(scratch) / "head"),
            story=Silence(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file in Keras's format")
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = ("stage 1", "stage 1, 8 views", "whole run")
    print(f"| epochs | guide, s | {' | '.join(f'{row}, s | faster by' for row in rows)} |\n" + "|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as made:
        folder = folders(options.images, Path(made), options.seed)
        stage(options, folder, 1, 1)  # imports and loads what a process loads once
        whole(options, folder, 1)
        for epochs in options.epochs:
            ways = {
                "guide": partial(guide, options, folder, epochs),
                rows[0]: partial(stage, options, folder, epochs, 1),
                rows[1]: partial(stage, options, folder, epochs, 8),
                rows[2]: partial(whole, options, folder, epochs),
            }
            seconds = in_turn(ways, options.repeats)
            cells = [f"{median(seconds['guide']):.1f}"]
            for row in rows:
                mid, low, high = ratio(seconds[row], seconds["guide"])
                cells += [f"{median(seconds[row]):.2f}", f"{mid:.1f} ({low:.1f} to {high:.1f})"]
            print(f"| {epochs} | {' | '.join(cells)} |", flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
