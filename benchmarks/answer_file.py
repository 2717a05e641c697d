"""What writing the answering file adds to `tlkit finetune`: from Keras's layers, and by way of TensorFlow and tf2onnx.

    python benchmarks/answer_file.py nano mobilenetv2:alpha=0.35 resnet50

Random weights at the native size; only the time matters. A row is `write_answer` as finetune calls it: written, checked,
opened, held against Keras on twelve drawn images. Wall time means something alone on the machine; processor time of all
cores stands beside it. The two take turns.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from measure import machine

from tlkit.backbones.build import build_backbone
from tlkit.base.story import Silence
from tlkit.classifier.heads.build import build_head
from tlkit.classifier.model import Classifier, compose, save
from tlkit.data.dataset import InputContract
from tlkit.exporting.answer import write_answer
from tlkit.extraction.onnx_graph import Untranslatable
from tlkit.options.groups import HeadOptions


def classifier_of(name: str) -> Classifier:
    """A linear head on a backbone."""
    backbone = build_backbone(name, weights="none")
    height, width = backbone.image_size
    head = build_head(HeadOptions(), backbone.grid_shape, 3)
    return compose(backbone, head, ("a", "b", "c"), InputContract(height=height, width=width))


def unknown(*given: Any) -> Any:
    """As if a layer were not known."""
    raise Untranslatable("for the sake of comparison")


def timed(classifier: Classifier, model: Path, *, layers: bool) -> tuple[float, float]:
    """Seconds, and processor seconds, of writing the answering file beside a classifier's own."""
    started, used = time.perf_counter(), time.process_time()
    if layers:
        written = write_answer(classifier, model, Silence())
    else:
        with patch("tlkit.extraction.onnx_graph.to_onnx", unknown):
            written = write_answer(classifier, model, Silence())
    if not written:
        raise SystemExit("it was not written")
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| | layers, s | processor s | tf2onnx, s | processor s |\n" + "|---" * 5 + "|")
    for name in options.backbones:
        classifier, found = classifier_of(name), {True: [], False: []}
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.keras"
            save(classifier, model)
            for _ in range(options.repeats):
                for layers, rows in found.items():
                    rows.append(timed(classifier, model, layers=layers))
        shown = [f"{median(column):.2f}" for layers in (True, False) for column in zip(*found[layers], strict=True)]
        print(f"| {name} | {' | '.join(shown)} |", flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
