"""The two recipes everybody copies, and tlkit, side by side on one machine.

    python benchmarks/standard_recipes.py images --weights mobilenetv2_0.35_224_no_top.h5

`tutorial`  TensorFlow's "Transfer learning and fine-tuning": Adam 1e-4 on the head for 10 epochs,
            then RMSprop 1e-5 from layer 100 on for 10.
`guide`     keras.io's "Transfer learning & fine-tuning": Adam 1e-3 on the head for 20 epochs, then
            Adam 1e-5 on everything for 10.
`tlkit`     `tlkit finetune` with no flag but the backbone, from an empty cache to the report.

All use MobileNetV2 (alpha 0.35, 224 pixels) and the same images: the folder's own train and val
where it has them, tlkit's stratified 80/20 split elsewhere. Each runs in a process of its own;
seconds are wall time of that process, imports included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPES = ("tutorial", "guide", "tlkit")
SIZE = 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file in Keras's format")
    parser.add_argument("--recipe", choices=RECIPES, help="run only this one, in this process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    if options.recipe:
        runs = {"tutorial": tutorial, "guide": guide, "tlkit": tlkit_default}
        print(json.dumps(runs[options.recipe](options)))
        return
    print("| recipe | seed | validation accuracy | macro F1 | seconds |\n|---|---|---|---|---|")
    for seed in range(options.seed, options.seed + options.repeat):
        for recipe in RECIPES:
            command = [sys.executable, __file__, str(options.images), "--weights", options.weights]
            started = time.perf_counter()
            done = subprocess.run(
                [*command, "--recipe", recipe, "--seed", str(seed)], stdout=subprocess.PIPE, text=True, check=True
            )
            seconds = time.perf_counter() - started
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {recipe} | {seed} | {found['accuracy']:.3f} | {found['macro_f1']:.3f} | {seconds:.1f} |", flush=True
            )


def folders(images: Path, into: Path, seed: int) -> Path:
    """`into/train` and `into/val` with links to the images, split as tlkit splits them."""
    from tlkit.data.scan import scan
    from tlkit.data.split import split

    dataset = scan(images)
    splits = split(dataset, val=0.2, test=0.0, seed=seed)
    for index, name in enumerate(splits.names()):
        link = into / name / dataset.label_name(index) / f"{index:06d}{dataset.file(index).suffix.lower()}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(dataset.file(index).resolve())
    return into


def datasets(options: argparse.Namespace, batch_size: int, folder: Path) -> tuple:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(options.seed)
    common = {"image_size": (SIZE, SIZE), "batch_size": batch_size, "follow_links": True}
    train = keras.utils.image_dataset_from_directory(folder / "train", seed=options.seed, verbose=False, **common)
    val = keras.utils.image_dataset_from_directory(folder / "val", shuffle=False, verbose=False, **common)
    classes = len(train.class_names)
    return train.prefetch(tf.data.AUTOTUNE), val.prefetch(tf.data.AUTOTUNE), classes


def network(options: argparse.Namespace, classes: int, rotation: float) -> tuple:
    """Augmentation, preprocessing, frozen base, pooling, dropout, dense: as both recipes write it."""
    import keras

    base = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=options.weights
    )
    base.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    tensor = keras.layers.RandomRotation(rotation)(keras.layers.RandomFlip("horizontal")(inputs))
    tensor = base(keras.layers.Rescaling(1 / 127.5, offset=-1)(tensor), training=False)
    tensor = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(tensor))
    return keras.Model(inputs, keras.layers.Dense(classes)(tensor)), base


def fit(model: object, optimizer: object, train: object, val: object, epochs: int) -> None:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    model.fit(train, validation_data=val, epochs=epochs, verbose=0)


def measured(model: object, val: object) -> dict[str, float]:
    import numpy as np
    from sklearn.metrics import accuracy_score, f1_score

    truth = np.concatenate([np.asarray(labels) for _, labels in val])
    found = model.predict(val, verbose=0).argmax(axis=1)
    return {"accuracy": accuracy_score(truth, found), "macro_f1": f1_score(truth, found, average="macro")}


def tutorial(options: argparse.Namespace) -> dict[str, float]:
    import keras

    with tempfile.TemporaryDirectory() as folder:
        train, val, classes = datasets(options, 32, folders(options.images, Path(folder), options.seed))
        model, base = network(options, classes, rotation=0.2)
        fit(model, keras.optimizers.Adam(1e-4), train, val, 10)
        base.trainable = True
        for layer in base.layers[:100]:
            layer.trainable = False
        fit(model, keras.optimizers.RMSprop(1e-5), train, val, 10)
        return measured(model, val)


def guide(options: argparse.Namespace) -> dict[str, float]:
    import keras

    with tempfile.TemporaryDirectory() as folder:
        train, val, classes = datasets(options, 64, folders(options.images, Path(folder), options.seed))
        model, base = network(options, classes, rotation=0.1)
        fit(model, keras.optimizers.Adam(1e-3), train, val, 20)
        base.trainable = True
        fit(model, keras.optimizers.Adam(1e-5), train, val, 10)
        return measured(model, val)


def tlkit_default(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TLKIT_CACHE": f"{folder}/cache"}
        images = folders(options.images, Path(folder) / "images", options.seed)
        command = [sys.executable, "-m", "tlkit", "finetune", str(images), "--backbone", "mobilenetv2:alpha=0.35"]
        command += ["--weights", options.weights, "--out", f"{folder}/run", "--seed", str(options.seed), "--json"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout)["metrics"]["val"]
        return {name: found[name]["value"] for name in ("accuracy", "macro_f1")}


if __name__ == "__main__":
    main()
