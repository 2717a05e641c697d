"""The audit of many look-alikes, as of fixed cameras: peak memory, seconds, and what takes them.

    python benchmarks/lookalikes.py --images 100000 --alike 2000

The images are not files: their grey copies, facts and features are drawn, `--alike` of each scene with noise, and a
class for every scene; what reads files is left out. Peak memory is that of a process of its own (`ru_maxrss`); `tlkit`
alone takes the second column of the first line.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="1000,10000,100000")
    parser.add_argument("--alike", type=int, default=2000)
    parser.add_argument("--one", type=int, help="measure this many in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.alike)))
        return
    print("| images | seconds | peak MB | of them before the audit | slowest checks |\n|---|---|---|---|---|")
    for count in map(int, options.images.split(",")):
        command = [sys.executable, __file__, "--one", str(count), "--alike", str(options.alike)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        slowest = sorted(found["checks"].items(), key=lambda check: -check[1])[:3]
        words = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in slowest)
        row = f"| {count:,} | {found['seconds']:.0f} | {found['peak']:,.0f} | {found['before']:,.0f} | {words} |"
        print(row, flush=True)


def peak() -> float:
    """MB of this process at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(images: int, alike: int) -> dict[str, object]:
    from tlkit.auditing.audit import audit
    from tlkit.base.story import Phase, PlainStory

    evidence = drawn(images, alike)
    story = PlainStory()
    story.expect(Phase("auditing", 1.0))
    story.begin("auditing")
    before, started = peak(), time.perf_counter()
    found = audit(evidence, story=story)
    return {"seconds": time.perf_counter() - started, "peak": peak(), "before": before, "checks": dict(found.seconds)}


def drawn(images: int, alike: int):  # type: ignore[no-untyped-def]
    """Evidence of so many images, `alike` of each scene."""
    from pathlib import Path

    from PIL import Image

    from tlkit.auditing.evidence import Evidence
    from tlkit.data.dataset import Dataset
    from tlkit.data.look import Looker, Looks

    random = np.random.default_rng(0)
    scenes = max(2, images // alike)
    labels = (np.arange(images) % scenes).astype(np.int32)
    coarse = [Image.fromarray(random.integers(0, 256, (7, 7), np.uint8)) for _ in range(scenes)]
    pictures = np.stack([np.asarray(each.resize((32, 32), Image.Resampling.BICUBIC)) for each in coarse])
    small = np.empty((images, 32, 32), np.uint8)
    features = np.empty((images, 128), np.float32)
    centres = random.normal(0, 1, (scenes, 128)).astype(np.float32)
    for start in range(0, images, 4096):
        rows = labels[start : start + 4096]
        noise = random.normal(0, 3, (len(rows), 32, 32))
        small[start : start + 4096] = np.clip(pictures[rows] + noise, 0, 255).round()
        features[start : start + 4096] = np.abs(centres[rows] + random.normal(0, 0.05, (len(rows), 128)))
    empty = {name: np.resize(column, (images, *column.shape[1:])) for name, column in Looker(0).columns().items()}
    facts = {"small": small, "width": np.full(images, 640, np.int32), "height": np.full(images, 480, np.int32)}
    texts = {"format": "JPEG", "mode": "RGB", "problem": "", "camera": "", "taken": ""}
    grey = small.reshape(images, -1).astype(np.float32).mean(axis=1)
    numbers = {"colour": np.repeat(grey[:, None], 3, axis=1), "contrast": grey / 4, "sharpness": grey / 9}
    dataset = Dataset(
        root=Path("images"),
        classes=tuple(f"scene{number:04d}" for number in range(scenes)),
        paths=[f"scene{label:04d}/{number:06d}.jpg" for number, label in enumerate(labels.tolist())],
        labels=labels,
        sha256=random.integers(0, 256, (images, 32), np.uint8),
        sizes=random.integers(20_000, 30_000, images),
        given=np.full(images, -1, np.int8),
    )
    columns = empty | facts | numbers | {name: np.full(images, text) for name, text in texts.items()}
    codes = random.choice(3, images, p=(0.7, 0.15, 0.15)).astype(np.int8)
    return Evidence(dataset=dataset, codes=codes, features=features, looks=Looks(**columns), images="images")


if __name__ == "__main__":
    main()
