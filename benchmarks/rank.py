"""What `tlkit rank` is worth: its order against that of the fine-tuned candidates, its time against theirs.

    python benchmarks/rank.py hymenoptera magnetic-tile --weights mobilenetv2_0.35_224_no_top.h5 --file backbone.keras
    python benchmarks/rank.py --curve flowers-small --weights mobilenetv2_0.35_224_no_top.h5

Candidates: MobileNetV2-0.35 at 96, 160 and 224 pixels (the weights of 224 at all three), a `.keras` file, MobileNetV2-0.35
with random weights, `nano`. Each set is ranked from an empty store, then every candidate is fine-tuned from another empty
store with the default stages; the truth is accuracy on the test split, which the ranking never saw. Splits are tlkit's own,
also where a set brings one: the class is the last folder of a path.

`--curve`: `--how-many` on half of a set (drawn by content within each class), and the accuracy that the same head reaches on
the whole: five folds, twice, of all images. Forecast and truth are compared for as many images to learn from.
"""

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import machine
from scipy.stats import kendalltau, spearmanr


def candidates(options: argparse.Namespace) -> list[str]:
    small = "mobilenetv2:alpha=0.35"
    given = [f"{small},size={side},weights={options.weights}" for side in (96, 160, 224)]
    return [*given, *([options.file] if options.file else []), f"{small},weights=none", "nano"]


def table(folder: str, path: Path) -> str:
    """The images of a folder as a table without a split."""
    from tlkit.data.scan import scan

    dataset = scan(folder)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        writer.writerows((dataset.file(i), dataset.label_name(i)) for i in range(len(dataset)))
    return str(path)


def compare(options: argparse.Namespace, folder: str) -> None:
    from tlkit.options.commands import FinetuneConfig, RankConfig
    from tlkit.options.obtain import read_candidates
    from tlkit.pipelines import finetune, rank

    names = candidates(options)
    with tempfile.TemporaryDirectory() as scratch:
        images = table(folder, Path(scratch) / f"{Path(folder).name}.csv")
        os.environ["TLKIT_CACHE"] = f"{scratch}/rank-cache"
        started = time.perf_counter()
        found = rank.run(RankConfig(images=images, backbones=tuple(names), seed=options.seed, out=f"{scratch}/rank"))
        ranking = time.perf_counter() - started
        scores = {one["name"]: one for one in found["candidates"]}
        rows = []
        for number, wanted in enumerate(read_candidates(names)):
            os.environ["TLKIT_CACHE"] = f"{scratch}/cache-{number}"
            started = time.perf_counter()
            result = finetune.run(
                FinetuneConfig(
                    images=images,
                    backbone=wanted.backbone,
                    weights=wanted.weights,
                    image_size=wanted.image_size,
                    seed=options.seed,
                    out=f"{scratch}/run-{number}",
                )
            )
            seconds = time.perf_counter() - started
            truth = result["metrics"]["test"]["accuracy"]["value"]
            rows.append((wanted, scores[wanted.name], truth, seconds))
            print(f"  {short(wanted)}: {truth:.3f} in {seconds:.0f} s", flush=True)
    print(f"\n{Path(folder).name}, {found['images']} images ranked:\n")
    print("| candidate | LogME | ridge accuracy, 95 % | ms/image | fine-tuned, test | fine-tuning, s |")
    print("|---|---|---|---|---|---|")
    for wanted, score, truth, seconds in sorted(rows, key=lambda row: -row[2]):
        own = score["accuracy"]
        shown = f"{own['value']:.3f} ({own['low']:.3f} to {own['high']:.3f})"
        mark = " **recommended**" if score["name"] == found["recommended"] else ""
        cells = (short(wanted) + mark, f"{score['logme']:.4f}", shown, f"{score['milliseconds']:.2f}")
        print("| " + " | ".join((*cells, f"{truth:.3f}", f"{seconds:.1f}")) + " |")
    truths = [truth for _, _, truth, _ in rows]
    for what, values in (
        ("LogME", [score["logme"] for _, score, _, _ in rows]),
        ("ridge accuracy", [score["accuracy"]["value"] for _, score, _, _ in rows]),
    ):
        print(
            f"\n{what}: Spearman {spearmanr(values, truths).statistic:.2f}, Kendall {kendalltau(values, truths).statistic:.2f}"
        )
    whole = sum(seconds for *_, seconds in rows)
    print(f"\nranking {ranking:.1f} s, fine-tuning all {whole:.1f} s: {whole / ranking:.1f} times as long", flush=True)


def short(wanted: object) -> str:
    """A candidate without the folders of its files."""
    name = Path(wanted.backbone).name if wanted.backbone.endswith(".keras") else wanted.backbone
    size = f" at {wanted.image_size}" if wanted.image_size else ""
    return name + size + (", random weights" if wanted.weights == "none" else "")


def learning_curve(options: argparse.Namespace, folder: str) -> None:
    from tlkit.backbones.build import build_backbone
    from tlkit.data.dataset import InputContract
    from tlkit.data.scan import scan
    from tlkit.extraction.source import FeatureSource
    from tlkit.ranking import curve
    from tlkit.ranking import selection as sample

    dataset = scan(folder)
    print(f"| seed | backbone | half, images | at | expected, 95 % | measured on the whole | inside |\n{'|---' * 7}|")
    for name, weights in (("nano", "imagenet"), ("mobilenetv2:alpha=0.35", options.weights)):
        backbone = build_backbone(name, weights=weights)
        height, width = backbone.image_size
        source = FeatureSource.of_backbone(backbone, InputContract(height=height, width=width, fit="squash"))
        features, labels = source.rows(dataset)[:], dataset.labels
        units, classes = sample.units_of(dataset), len(dataset.classes)
        whole = curve.measure(features, labels, units, classes, seed=0)
        target, truth = float(whole.sizes[-1]), float(whole.accuracy[:, -1].mean())
        for seed in range(options.seeds):
            half = sample.choose(dataset, np.arange(len(dataset)), len(dataset) // 2, seed)
            measured = curve.measure(features[half], labels[half], units[half], classes, seed)
            trouble = curve.why_not(measured)
            if trouble:
                print(f"| {seed} | {name} | {len(half)} | {target:.0f} | {trouble} | {truth:.4f} | |")
                continue
            _, (expected,) = curve.forecast(measured, [target], seed)
            inside = "yes" if expected.low <= truth <= expected.high else "no"
            shown = f"{expected.value:.4f} ({expected.low:.4f} to {expected.high:.4f})"
            print(f"| {seed} | {name} | {len(half)} | {target:.0f} | {shown} | {truth:.4f} | {inside} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", help="image folders to rank on")
    parser.add_argument("--weights", required=True, help="ImageNet weights of MobileNetV2-0.35, 224 px, no top")
    parser.add_argument("--file", help="a .keras backbone as one more candidate")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the ranking and the fine-tuning")
    parser.add_argument("--curve", nargs="*", default=[], help="image folders for the learning curve")
    parser.add_argument("--seeds", type=int, default=5, help="halves for the learning curve")
    options = parser.parse_args()
    for folder in options.folders:
        compare(options, folder)
    for folder in options.curve:
        learning_curve(options, folder)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
