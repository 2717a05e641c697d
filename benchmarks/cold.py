"""Features of some photographs from a cold process: `tlkit features` against a ten-line Keras script.

    python benchmarks/cold.py IMAGES [--backbones resnet50,vgg16,inceptionv3] [--limit 96] [--repeats 5]

Three rows, each a process of its own from the start of Python to the written CSV, in turn: the script; tlkit with an empty
cache; and tlkit with a cache that has met the network, by other photographs, and none of these. Weights are random ones in
a file, written beforehand as training leaves them, which both read. Memory is the most that the process and its children
held together, sampled every 10 ms, or the greatest resident set that the system noted of one of them, whichever is more.
With `--genuine NAME=FILE` the network NAME has the weights of FILE. The CSVs are held against each other: the script resizes by
TensorFlow and tlkit by its own decode, so that only tlkit's own two must agree.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

NETWORKS = {  # name: constructor, module of its preprocessing, side
    "resnet50": ("ResNet50", "resnet50", 224),
    "vgg16": ("VGG16", "vgg16", 224),
    "inceptionv3": ("InceptionV3", "inception_v3", 299),
}
SCRIPT = """
import csv, sys, keras
images, weights, out = sys.argv[1:]
network = keras.applications.{name}(include_top=False, weights=weights, pooling="avg", input_shape=({side}, {side}, 3))
dataset = keras.utils.image_dataset_from_directory(images, shuffle=False, image_size=({side}, {side}))
paths = dataset.file_paths
features = network.predict(dataset.map(lambda x, y: keras.applications.{module}.preprocess_input(x)))
with open(out, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["path", *range(features.shape[1])])
    writer.writerows([path, *row] for path, row in zip(paths, features.tolist()))
"""
WEIGHTS = """
import sys, keras, numpy as np
network = keras.applications.{name}(include_top=False, weights=None)
random = np.random.default_rng(0)
for weight in network.weights:
    if len(weight.shape) == 1:
        low, high = (0.8, 1.2) if weight.name in ("gamma", "moving_variance") else (-0.1, 0.1)
        weight.assign(random.uniform(low, high, weight.shape))
network.save_weights(sys.argv[1])
"""


class Cost(NamedTuple):
    """What a process took, with its children; processor time is of all cores."""

    seconds: float
    processor: float
    megabytes: float


def resident(process: int) -> int:
    """Bytes of a process and its descendants that are in memory now; 0 of one that is no more."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


def run(command: list[str], **environment: str) -> Cost:
    """Run a command to its end.

    Raises:
        SystemExit: it fails, with its last words.
    """
    with tempfile.TemporaryFile() as said:
        started, most = time.perf_counter(), 0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=os.environ | environment)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            most = max(most, resident(process.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        if status:
            said.seek(0)
            raise SystemExit(f"{command[:4]} failed:\n{said.read().decode()[-3000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, max(most / 2**20, usage.ru_maxrss / 2**10))


def links(images: Path, into: Path, most: int) -> tuple[Path, Path]:
    """Two folders with links to JPEG files, by class: `most` of them spread over the folder, and eight others."""
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    chosen = {round(index * (len(files) - 1) / (most - 1)) for index in range(most)}
    others = [index for index in range(len(files)) if index not in chosen][:8]
    for name, indices in (("wanted", sorted(chosen)), ("others", others)):
        for index in indices:
            link = into / name / files[index].parent.name / f"{index:05d}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(files[index].resolve())
    return into / "wanted", into / "others"


def rows_of(path: Path) -> dict[str, list[float]]:
    """Features by path, of a table of tlkit's."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row[0]: [float(cell) for cell in row[3:]] for row in list(csv.reader(file))[1:]}


def furthest(one: Path, other: Path) -> float:
    """The greatest difference of a feature of two tables of the same images."""
    left, right = rows_of(one), rows_of(other)
    if left.keys() != right.keys():
        raise SystemExit("the tables are of other images")
    return max(abs(a - b) for path in left for a, b in zip(left[path], right[path], strict=True))


class Race:
    """One network: the commands of the rows.

    Args:
        name: of the network.
        folder: for everything that is written.
        weights: file of them.
        images: folder of the photographs.
    """

    def __init__(self, name: str, folder: Path, weights: Path, images: Path) -> None:
        self.name, self.folder, self.weights, self.images = name, folder, weights, images

    def script(self) -> Cost:
        """The Keras script."""
        constructor, module, side = NETWORKS[self.name]
        text = SCRIPT.format(name=constructor, module=module, side=side)
        return run([sys.executable, "-c", text, str(self.images), str(self.weights), f"{self.folder}/script.csv"])

    def features(self, out: str, images: Path, cache: Path, *further: str) -> Cost:
        """`tlkit features` with a cache."""
        tlkit = Path(sys.executable).with_name("tlkit")
        command = [tlkit, "features", images, "--backbone", self.name, "--weights", self.weights, *further]
        command += ["--out", self.folder / f"{out}.csv", "--overwrite", "--engine", "auto"]
        return run([str(word) for word in command], TLKIT_CACHE=str(cache))

    def empty(self) -> Cost:
        """tlkit, nothing known."""
        return self.features("empty", self.images, Path(tempfile.mkdtemp(dir=self.folder)))

    def met(self) -> Cost:
        """tlkit, the network known and none of the photographs."""
        cache = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / "met" / "networks", cache / "networks")
        return self.features("met", self.images, cache)


def race(name: str, options: argparse.Namespace, folder: Path, given: dict[str, str]) -> None:
    """Measure one network and print its table."""
    images, others = links(options.images, folder, options.limit)
    weights = Path(given[name]) if name in given else folder / "network.weights.h5"
    if name not in given:
        run([sys.executable, "-c", WEIGHTS.format(name=NETWORKS[name][0]), str(weights)])
    one = Race(name, folder, weights, images)
    one.features("others", others, folder / "met")
    rows = {"Keras script": one.script, "tlkit, empty cache": one.empty, "tlkit, network met before": one.met}
    costs: dict[str, list[Cost]] = {row: [] for row in rows}
    for _ in range(options.repeats):
        for row, work in rows.items():
            costs[row].append(work())
            for cache in folder.glob("tmp*"):
                shutil.rmtree(cache)
    print(f"\n### {name}, {options.limit} images, medians of {options.repeats} repeats\n")
    titles = ("seconds", "processor, s", "MB")
    print(f"| | {' | '.join(f'{title} | of the script' for title in titles)} |\n|---|---|---|---|---|---|---|")
    for row, taken in costs.items():
        cells = []
        for kind, digits in enumerate((2, 2, 0)):
            ratios = sorted(own[kind] / their[kind] for own, their in zip(taken, costs["Keras script"], strict=True))
            cells.append(f"{median(cost[kind] for cost in taken):.{digits}f}")
            cells.append(f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        print(f"| {row} | {' | '.join(cells)} |")
    apart = furthest(folder / "empty.csv", folder / "met.csv")
    print(f"\ntlkit's two tables differ by {apart:.2g} at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--backbones", default=",".join(NETWORKS))
    parser.add_argument("--limit", type=int, default=96, help="photographs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--genuine", action="append", default=[], metavar="NAME=FILE")
    options = parser.parse_args()
    for name in options.backbones.split(","):
        with tempfile.TemporaryDirectory(prefix="tlkit-cold-") as folder:
            race(name, options, Path(folder), dict(each.split("=", 1) for each in options.genuine))
    from measure import machine  # only now: a child starts with the greatest resident set of its parent

    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
