"""`tlkit features --executor ray` on two nodes of one core each, on this machine.

    python benchmarks/ray_nodes.py table           # 4,317 images: the bytes of the table against those of one process
    python benchmarks/ray_nodes.py workers --images 12000    # two workers of one core against one, in turn, five repeats
    python benchmarks/ray_nodes.py folds --images 120        # cross-validation, its folds on two workers of one core, against the same without
    python benchmarks/ray_nodes.py kills --batch-size 8 --image-size 224 --images 12000    # ten workers killed (SIGKILL) at random moments, and a node once
    python benchmarks/ray_nodes.py memory          # peak memory of the process that asks, 4,000 and 40,000 images
    python benchmarks/ray_nodes.py commands --images 400   # audit, rank and finetune against the same without Ray

Images are small drawn JPEGs of distinct content (`scale.write_images`). Each part starts from an empty store. `workers` holds
the rates of the second half of the batches against one another, by when every worker has its engine, and
beside them the whole extraction with the start of the workers. Of `kills` a batch that is hit twice by chance while it is computed ends
the command, as one that always kills its worker does; the smaller batches are against the time between kills, the less likely that is.
`commands` compares what is written byte for byte, but for times, paths of the run and what names the executor.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scale import write_images

from tlkit import pipelines
from tlkit.base.story import Silence
from tlkit.options.commands import AuditConfig, FeaturesConfig, FinetuneConfig
from tlkit.options.obtain import RankConfig

CONFIGS = {"audit": AuditConfig, "rank": RankConfig, "finetune": FinetuneConfig}
NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 150 * 2**20}


class Listener(Silence):
    """Notes what is said, and when batches come back."""

    def __init__(self, quiet: bool = True) -> None:
        self.said: list[str] = []
        self.back: list[float] = []
        self.begun: list[tuple[str, float]] = []
        self.done = 0
        self.quiet = quiet

    def say(self, text: str) -> None:
        """Note it; print it unless quiet."""
        self.said.append(text)
        if not self.quiet:
            print("   ", text, flush=True)

    def begin(self, name: str) -> None:
        """Note when."""
        self.begun.append((name, time.perf_counter()))

    def took(self) -> str:
        """Seconds of what was begun, until the next."""
        ends = [at for _, at in self.begun[1:]] + [time.perf_counter()]
        return ", ".join(f"{name} {end - at:.1f}" for (name, at), end in zip(self.begun, ends, strict=True))

    def track(self, items: Any, description: str, total: int | None = None) -> Iterator[Any]:
        """Just yield, and note what was extracted and when."""
        self.begin(description)
        for item in items:
            yield item
            if description == "extracting" and len(item):
                self.done += len(item)
                self.back.append(time.perf_counter())


@contextlib.contextmanager
def on_core(number: int) -> Iterator[None]:
    """What is started inside keeps to one core: a worker of one core decodes and computes on that one, and not beside it."""
    every = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {every[number % len(every)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


@contextlib.contextmanager
def nodes(place: Path) -> Iterator[Any]:
    """A head node, and one more; `cluster.add_node(**NODE)` and `remove_node` change that."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(place / "r")}
    (place / "r").mkdir()
    from ray.cluster_utils import Cluster

    with on_core(0):
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def extract(place: Path, options: argparse.Namespace, executor: str, story: Silence) -> tuple[str, dict[str, Any]]:
    """The sha256 of the table from an empty store, and what the command gives."""
    for folder in (place / "cache" / "features",):
        shutil.rmtree(folder, ignore_errors=True)
    out = place / "out.csv"
    config = FeaturesConfig(
        images=str(place / "images"),
        backbone=options.backbone,
        image_size=options.image_size,
        engine=options.engine,
        batch_size=options.batch_size,
        out=str(out),
        overwrite=True,
        executor=executor,
    )
    result = pipelines.carry_out("features", config, story)
    return hashlib.sha256(out.read_bytes()).hexdigest(), result


def table(place: Path, options: argparse.Namespace) -> None:
    expected, here = extract(place, options, "here", Silence())
    with nodes(place) as cluster:
        cluster.add_node(**NODE)
        found, there = extract(place, options, f"ray:{cluster.address}", Listener(quiet=False))
    print(f"one process {here['seconds']:.1f} s, two nodes {there['seconds']:.1f} s, {there['computed']} computed")
    print(f"byte for byte the same: {found == expected}")


def workers(place: Path, options: argparse.Namespace) -> None:
    took: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with nodes(place) as cluster:
        for _ in range(options.repeats):
            for count in (2, 1):
                with on_core(1):
                    more = [cluster.add_node(**NODE) for _ in range(count - 1)]
                story = Listener()
                _, result = extract(place, options, f"ray:{cluster.address}", story)
                first = len(story.back) // 2  # by then every worker has its engine
                steady = (len(story.back) - first) / (story.back[-1] - story.back[first - 1])
                took[count].append((steady * options.batch_size, result["seconds"]))
                for node in more:
                    cluster.remove_node(node)
    for count, each in took.items():
        rates = ", ".join(f"{rate:.0f}" for rate, _ in each)
        print(f"{count} worker(s): images/s {rates}; whole extraction {median(whole for _, whole in each):.1f} s")
    ratios = sorted(two / one for (two, _), (one, _) in zip(took[2], took[1], strict=True))
    print(f"two against one: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def kills(place: Path, options: argparse.Namespace) -> None:
    story = Listener()
    expected, here = extract(place, options, "here", Silence())
    with nodes(place) as cluster:
        extra, draw, killed = cluster.add_node(**NODE), random.Random(0), []

        def worker_killer() -> None:
            while len(killed) < options.kills:
                time.sleep(draw.uniform(2.0, 8.0))
                if story.done and (working := list(tasks())):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(draw.choice(working), signal.SIGKILL)
                        killed.append(story.done)
            time.sleep(0.5)
            cluster.remove_node(extra, allow_graceful=False)
            killed.append(story.done)

        threading.Thread(target=worker_killer, daemon=True).start()
        found, there = extract(place, options, f"ray:{cluster.address}", story)
    again = [said for said in story.said if "while it computed" in said]
    idle = [said for said in story.said if "before it computed" in said]
    print(f"killed after so many images: {killed[:-1]}; the node: {killed[-1:]}")
    print(f"workers lost before they computed: {len(idle)}")
    print(f"batches sent again: {len(again)}, that is at most {options.batch_size * len(again)} images computed twice")
    print(f"computed {there['computed']} of {here['computed']}; byte for byte the same: {found == expected}")


def tasks() -> Iterator[int]:
    """Processes that work on a task of ours now; Ray puts its name into their title."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::tlkit extracting"):
                yield int(path.parent.name)


# What is compared of each command, and the fields of JSON that say when, where and how long
WRITTEN = {
    "audit": ("audit.json", "images.csv"),
    "rank": ("rank.json",),
    "finetune": ("predictions.csv", "metrics.json", "audit.json", "evaluation.json"),
}
ASKED = {
    "audit": {},
    "rank": {"backbones": ("nano:size=32", "nano:size=64")},
    "finetune": {"backbone": "nano", "image_size": 32, "seed": 0},
}
PASSING = {
    "seconds",
    "milliseconds",
    "milliseconds_spread",
    "versions",
    "hardware",
    "command",
    "commands",
    "out",
    "report",
    "created",
}


def commands(place: Path, options: argparse.Namespace) -> None:
    with nodes(place) as cluster:
        cluster.add_node(**NODE)
        for name, given in ASKED.items():
            seconds = {}
            for where in ("here", f"ray:{cluster.address}"):
                shutil.rmtree(place / "cache" / "features", ignore_errors=True)
                kind, out = where.partition(":")[0], place / f"{name}-{where.partition(':')[0]}"
                config = CONFIGS[name](images=str(place / "images"), out=str(out), executor=where, **given)
                started, story = time.perf_counter(), Listener()
                pipelines.carry_out(name, config, story)
                seconds[kind] = time.perf_counter() - started
                print(f"{name}, {kind}: {story.took()}", flush=True)
            for file in WRITTEN[name]:
                texts = [lasting(place / f"{name}-{kind}" / file) for kind in seconds]
                print(f"{name}: {file}, {len(texts[0])} characters, the same: {texts[0] == texts[1]}", flush=True)
            print(f"{name}: " + ", ".join(f"{kind} {took:.1f} s" for kind, took in seconds.items()), flush=True)


def folds(place: Path, options: argparse.Namespace) -> None:
    """The whole command both ways: what each fold said, array by array, and the choice."""
    given = {"backbone": options.backbone, "image_size": options.image_size or 64, "validate": "folds", "audit": False}
    took = {}
    with nodes(place) as cluster:
        cluster.add_node(**NODE)
        for where in ("here", f"ray:{cluster.address}"):
            kind, story = where.partition(":")[0], Listener(quiet=False)
            config = FinetuneConfig(images=str(place / "images"), out=str(place / kind), executor=where, **given)
            pipelines.carry_out("finetune", config, story)
            ends = dict(zip([name for name, _ in story.begun], [at for _, at in story.begun[1:]], strict=False))
            took[kind] = ends["cross-validating"] - dict(story.begun)["cross-validating"]
    apart = 0.0
    for one in sorted((place / "here/checkpoints/folds").glob("*.npz")):
        with np.load(one) as here, np.load(place / "ray/checkpoints/folds" / one.name) as there:
            apart = max([apart, *(float(np.abs(here[name] - there[name]).max()) for name in here.files)])
    chosen = [json.loads((place / kind / "choice.json").read_text())["chosen"] for kind in took]
    print(
        f"folds: here {took['here']:.1f} s, on two workers {took['ray']:.1f} s; logits at most {apart:.1e} apart; chosen {chosen}"
    )


def lasting(file: Path) -> str:
    """The text of a file, of JSON without what differs from run to run."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if key not in PASSING}
        return [kept(item) for item in value] if isinstance(value, list) else value

    return json.dumps(kept(json.loads(file.read_text()))) if file.suffix == ".json" else file.read_text()


COMMAND = """
import resource, sys
from tlkit.cli.main import main
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def memory(place: Path, options: argparse.Namespace) -> None:
    with nodes(place) as cluster:
        cluster.add_node(**NODE)
        for count in (4_000, 40_000):
            root = place / f"images{count}"
            write_images(root, count, 32, 10)
            for where in (f"ray:{cluster.address}", "here"):
                shutil.rmtree(place / "cache" / "features", ignore_errors=True)
                asked = ["features", str(root), "--backbone", "nano", "--image-size", "32", "--executor", where]
                started = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", COMMAND, *asked, "--out", str(place / "out.parquet"), "--overwrite"],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                peak = int(done.stderr.rpartition("peak ")[2].split()[0]) / 1024
                seconds = time.perf_counter() - started
                print(f"{count:,} images, {where.partition(':')[0]}: peak {peak:,.0f} MiB, {seconds:.1f} s", flush=True)


PARTS = {"table": table, "workers": workers, "kills": kills, "memory": memory, "commands": commands, "folds": folds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--images", type=int, default=4317)
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b-", dir="/tmp") as folder:
        place = Path(folder)
        os.environ["TLKIT_CACHE"] = str(place / "cache")
        if options.part != "memory":
            write_images(place / "images", options.images, 64, 10)
        PARTS[options.part](place, options)
    from measure import machine

    print("\n" + machine())


if __name__ == "__main__":
    main()
