"""The format `openvino`. Weights stay float32: OpenVINO would store them in half precision by default."""

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
    """Write the files by way of a SavedModel."""
    from tlkit.exporting.writers import SERVING, save_functions, traced_graph

    openvino = _silent()
    with scratch() as folder:
        save_functions(folder, {SERVING: traced_graph(row, classifier)})
        model = openvino.convert_model(str(folder))
    openvino.save_model(model, str(path), compress_to_fp16=False)


def open_model(path: Path) -> "Call":
    """A function of images, float32 (n, H, W, 3), or clips and a mask: logits, and features where the file has them."""
    openvino = _silent()
    # The logits of float32; a processor with bfloat16 would compute in that by default.
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [min(output.get_names(), key=len) for output in model.outputs]
    return lambda *inputs: {
        name: np.array(value)
        for name, value in zip(
            names, model(dict(zip(("images", "mask"), inputs, strict=False))).to_tuple(), strict=True
        )
    }


def _silent() -> Any:
    """OpenVINO without its telemetry package, which reports each conversion to its maker and stores an ID in the home folder.

    A program that has already imported OpenVINO has made its own choice.
    """
    name = "openvino_telemetry"
    if name in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[name] = None  # type: ignore[assignment]  # import fails, and OpenVINO uses a stand-in
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[name]
