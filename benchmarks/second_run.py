"""The second run: nothing stored, everything stored, and everything but 1 % of the images.

    python benchmarks/second_run.py images --backbone mobilenetv2:alpha=0.35 --weights FILE

Extraction alone is measured in one process with the engine built and warm: decoding, the forward
pass, storing and looking up, without imports and without hashing the files. `1 % new` is held
against its proportional cost: what the full store costs, and 1 % of what the empty store costs above
that. The whole command is measured from the shell, from the start of Python to the written CSV.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from measure import in_turn, machine, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--new", type=float, default=0.01, help="fraction of new images")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(machine() + "\n")
    extraction(options)
    command(options)


def extraction(options: argparse.Namespace) -> None:
    """Extraction alone, in this process."""
    from tlkit.backbones.build import build_backbone
    from tlkit.data.dataset import InputContract
    from tlkit.data.scan import scan
    from tlkit.extraction.source import FeatureSource

    dataset = scan(options.images, labelled=None)
    backbone = build_backbone(options.backbone, weights=options.weights)
    contract = InputContract(height=backbone.image_size[0], width=backbone.image_size[1])
    source = FeatureSource.of_backbone(backbone, contract)
    stride = round(1 / options.new)
    known = dataset.select([i for i in range(len(dataset)) if i % stride])
    new = len(dataset) - len(known)
    stored = known.select(range(new))  # as many again, for the warm-up
    seconds: dict[str, list[float]] = {"empty store": [], "full store": [], "new images": []}
    excess = []
    for repeat in range(-1, options.repeats):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TLKIT_CACHE"] = cache
            rows = ((stored, "new images"),) if repeat < 0 else ()
            rows += ((known, "empty store"), (known, "full store"), (dataset, "new images"))
            for images, name in rows:
                started = time.perf_counter()
                source.extract(images)
                seconds[name].append(time.perf_counter() - started)
        if repeat < 0:  # warm: the graph is traced for every size of batch
            seconds = {name: [] for name in seconds}
            continue
        empty, full, added = (times[-1] for times in seconds.values())
        excess.append(added / (full + (empty - full) * new / len(known)))
    print(f"extraction alone, {len(known):,} images, {new} new ones, {backbone.name}\n")
    print("| | seconds, median | least to most |")
    print("|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {median(times):.4f} | {min(times):.4f} to {max(times):.4f} |")
    print(
        "\nfull store is faster by {:.0f} ({:.0f} to {:.0f})".format(
            *ratio(seconds["full store"], seconds["empty store"])
        )
    )
    print(
        f"new images against their proportional cost: {median(excess):.3f} ({min(excess):.3f} to {max(excess):.3f})\n"
    )


def command(options: argparse.Namespace) -> None:
    """The whole command, from the shell."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(10**6))

        def run(cache: str) -> None:
            out = f"{folder}/{next(numbers)}.csv"
            network = ["--backbone", options.backbone, "--weights", options.weights]
            line = [sys.executable, "-m", "tlkit", "features", str(options.images), "--out", out, *network]
            subprocess.run(line, env=os.environ | {"TLKIT_CACHE": cache}, check=True, capture_output=True)

        run(f"{folder}/full")
        rows = {"empty store": lambda: run(tempfile.mkdtemp(dir=folder)), "full store": lambda: run(f"{folder}/full")}
        seconds = in_turn(rows, options.repeats)
    print("whole command\n\n| | seconds, median | least to most |\n|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {median(times):.2f} | {min(times):.2f} to {max(times):.2f} |")
    print(
        "\nfull store is faster by {:.1f} ({:.1f} to {:.1f})".format(
            *ratio(seconds["full store"], seconds["empty store"])
        )
    )


if __name__ == "__main__":
    main()
