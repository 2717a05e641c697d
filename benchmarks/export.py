"""Every export format against Keras: size, logits, decisions on held-out photographs, latency.

python benchmarks/export.py IMAGES --weights FILE [--count 500] [--repeats 5] [--keep FOLDER]
python benchmarks/export.py IMAGES --backbone hub:FOLDER

A head is trained on MobileNetV2-0.35, or another backbone of 224 pixels; decisions are compared on COUNT images of the test split. Latency is for one decoded
image in each runtime as it comes, on the processor; formats in turn. With --keep, the run and the artifacts stay in FOLDER, and a
second call only measures latency.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import measure
import numpy as np

import tlkit
from tlkit.base.story import PlainStory
from tlkit.exporting.golden import draw
from tlkit.exporting.runtimes import Runtime
from tlkit.options.catalog import FORMATS

CALLS = 20  # of one image, in a repeat
SIDE = 224  # pixels, of the backbone


def calls(runtime: Runtime, image: np.ndarray) -> None:
    for _ in range(CALLS):
        runtime.call(image)


def made(asked: argparse.Namespace, folder: Path) -> str:
    """Train and export; the table of the artifacts."""
    run, story = folder / "run", PlainStory()
    options = {"backbone": asked.backbone, "weights": asked.weights, "stages": ("head",), "audit": False}
    tlkit.finetune(asked.images, **options, views=asked.views, out=run, story=story)
    exported = tlkit.export(
        run, format=tuple(FORMATS), out=folder / "exported", check_images=asked.count, min_agreement=0, story=story
    )
    return exported["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--backbone", default="mobilenetv2:alpha=0.35")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--views", type=int, help="stored views of a training image")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        if not (folder / "exported").exists():
            print(f"\n{made(asked, folder)}\n")
        runtimes = {name: Runtime(FORMATS[name], folder / "exported" / name) for name in tuple(FORMATS)}
        image = draw(SIDE, SIDE)[:1].astype(np.float32)
        rows = {name: partial(calls, runtime, image) for name, runtime in runtimes.items()}
        measure.in_turn(rows, 1)
        seconds = measure.in_turn(rows, asked.repeats)
    print("| format | ms an image, median | least to most | Keras takes times as long |\n|---|---|---|---|")
    for name, times in seconds.items():
        each = sorted(1000 * time / CALLS for time in times)
        against = measure.ratio(times, seconds["keras"])
        print(
            f"| {name} | {median(each):.2f} | {each[0]:.2f} to {each[-1]:.2f} "
            f"| {against[0]:.1f} ({against[1]:.1f} to {against[2]:.1f}) |"
        )
    print(f"\n{measure.machine()}")


if __name__ == "__main__":
    main()
