"""What the temperature does for calibration, and whether `--target-precision` keeps its promise, on real images.

    python benchmarks/calibration.py hymenoptera flowers sign-digits faces --backbone mobilenetv2:alpha=0.35
    python benchmarks/calibration.py faces --group-by '(S[0-9]+)_'

Each folder is trained with `tlkit finetune --stages head` and split by tlkit, whatever splits it came with, over
several seeds; further flags go to finetune as they are. Temperature and threshold are chosen on validation
images, all figures are of test images.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tlkit.data.scan import scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--backbone", default="mobilenetv2:alpha=0.35")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--stages", default="head")
    parser.add_argument("--target-precision", type=float, default=0.95)
    parser.add_argument("--group-by", help="as in tlkit finetune")
    parser.add_argument("--seeds", type=int, default=3)
    options, options.further = parser.parse_known_args()
    print(
        "| images | seed | n | accuracy | calibration error, before | after | log loss, before | after "
        "| threshold | coverage | precision, with interval |\n" + "|---" * 11 + "|"
    )
    for images in options.images:
        for seed in range(options.seeds):
            print(row(images, seed, options), flush=True)


def row(images: Path, seed: int, options: argparse.Namespace) -> str:
    """One training run as a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "images.csv"
        write_table(images, table)
        command = [sys.executable, "-m", "tlkit", "finetune", str(table), "--backbone", options.backbone]
        command += ["--weights", options.weights, "--stages", options.stages, "--seed", str(seed), "--no-audit"]
        command += ["--target-precision", str(options.target_precision), "--val", "0.25", "--test", "0.25"]
        command += ["--out", f"{folder}/run", "--json", "--quiet"]
        command += ["--group-by", options.group_by] if options.group_by else []
        command += options.further
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        if "error" in found:
            return f"| {images.name} | {seed} | {found['error']} |"
        test = json.loads(Path(folder, "run", "evaluation.json").read_text(encoding="utf-8"))["splits"]["test"]
    return f"| {images.name} | {seed} | {test['n']} | {' | '.join(cells(test))} |"


def write_table(images: Path, table: Path) -> None:
    """The images of a folder as a table without splits, so that tlkit makes its own."""
    dataset = scan(images)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for index in range(len(dataset)):
            writer.writerow([str(dataset.file(index)), dataset.label_name(index)])


def cells(test: dict) -> list[str]:
    """The figures of one split; without a temperature before and after are the same."""
    metrics, held = test["metrics"], test["abstention"]
    pairs = []
    for name in ("expected_calibration_error", "log_loss"):
        after = metrics[name]["value"]
        before = metrics.get(f"{name}_uncalibrated", metrics[name])["value"]
        pairs += [f"{before:.4f}", f"{after:.4f}"]
    accuracy = f"{metrics['accuracy']['value']:.3f}"
    if held is None:
        return [accuracy, *pairs, "none", "-", "-"]
    precision = held["precision"]
    if precision["value"] is None:
        return [accuracy, *pairs, f"{held['threshold']:.3f}", "0.000", "-"]
    interval = f"{precision['value']:.3f} ({precision['low']:.3f} to {precision['high']:.3f}), n = {precision['n']}"
    return [accuracy, *pairs, f"{held['threshold']:.3f}", f"{held['coverage']['value']:.3f}", interval]


if __name__ == "__main__":
    main()
