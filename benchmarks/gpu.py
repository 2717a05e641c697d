"""ResNet50 on an accelerator with the JAX backend: features and a fine-tuning epoch, against Keras and PyTorch.

    python benchmarks/gpu.py                                                    # 2,048 images, 224 pixels, bfloat16
    python benchmarks/gpu.py --images 8 --size 64 --batch-size 4 --precision float32   # a trial on any processor

TensorFlow is not needed. Random weights and drawn photographs (JPEG, 500 x 375): only the time matters. The same
images, sizes and precision for every row; models are built, compiled and warm before the clock starts.

`tlkit`    its decoder, its engine and its training loop.
`Keras`    `predict` and `fit` of the same model, mixed precision by Keras's policy; files by `load_img` in threads.
`PyTorch`  the same network, channels last, autocast, compiled by `torch.compile` (and eager, for orientation); files by
           Pillow in the processes of a DataLoader. Left out, and said, where it is not installed.

The last table holds each row's multiplications and additions against those of large matrix products on the same
device in the same precision.
"""

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch wants room on the same card

import jax
import keras
import numpy as np
from measure import in_turn, machine, table
from PIL import Image, ImageFilter

from tlkit.backbones.arithmetic import operations
from tlkit.backbones.build import Backbone, build_backbone
from tlkit.backbones.runtime import gpus
from tlkit.base.machine import usable_cores
from tlkit.data.dataset import InputContract
from tlkit.data.decode import batches
from tlkit.extraction.engine import build_engine
from tlkit.extraction.keras_jit import in_bfloat16
from tlkit.options.commands import FinetuneConfig
from tlkit.training.examples import Examples
from tlkit.training.fit import build_epoch
from tlkit.training.optimizer import Updates, unfreeze_and_compile

CLASSES = 10
RATE = 1e-4
Work = Callable[[], object]
Rows = dict[str, Work]


class Task:
    """One network, and images both as files and as pixels in memory.

    Args:
        files: JPEG files.
        size: side in pixels.
        batch_size: of every row.
        precision: `float32` or `bfloat16`.
    """

    def __init__(self, files: list[Path], size: int, batch_size: int, precision: str) -> None:
        self.files, self.size, self.batch_size, self.precision = files, size, batch_size, precision
        self.contract = InputContract(height=size, width=size)
        self.pixels = np.concatenate([batch.images for batch in batches(files, self.contract, batch_size)])
        self.labels = np.arange(len(files)) % CLASSES
        self.backbone: Backbone = build_backbone("resnet50", weights="none", image_size=size)

    def model(self, *, classify: bool) -> keras.Model:
        """Images to pooled features, or to logits; in the precision of the task, sharing no layer with others."""
        output = keras.layers.GlobalAveragePooling2D()(self.backbone.model.output)
        if classify:
            output = keras.layers.Dense(CLASSES, dtype="float32", name="logits")(output)
        model = keras.Model(self.backbone.model.input, output)
        if self.precision == "bfloat16":
            return in_bfloat16(model)
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    def parts(self) -> Iterator[np.ndarray]:
        """The pixels, batch by batch."""
        for start in range(0, len(self.pixels), self.batch_size):
            yield self.pixels[start : start + self.batch_size]


def drawn(folder: Path, count: int) -> list[Path]:
    """Files that take as long to decode as photographs: smooth noise with grain, 500 x 375 pixels."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375), Image.BICUBIC)
        grain = random.normal(0, 12, (375, 500, 3))
        pixels = np.clip(np.asarray(coarse.filter(ImageFilter.SMOOTH)) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=90)
    return sorted(folder.iterdir())


# -- features ----------------------------------------------------------------------------------


def tlkit_features(task: Task) -> tuple[Work, Work]:
    """The engine on pixels in memory, and on files."""
    output = keras.layers.GlobalAveragePooling2D()(task.backbone.model.output)
    engine = build_engine(keras.Model(task.backbone.model.input, output), engine="keras", precision=task.precision)

    def memory() -> None:
        for _ in engine.ahead(task.parts(), lambda images: images):
            pass

    def files() -> None:
        read = batches(task.files, task.contract, task.batch_size)
        for _ in engine.ahead(read, lambda batch: batch.images):
            pass

    return memory, files


class KerasFiles(keras.utils.PyDataset):
    """Batches as a Keras program without TensorFlow reads them."""

    def __init__(self, task: Task) -> None:
        super().__init__(workers=usable_cores(), max_queue_size=2 * usable_cores())
        self.task = task

    def __len__(self) -> int:
        return -(-len(self.task.files) // self.task.batch_size)

    def __getitem__(self, index: int) -> np.ndarray:
        part = self.task.files[index * self.task.batch_size : (index + 1) * self.task.batch_size]
        size = (self.task.size, self.task.size)
        images = [keras.utils.load_img(file, target_size=size, interpolation="bilinear") for file in part]
        return np.stack([keras.utils.img_to_array(image) for image in images])


def keras_features(task: Task) -> tuple[Work, Work]:
    """`predict` on pixels in memory, and on files."""
    model = task.model(classify=False)
    return (
        lambda: model.predict(task.pixels, batch_size=task.batch_size, verbose=0),
        lambda: model.predict(KerasFiles(task), verbose=0),
    )


# -- a fine-tuning epoch -----------------------------------------------------------------------


def tlkit_epoch(task: Task) -> Work:
    """Everything learns but BatchNorm, as in the stage `all`; without augmentation, as below."""
    model, config = task.model(classify=True), FinetuneConfig(images=".", batch_size=task.batch_size)
    examples = Examples(
        read=lambda positions, epoch: task.pixels[positions],
        labels=task.labels,
        weights=np.ones(len(task.labels), np.float32),
        classes=CLASSES,
        batch_size=task.batch_size,
        seed=0,
    )
    unfreeze_and_compile(
        model, config, blocks=task.backbone.blocks, learn="all", updates=Updates(RATE, 1000 * examples.updates)
    )
    epoch = build_epoch(model)
    return lambda: epoch(examples, 0)


def keras_epoch(task: Task) -> Work:
    """`fit` with the same layers learning."""
    model = task.model(classify=True)
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(
        keras.optimizers.AdamW(RATE, global_clipnorm=1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return lambda: model.fit(task.pixels, task.labels, batch_size=task.batch_size, verbose=0)


# -- PyTorch -----------------------------------------------------------------------------------


def torch_network() -> Any:
    """ResNet50 (He et al. 2015) as Keras has it, stride in the first convolution of a block; images 0..255."""
    from torch import nn

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[Any]:
        return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.BatchNorm2d(outputs)]

    class Block(nn.Module):
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            first, second = conv(inputs, width, 1, stride), conv(width, width, 3)
            self.body = nn.Sequential(*first, nn.ReLU(True), *second, nn.ReLU(True), *conv(width, 4 * width, 1))
            changed = inputs != 4 * width
            self.shortcut = nn.Sequential(*conv(inputs, 4 * width, 1, stride)) if changed else nn.Identity()

        def forward(self, tensor: Any) -> Any:
            return (self.body(tensor) + self.shortcut(tensor)).relu()

    layers, inputs = [*conv(3, 64, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            layers.append(Block(inputs, width, stride if number == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def torch_rows(task: Task, *, compiled: bool) -> tuple[Work, Work, Work]:
    """Features from memory, features from files, an epoch."""
    import torch
    from torch.utils.data import DataLoader

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    half = torch.autocast(device, torch.bfloat16, enabled=task.precision == "bfloat16")
    network = torch_network().to(device, memory_format=torch.channels_last)
    head = torch.nn.Linear(2048, CLASSES).to(device)
    run = torch.compile(network) if compiled else network
    mean = torch.tensor([123.68, 116.779, 103.939], device=device)[:, None, None]

    def forward(images: np.ndarray | Any) -> Any:
        held = torch.as_tensor(images).to(device, non_blocking=True)  # uint8 NHWC, which is channels last
        with half:
            return run(held.permute(0, 3, 1, 2).float() - mean)

    def features(parts: Iterator[Any]) -> None:
        network.eval()
        with torch.inference_mode():
            found = [forward(images) for images in parts]
        torch.cat(found).float().cpu()

    loader = DataLoader(
        TorchFiles(task.files, task.size),
        task.batch_size,
        num_workers=usable_cores(),
        multiprocessing_context="spawn",  # JAX has threads, which a fork would lose
        persistent_workers=True,
        pin_memory=device == "cuda",
    )
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, RATE)
    labels = torch.as_tensor(task.labels, device=device)

    def epoch() -> None:
        network.train()
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.eval()
        for number, images in enumerate(task.parts()):
            here = labels[number * task.batch_size : number * task.batch_size + len(images)]
            loss = torch.nn.functional.cross_entropy(head(forward(images).float()), here)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        loss.item()

    return lambda: features(task.parts()), lambda: features(iter(loader)), epoch


class TorchFiles:
    """Decoded images, for the processes of a DataLoader."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self.files[index]) as image:
            image.draft("RGB", (self.size, self.size))
            return np.array(image.convert("RGB").resize((self.size, self.size), Image.BILINEAR))


# -- the limit of the device -------------------------------------------------------------------


def products_per_second(precision: str, side: int) -> float:
    """Multiplications and additions a second of large matrix products, the best of five."""
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype=precision)
    repeated = jax.jit(lambda matrix: jax.lax.fori_loop(0, 8, lambda _, product: product @ matrix / side, matrix))
    repeated(matrix).block_until_ready()
    times = in_turn({"product": lambda: repeated(matrix).block_until_ready()})["product"]
    return 8 * 2 * side**3 / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--rows", default="tlkit,Keras,PyTorch,PyTorch (eager)", help="which, comma-separated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task = Task(drawn(Path(folder), options.images), options.size, options.batch_size, options.precision)
        sections: dict[str, Rows] = {
            "Features from pixels in memory": {},
            "Features from JPEG files": {},
            "An epoch": {},
        }
        makers: dict[str, Callable[[Task], tuple[Work, ...]]] = {
            "tlkit": lambda task: (*tlkit_features(task), tlkit_epoch(task)),
            "Keras": lambda task: (*keras_features(task), keras_epoch(task)),
        }
        if importlib.util.find_spec("torch"):
            makers["PyTorch"] = partial(torch_rows, compiled=True)
            makers["PyTorch (eager)"] = partial(torch_rows, compiled=False)
        else:
            print("PyTorch is not installed and left out.\n")
        wanted = options.rows.split(",")
        for name, make in ((name, makers[name]) for name in makers if name in wanted):
            for section, work in zip(sections.values(), make(task), strict=True):
                section[name] = work
        found = {}
        for section, rows in sections.items():
            in_turn(rows, 1)  # compiles
            found[section] = in_turn(rows, options.repeat)
            print(f"### {section}\n\n{table(found[section], options.images, 'images', 'tlkit')}\n")
    report_limit(task, found, options)


def report_limit(task: Task, found: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> None:
    """Each row against what the device can do."""
    limit = products_per_second(options.precision, 8192 if gpus() else 1024)
    forward = 2 * operations(task.backbone.model.layers)
    print(f"### Against matrix products, {limit / 1e12:.2f} T operations/s in {options.precision}\n")
    print("| | T operations/s | fraction |\n|---|---|---|")
    for section, rows in found.items():
        work = options.images * forward * (3 if section == "An epoch" else 1)
        for name, seconds in rows.items():
            rate = work / median(seconds)
            print(f"| {section}: {name} | {rate / 1e12:.3f} | {rate / limit:.2f} |")
    print(f"\n{', '.join(gpus()) or 'no accelerator'}; {machine()}")


if __name__ == "__main__":
    main()
