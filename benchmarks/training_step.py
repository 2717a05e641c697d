"""A training step of the last blocks: tlkit's loop, in float32 and bfloat16, Keras's `fit`, XLA, the arithmetic alone.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --networks resnet50,vgg16,inceptionv3 --rows tlkit,bfloat16

Random weights and random activations: only the time matters. `arithmetic` runs the same compiled steps on batches that
already lie in memory as the backend wants them; `tlkit` reads shuffled batches from a memory-mapped file on disk, as
stages do, and so does `bfloat16`. Every repeat is three epochs, so that what `fit` does once is shared out; the rows take turns.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from measure import in_turn, machine, table

from tlkit.options.groups import TrainingOptions
from tlkit.training.examples import Chunk, Examples, stored_reader
from tlkit.training.fit import build_epoch
from tlkit.training.optimizer import Updates, build_loss, unfreeze_and_compile

BATCH, EPOCHS = 32, 3


def head() -> keras.Model:
    """Two dense layers on pooled features."""
    inputs = keras.Input((1280,))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(256, activation="relu")(inputs)))


def suffix(name: str, cut: str, side: int = 224, **options: float) -> Callable[[], keras.Model]:
    """What follows `cut`, BatchNorm frozen, and a linear head."""

    def build() -> keras.Model:
        shape = (side, side, 3)
        base = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=shape, **options)
        pooled = keras.layers.GlobalAveragePooling2D()(base.output)
        model = keras.Model(base.get_layer(cut).output, keras.layers.Dense(2)(pooled))
        for layer in model.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        return model

    return build


CASES = {
    "mlp": ("mlp head on pooled features", head, 4096),
    "mobilenetv2": (
        "MobileNetV2 (0.35) after block_12_add",
        suffix("MobileNetV2", "block_12_add", alpha=0.35),
        512,
    ),
    "resnet50": ("ResNet50 after conv4_block6_out", suffix("ResNet50", "conv4_block6_out"), 96),
    "vgg16": ("VGG16 after block4_pool", suffix("VGG16", "block4_pool"), 96),
    "inceptionv3": ("InceptionV3 after mixed8, 299 pixels", suffix("InceptionV3", "mixed8", 299), 96),
}
ROWS = ("tlkit", "bfloat16", "arithmetic", "fit")


class Ready:
    """The batches of an epoch, read once."""

    def __init__(self, examples: Examples) -> None:
        self.updates, self.parts, self.labels = examples.updates, examples.parts, examples.labels
        place = keras.ops.convert_to_tensor
        self.made = [Chunk(*map(place, chunk)) for chunk in examples.chunks(0)]

    def chunks(self, epoch: int, place: Callable) -> list[Chunk]:
        """What `Examples.chunks` would have made."""
        return self.made


def compiled(build: Callable[[], keras.Model]) -> keras.Model:
    model = build()
    unfreeze_and_compile(model, TrainingOptions(), blocks=(), learn=0, updates=Updates(1e-3, 1000))
    return model


def rows(build: Callable[[], keras.Model], count: int, folder: Path) -> dict[str, Callable[[], object]]:
    random, shape = np.random.default_rng(0), build().input_shape[1:]
    np.save(folder / "rows.npy", random.random((count, *shape), dtype=np.float32))
    stored, labels = np.load(folder / "rows.npy", mmap_mode="r"), random.integers(0, 2, count)
    inputs, one_hot = np.array(stored), np.eye(2, dtype=np.float32)[labels]
    examples = Examples(
        read=stored_reader([stored], 0),
        labels=labels,
        weights=np.ones(count, np.float32),
        classes=2,
        batch_size=BATCH,
        seed=0,
    )
    ours, alone = build_epoch(compiled(build)), build_epoch(compiled(build))
    half = build_epoch(compiled(build), precision="bfloat16")
    ready = Ready(examples)

    def fitting(jit: bool) -> Callable[[], object]:
        model = compiled(build)
        model.compile(
            optimizer=model.optimizer, loss=build_loss(TrainingOptions()), metrics=["accuracy"], jit_compile=jit
        )
        return lambda: model.fit(inputs, one_hot, batch_size=BATCH, epochs=EPOCHS, verbose=0)

    return {
        "tlkit": lambda: [ours(examples, epoch) for epoch in range(EPOCHS)],
        "bfloat16": lambda: [half(examples, epoch) for epoch in range(EPOCHS)],
        "arithmetic": lambda: [alone(ready, epoch) for epoch in range(EPOCHS)],
        "fit": fitting(jit=False),
        "fit, XLA": fitting(jit=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--xla", action="store_true", help="also with XLA")
    parser.add_argument("--networks", default=",".join(CASES), help="which, separated by commas")
    parser.add_argument("--rows", default=",".join(ROWS), help="which, separated by commas")
    options = parser.parse_args()
    wanted = [*options.rows.split(","), *["fit, XLA"] * options.xla]
    for name, build, count in (CASES[each] for each in options.networks.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            made = rows(build, count, Path(folder))
            ways = {row: made[row] for row in wanted}
            in_turn(ways, 1)  # traces and compiles
            seconds = in_turn(ways, options.repeats)
        print(f"\n{name}, {count // BATCH} steps of {BATCH} an epoch\n", flush=True)
        print(table(seconds, EPOCHS * count // BATCH, "steps", "tlkit"), flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
