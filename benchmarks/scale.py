"""`tlkit features` on more and more images: time and peak memory, the tables included; or other commands.

    python benchmarks/scale.py --counts 1000,10000,100000
    python benchmarks/scale.py --counts 1000,10000,100000 --what finetune
    python benchmarks/scale.py --classes 1200 --counts 3600 --what finetune
    python benchmarks/scale.py --counts 4000,40000 --what memory      # of features, predict and audit

Every image is a file of distinct content: a small photograph-like JPEG with its number behind its
end, so that none is a duplicate. Each count starts from an empty store and writes CSV; then, from
the full store, the same as Parquet. Peak memory is that of the command's process (`ru_maxrss`). `finetune` solves a head
on them (`--stages head`) from an empty store, and then `predict` answers all of them with it, into a CSV; the seconds that its plan
states are those from extracting to the report, and stand beside what was taken from when it was said.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

PATTERNS = 50  # different pictures


class Cost(NamedTuple):
    """What one command took: seconds of wall time, MiB of memory at most, seconds between two lines on stderr at most.

    `planned` are the seconds from the line that begins the plan to the end, 0 without one.
    """

    seconds: float
    memory: float
    silence: float
    planned: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1000,10000,100000")
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--side", type=int, default=64, help="pixels of the files")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--what", choices=PARTS, default="features")
    options = parser.parse_args()
    network = ["--backbone", options.backbone, "--image-size", str(options.image_size)]
    print(f"{options.backbone} at {options.image_size} pixels, {options.classes} classes\n")
    PARTS[options.what](options, network)
    # Only now, because it loads the backend, and a process begins with the peak of the one it was forked from.
    from measure import machine

    print("\n" + machine())


def features(options: argparse.Namespace, network: list[str]) -> None:
    """One row a count: CSV from an empty store, Parquet from the full one."""
    print("| images | CSV, empty store, s | ms an image more | peak MiB | Parquet, full store, s | peak MiB | CSV MB |")
    print("|---|---|---|---|---|---|---|")
    before: tuple[int, float] | None = None
    for count in map(int, options.counts.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_images(place / "images", count, options.side, options.classes)
            asked = ["features", str(place / "images"), *network, "--out"]
            first = measured(place, [*asked, str(place / "features.csv")])
            second = measured(place, [*asked, str(place / "features.parquet")])
            size = (place / "features.csv").stat().st_size / 1e6
        more = f"{1000 * (first.seconds - before[1]) / (count - before[0]):.2f}" if before else ""
        before = (count, first.seconds)
        print(
            f"| {count:,} | {first.seconds:.1f} | {more} | {first.memory:,.0f} "
            f"| {second.seconds:.1f} | {second.memory:,.0f} | {size:,.0f} |",
            flush=True,
        )


def finetune(options: argparse.Namespace, network: list[str]) -> None:
    """One row a count: a head solved on them, its plan, and the answers of all."""
    print(
        "| images | finetune, s | from the plan on, s | plan, s | head: plan, s | head, s | peak MiB | longest silence, s | predict, s | peak MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for count in map(int, options.counts.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_images(place / "images", count, options.side, options.classes)
            run = place / "run"
            asked = ["finetune", str(place / "images"), *network, "--stages", "head", "--out", str(run)]
            first = measured(place, asked)
            record = json.loads((run / "run.json").read_text())["plan"]
            head = sum(stage["seconds"] for stage in record["stages"])
            stated = record["extraction_seconds"] + head + sum(seconds for _, seconds in record["besides"])
            state = json.loads((run / "checkpoints" / "head" / "state.json").read_text())
            second = measured(place, ["predict", str(run), str(place / "images"), "--out", str(place / "all.csv")])
        print(
            f"| {count:,} | {first.seconds:.1f} | {first.planned:.1f} | {stated:.1f} | {head:.1f} | {state['seconds']:.1f} | {first.memory:,.0f} "
            f"| {first.silence:.0f} | {second.seconds:.1f} | {second.memory:,.0f} |",
            flush=True,
        )


def memory(options: argparse.Namespace, network: list[str]) -> None:
    """One row a count: the peak of each command, and what an image takes that there is more than in the row before."""
    commands = ("features", "predict", "audit")
    print("| images | " + " | ".join(f"{name}, peak MiB | kB an image more" for name in commands) + " |")
    print("|---" * (1 + 2 * len(commands)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        place, before = Path(folder), dict.fromkeys(commands, (0, 0.0))
        write_images(place / "few", 1000, options.side, options.classes)
        measured(place, ["finetune", str(place / "few"), *network, "--stages", "head", "--out", str(place / "run")])
        for count in map(int, options.counts.split(",")):
            images, cells = place / str(count), []
            write_images(images, count, options.side, options.classes)
            for name in commands:
                asked = [str(place / "run"), str(images)] if name == "predict" else [str(images), *network]
                out = place / f"{name}{count}{'' if name == 'audit' else '.csv'}"
                peak = measured(place, [name, *asked, "--out", str(out)]).memory
                more = f"{2**20 / 1000 * (peak - before[name][1]) / (count - before[name][0]):.2f}"
                cells.append(f"{peak:,.0f} | {more if before[name][0] else ''}")
                before[name] = count, peak
            print(f"| {count:,} | " + " | ".join(cells) + " |", flush=True)


PARTS = {"features": features, "finetune": finetune, "memory": memory}


def write_images(root: Path, count: int, side: int, classes: int) -> None:
    """JPEG files of distinct content in class folders."""
    random = np.random.default_rng(0)
    patterns = []
    for _ in range(PATTERNS):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        patterns.append(buffer.getvalue())
    for number in range(classes):
        (root / f"class{number}").mkdir(parents=True)
    for number in range(count):
        path = root / f"class{number % classes}" / f"{number:07d}.jpg"
        path.write_bytes(patterns[number % PATTERNS] + number.to_bytes(8, "little"))


def measured(place: Path, asked: list[str]) -> Cost:
    """Run the command in a process of its own."""
    started = said = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tlkit", *asked],
        env=os.environ | {"TLKIT_CACHE": str(place / "cache")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    silence = begun = 0.0
    for line in process.stderr or ():
        silence, said = max(silence, time.perf_counter() - said), time.perf_counter()
        begun = begun or said * line.startswith(b"plan:")
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(asked)} failed")
    ended = time.perf_counter()
    return Cost(ended - started, usage.ru_maxrss / 1024, silence, ended - begun if begun else 0.0)


if __name__ == "__main__":
    main()
