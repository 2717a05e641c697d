"""Training the last blocks: tlkit on the stored output at the cut, and Keras's `fit` through the frozen prefix.

    python benchmarks/cut_stage.py resnet50 vgg16 inceptionv3
    python benchmarks/cut_stage.py resnet50 --bfloat16

Random weights at the native size and random images; only the time matters. Both train the same layers with BatchNorm
frozen, batches of 32, compiled without XLA. Keras has the images in memory as float32 and its own loop; tlkit reads the
stored rows from a memory-mapped file, its optimizer also clips and decays. A row is one epoch after the first; they take
turns. With --bfloat16 both train in it as well, tlkit as `--precision bfloat16` does, Keras by its `mixed_bfloat16`.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
from measure import in_turn, machine, table

from tlkit.backbones.blocks import set_trainable
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.extraction.engine import build_engine
from tlkit.extraction.keras_jit import in_bfloat16
from tlkit.options.groups import TrainingOptions
from tlkit.training.examples import Examples, stored_reader
from tlkit.training.fit import Epoch, build_epoch
from tlkit.training.optimizer import Updates, unfreeze_and_compile

LEARN = {"resnet50": 3, "vgg16": 1, "inceptionv3": 2, "mobilenetv2": 4}  # last blocks: conv5, block5, mixed9 and 10
BATCH, CLASSES = 32, 10
OURS, KERAS = "tlkit at the cut", "Keras fit, frozen prefix"


def classifier(backbone: Backbone) -> keras.Model:
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.model.output)
    return keras.Model(backbone.model.input, keras.layers.Dense(CLASSES)(pooled))


def store(backbone: Backbone, cut: str, images: np.ndarray, path: Path) -> np.ndarray:
    """The output at the cut of every image, on disk."""
    engine = build_engine(keras.Model(backbone.model.input, backbone.model.get_layer(cut).output))
    np.save(path, np.concatenate([engine.run(images[start : start + 32])[0] for start in range(0, len(images), 32)]))
    return np.load(path, mmap_mode="r")


def frozen_prefix(backbone: Backbone, learn: int, precision: str) -> keras.Model:
    """All of the network, compiled for Keras's `fit`, the last blocks learning."""
    whole = classifier(backbone)
    if precision == "bfloat16":
        whole = in_bfloat16(whole)
    set_trainable(whole, learn, blocks=backbone.blocks)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    whole.compile(optimizer=keras.optimizers.Adam(1e-5), loss=loss, metrics=["accuracy"], jit_compile=False)
    return whole


def at_the_cut(backbone: Backbone, learn: int, precision: str) -> Epoch:
    """Tlkit's loop over what follows the cut."""
    suffix = keras.Model(
        backbone.model.get_layer(backbone.blocks[-learn - 1].output).output, classifier(backbone).output
    )
    suffix = keras.models.clone_model(suffix)
    options = TrainingOptions()
    unfreeze_and_compile(suffix, options, blocks=backbone.blocks, learn=learn, updates=Updates(1e-5, 1000))
    return build_epoch(suffix, precision=precision)


def compare(backbone: Backbone, learn: int, count: int, repeats: int, folder: Path, *, bfloat16: bool) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *backbone.image_size, 3)).astype(np.float32)
    labels = random.integers(0, CLASSES, count)
    cut = backbone.blocks[-learn - 1].output
    started = time.perf_counter()
    stored = store(backbone, cut, images, folder / "cut.npy")
    storing = time.perf_counter() - started
    weights = np.ones(count, np.float32)
    read = stored_reader([stored], 0)
    examples = Examples(read=read, labels=labels, weights=weights, classes=CLASSES, batch_size=BATCH, seed=0)
    rows = {}
    for precision, also in (("float32", ""), ("bfloat16", ", bfloat16"))[: 1 + bfloat16]:
        epoch, whole = at_the_cut(backbone, learn, precision), frozen_prefix(backbone, learn, precision)
        rows[OURS + also] = partial(epoch, examples, 0)
        rows[KERAS + also] = partial(whole.fit, images, labels, batch_size=BATCH, verbose=0)
    in_turn(rows, 1)  # the first epoch, which traces and compiles
    seconds = in_turn(rows, repeats)
    print(f"\n{backbone.name}, {learn} last blocks after {cut}, {count} images of {backbone.image_size[0]} pixels\n")
    for ours in (row for row in rows if row.startswith(OURS)):
        print(table(seconds, count, "images", ours) + "\n")
    size = (folder / "cut.npy").stat().st_size
    print(
        f"\non disk: {size / 2**20:.1f} MB, {size / count / 2**10:.0f} KB an image; stored once in {storing:.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", choices=list(LEARN))
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true", help="both in bfloat16 too")
    options = parser.parse_args()
    for name in options.backbones:
        with tempfile.TemporaryDirectory() as folder:
            backbone = build_backbone(name, weights="none")
            compare(backbone, LEARN[name], options.images, options.repeats, Path(folder), bfloat16=options.bfloat16)
        keras.utils.clear_session()
    print("\n" + machine())


if __name__ == "__main__":
    main()
