"""What the report of a run costs, held against the extraction of its features: in turn, from an empty store.

    python benchmarks/report.py flowers --backbone mobilenetv2:alpha=0.35 --weights FILE

A report computes the evidence for its errors with a classifier that is in memory already, as at the end of training,
and finds features in the store; a report written again finds the evidence there too.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from measure import in_turn, machine, ratio

import tlkit
from tlkit.backbones.build import build_backbone
from tlkit.classifier.answers import Predictions
from tlkit.classifier.model import load
from tlkit.evaluation.evaluate import evaluate
from tlkit.extraction.source import FeatureSource
from tlkit.report import run_page
from tlkit.report.build import write_report
from tlkit.runs import record as run_record
from tlkit.runs.folder import RunDir


class Bench:
    """One finished run, and the two things that are timed."""

    def __init__(self, run: Path, backbone: str, weights: str, scratch: Path) -> None:
        self.run_dir, self.scratch, self.stores = RunDir(run), scratch, 0
        self.dataset, self.splits = run_record.read_images(self.run_dir)
        self.classifier = load(self.run_dir.model)
        built = build_backbone(backbone, weights=weights)
        self.source = FeatureSource.of_backbone(built, self.classifier.facts.contract)
        self.source.engine  # noqa: B018  # built once, outside of what is timed
        predictions = Predictions.read_csv(self.run_dir.predictions)
        self.measured = (self.dataset, self.splits, predictions, evaluate(predictions))

    def extraction(self) -> None:
        """The features of every image, into an empty store."""
        self.stores += 1
        os.environ["TLKIT_CACHE"] = str(self.scratch / f"store-{self.stores}")
        self.source.extract(self.dataset)

    def report(self) -> None:
        """The page and its text, from that store."""
        page = run_page.of_run(self.run_dir, *self.measured, lambda: self.classifier)
        write_report(self.scratch / "report.html", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--weights", default="imagenet", help="as of tlkit finetune")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        os.environ["TLKIT_CACHE"] = str(Path(scratch) / "store-0")
        tlkit.finetune(
            options.images, backbone=options.backbone, weights=options.weights, stages=("head",), out=str(run)
        )
        bench = Bench(run, options.backbone, options.weights, Path(scratch))
        rows = {"extraction": bench.extraction, "report": bench.report, "report again": bench.report}
        seconds = in_turn(rows, options.repeats)
        size = (Path(scratch) / "report.html").stat().st_size
        images = len(bench.dataset)
    print(f"{images:,} images; a page of {size / 1e6:.2f} MB\n\n| | seconds, median | least to most | of extraction |")
    print("|---|---|---|---|")
    for name, times in seconds.items():
        mid, low, high = ratio(seconds["extraction"], times)
        share = "" if name == "extraction" else f"{mid:.2f} ({low:.2f} to {high:.2f})"
        print(f"| {name} | {median(times):.2f} | {min(times):.2f} to {max(times):.2f} | {share} |")
    print("\n" + machine())


if __name__ == "__main__":
    main()
