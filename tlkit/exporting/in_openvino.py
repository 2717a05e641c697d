"""The format `openvino`. Weights stay float32: OpenVINO would halve them unasked."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.base.process import scratch
from tlkit.options.catalog import Format

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.exporting.runtimes import Call

IMPORTS = """import sys

sys.modules.setdefault("openvino_telemetry", None)  # or importing it keeps an ID at home and tells its maker
import openvino  # noqa: E402"""
RUN = """
# float32, for a processor with bfloat16 would compute in that
model = openvino.Core().compile_model(str(HERE / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def outputs_of(*inputs):
    results = model(dict(zip(("images", "mask"), inputs)))
    return {min(port.get_names(), key=len): results[port] for port in model.outputs}
"""


def write(row: Format, classifier: "Classifier", path: Path, calibration: np.ndarray | None) -> None:
    """By way of a SavedModel."""
    from tlkit.exporting.writers import SERVING, save_functions, traced_graph

    openvino = _silent()
    with scratch() as folder:
        save_functions(folder, {SERVING: traced_graph(row, classifier)})
        model = openvino.convert_model(str(folder))
    openvino.save_model(model, str(path), compress_to_fp16=False)


def open_model(path: Path) -> "Call":
    """What runs images, float32 (n, H, W, 3), or clips and a mask: logits, and features where the file gives them."""
    openvino = _silent()
    # The logits of float32; a processor with bfloat16 would compute in that unasked.
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [min(output.get_names(), key=len) for output in model.outputs]
    return lambda *inputs: {
        name: np.array(value)
        for name, value in zip(
            names, model(dict(zip(("images", "mask"), inputs, strict=False))).to_tuple(), strict=True
        )
    }


def _silent() -> Any:
    """OpenVINO without the package by which it tells its maker of each conversion, unasked, and leaves an ID at home.

    A program that has imported OpenVINO before has decided for itself.
    """
    name = "openvino_telemetry"
    if name in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[name] = None  # type: ignore[assignment]  # looked for, and not there: OpenVINO has a stand-in for it
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[name]
