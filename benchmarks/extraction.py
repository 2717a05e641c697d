"""Features of a folder of JPEG files, end to end: tlkit, Keras's own way, and the other engines on the same processor.

    python benchmarks/extraction.py IMAGES_DIR --backbone resnet50 [--weights FILE] [--limit 128]

One network a run. Every row starts from the same files and ends with pooled features in memory; tlkit's also go into
an empty store on disk. Models are built, exported, compiled and warm before the clock starts, for all alike. ONNX
Runtime, OpenVINO and PyTorch run in processes of their own (peers.py). What is not installed is left out, and said. The last table holds the network alone, on pixels in memory, against large matrix
products in the same precision.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import keras
import numpy as np
from measure import in_turn, machine, ratio, table

from tlkit.backbones.build import Backbone, build_backbone
from tlkit.base.errors import TlkitError
from tlkit.data.dataset import InputContract
from tlkit.data.decode import batches
from tlkit.data.scan import scan
from tlkit.extraction.engine import Engine, build_engine, lean_engine
from tlkit.extraction.source import FeatureSource

PRECISIONS = ("float32", "bfloat16")
PEERS = ("onnxruntime", "openvino", "torch")
MANY = 10**9  # images, for which every gain is worth its start
PRODUCT = 2048  # rows and columns of the matrices
Work = Callable[[], object]


class Task:
    """One network and some files.

    Args:
        folder: of links to the files.
        backbone: the network, pooled by average in `model`.
        batch_size: of every row.
    """

    def __init__(self, folder: Path, backbone: Backbone, batch_size: int) -> None:
        self.folder, self.backbone, self.batch_size = folder, backbone, batch_size
        self.files = sorted(folder.iterdir())
        pooled = keras.layers.GlobalAveragePooling2D()(backbone.model.output)
        self.model = keras.Model(backbone.model.input, pooled)
        self.model(np.zeros((1, *self.model.input_shape[1:]), np.float32))  # Keras exports what was called
        self.side = backbone.image_size[0]
        self.contract = InputContract(height=self.side, width=self.side)

    def pixels(self) -> Iterator[np.ndarray]:
        """uint8 batches, decoded by tlkit."""
        return (batch.images for batch in batches(self.files, self.contract, self.batch_size))


def tlkit_row(task: Task, engine: Engine, stores: Iterator[Path]) -> Work:
    """Scan, extract, store: what `tlkit features` does up to the table."""

    def work() -> None:
        os.environ["TLKIT_CACHE"] = str(next(stores))
        source = FeatureSource(
            model=task.model,
            outputs=("pooled",),
            weights_sha256=f"benchmark {engine.precision}",
            contract=task.contract,
            batch_size=task.batch_size,
        )
        source.__dict__["engine"] = engine  # built and warm before
        source.extract(scan(task.folder, labelled=False))

    return work


def keras_row(task: Task) -> Work:
    """`image_dataset_from_directory`, then `predict`."""
    dataset = keras.utils.image_dataset_from_directory(
        task.folder,
        labels=None,
        shuffle=False,
        batch_size=task.batch_size,
        image_size=(task.side, task.side),
        verbose=False,
    )
    return lambda: task.model.predict(dataset, verbose=0)


class Peer:
    """An engine in a process of its own (peers.py), as some cannot be loaded beside each other.

    Raises:
        ImportError: when it is not installed.
    """

    def __init__(self, engine: str, task: Task, network: Path) -> None:
        program = [sys.executable, Path(__file__).with_name("peers.py"), engine, task.folder, network]
        settings = [task.backbone.name, task.side, task.batch_size]
        self.process = subprocess.Popen(
            [str(word) for word in (*program, *settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        first = self._answer()
        if first.startswith("absent"):
            self.close()
            raise ImportError(first.removeprefix("absent "))
        self.rows = {name: partial(self.run, name) for name in first.split("; ")}

    def run(self, row: str) -> None:
        """All files, once."""
        print(row, file=self.process.stdin, flush=True)
        if self._answer() != "done":
            raise SystemExit(f"{row} failed")

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> str:
        for line in self.process.stdout:
            if line.startswith("> "):
                return line[2:].strip()
        raise SystemExit(f"{self.process.args[2]} ended early")


def engines(task: Task) -> dict[str, Engine]:
    """tlkit's, for each precision that there is here."""
    found = {}
    for precision in PRECISIONS:
        try:
            found[precision] = build_engine(task.model, precision=precision)
        except TlkitError as error:
            print(f"left out: {precision}, as {error.message}")
    if lean := lean_engine(task.model, MANY):
        found["float32, fewer multiplications"] = lean
    return found


def end_to_end(task: Task, folder: Path, built: dict[str, Engine], repeats: int) -> None:
    stores = (folder / f"store-{number}" for number in count())
    rows = {f"tlkit, {precision}": tlkit_row(task, engine, stores) for precision, engine in built.items()}
    rows["image_dataset_from_directory and predict"] = keras_row(task)
    task.model.export(folder / "network.onnx", format="onnx", verbose=False)
    peers = []
    for engine in PEERS:
        try:
            peers.append(Peer(engine, task, folder / "network.onnx"))
            rows |= peers[-1].rows
        except ImportError as error:
            print(f"left out: {engine}: {error}")
    for work in rows.values():
        work()
    seconds = in_turn(rows, repeats)
    for peer in peers:
        peer.close()
    print(f"\n{table(seconds, len(task.files), 'images', 'tlkit, float32')}\n")
    print("| times as fast, median (least to most) | |\n|---|---|")
    theirs = {name: times for name, times in seconds.items() if not name.startswith("tlkit")}
    for ours in (name for name in seconds if name.startswith("tlkit")):
        for label, among in {
            "predict": [name for name in theirs if "predict" in name],
            "the best peer in float32": [name for name in theirs if "bfloat16" not in name],
            "the best peer in bfloat16": [name for name in theirs if "bfloat16" in name and "bfloat16" in ours],
        }.items():
            if among:
                best = min(among, key=lambda name: median(theirs[name]))
                mid, low, high = ratio(seconds[ours], theirs[best])
                print(f"| {ours}, against {label} ({best}) | {mid:.2f} ({low:.2f} to {high:.2f}) |")


def limit(task: Task, built: dict[str, Engine], repeats: int) -> None:
    """The network alone, as a fraction of what large matrix products reach."""
    pixels = np.concatenate(list(task.pixels()))
    work, product = multiply_adds(task.model) * len(pixels), PRODUCT**3
    times = max(1, round(work / product / 4))
    rows: dict[str, Work] = {}
    for precision, engine in built.items():
        kind = engine.precision
        matrix = keras.ops.cast(keras.random.normal((PRODUCT, PRODUCT)), kind)
        rows[f"network {precision}"] = lambda engine=engine: [
            engine.run(pixels[first : first + task.batch_size]) for first in range(0, len(pixels), task.batch_size)
        ]
        rows[f"product {precision}"] = lambda matrix=matrix: [np.asarray(matrix @ matrix)[0, 0] for _ in range(times)]
    for one in rows.values():
        one()
    seconds = in_turn(rows, repeats)
    print(
        f"\n{multiply_adds(task.model) / 1e9:.2f} G multiply-adds an image; matrix products of {PRODUCT}, best of all\n"
    )
    print("| | images/s | network, GFLOP/s | matrix product, GFLOP/s | fraction |\n|---|---|---|---|---|")
    for precision in built:
        rate = 2e-9 * work / median(seconds[f"network {precision}"])
        most = 2e-9 * product * times / min(seconds[f"product {precision}"])
        images = len(pixels) / median(seconds[f"network {precision}"])
        print(f"| {precision} | {images:.1f} | {rate:.0f} | {most:.0f} | {rate / most:.2f} |")


def multiply_adds(model: keras.Model) -> float:
    """Of the convolutions, for one image."""
    total = 0.0
    for layer in model.layers:
        kernels = [weight for weight in layer.weights if "kernel" in weight.name]
        if kernels and len(layer.output.shape) == 4:
            places = float(np.prod(layer.output.shape[1:3]))
            total += sum(places * float(np.prod(kernel.shape)) for kernel in kernels)
    return total


def as_trained(model: keras.Model) -> None:
    """Fresh biases and means are zero, and an engine may leave out what adds nothing; no trained network has that."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if len(weight.shape) == 1:
                low, high = (0.8, 1.2) if weight.name in ("gamma", "moving_variance") else (-0.1, 0.1)
                weight.assign(random.uniform(low, high, weight.shape))


def links(images: Path, most: int, into: Path) -> Path:
    """Links to JPEG files spread over a folder, all in one."""
    found = scan(images, labelled=False)
    files = [found.file(i) for i in range(len(found)) if found.file(i).suffix.lower() in (".jpg", ".jpeg")]
    into.mkdir()
    for number in np.unique(np.linspace(0, len(files) - 1, most).astype(int)):
        (into / f"{number:06d}.jpg").symlink_to(files[number].resolve())
    return into


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="none", help="a file, or none for random ones, which take as long")
    parser.add_argument("--limit", type=int, default=128, help="images")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        backbone = build_backbone(options.backbone, weights=options.weights)
        if options.weights == "none":
            as_trained(backbone.model)
        files = links(options.images, options.limit, Path(folder) / "images")
        task = Task(files, backbone, options.batch_size)
        print(f"{backbone.name}, {len(task.files)} images at {task.side} pixels, {options.repeats} repeats")
        built = engines(task)
        end_to_end(task, Path(folder), built, options.repeats)
        limit(task, built, options.repeats)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
