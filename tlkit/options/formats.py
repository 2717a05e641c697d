"""The formats that a classifier can be exported to, as rows. Adding one is a row here and a module in `exporting`. Cold."""

from typing import NamedTuple


class Format(NamedTuple):
    """One format.

    Args:
        name: as typed, and the name of its folder.
        title: as written in prose.
        model: its file or folder, what a runtime opens.
        extra: the extra of tlkit that brings its packages, "" where tlkit itself has them.
        writing: modules that writing it takes.
        running: modules that can run it, the first one installed is taken.
        package: what to install to run it without tlkit.
        module: where it is written and opened (`write`, `open_model`), and what a program of its own needs (`IMPORTS`, `RUN`).
        batch: images to a call; None for any number.
        encoded: whether it has a second signature, for the bytes of image files.
        exact: whether logits must be the same within the tolerance; a quantised format only keeps decisions.
    """

    name: str
    title: str
    model: str
    extra: str
    writing: tuple[str, ...]
    running: tuple[str, ...]
    package: str
    module: str
    batch: int | None = None
    encoded: bool = False
    exact: bool = True


_IN = "tlkit.exporting"
_LITERT = ("ai_edge_litert", "tensorflow")  # TensorFlow brings an interpreter of its own

FORMATS = {
    row.name: row
    for row in (
        Format("keras", "Keras", "model.keras", "", (), ("keras",), "keras tensorflow", f"{_IN}.in_keras"),
        Format(
            "savedmodel",
            "SavedModel",
            "model",
            "",
            ("tensorflow",),
            ("tensorflow",),
            "tensorflow",
            f"{_IN}.in_savedmodel",
            encoded=True,
        ),
        Format(
            "onnx", "ONNX", "model.onnx", "onnx", ("tf2onnx", "onnx"), ("onnxruntime",), "onnxruntime", f"{_IN}.in_onnx"
        ),
        Format(
            "litert",
            "LiteRT",
            "model.tflite",
            "litert",
            ("tensorflow",),
            _LITERT,
            "ai-edge-litert",
            f"{_IN}.in_litert",
            batch=1,
        ),
        Format(
            "litert-int8",
            "LiteRT, 8-bit",
            "model.tflite",
            "litert",
            ("tensorflow",),
            _LITERT,
            "ai-edge-litert",
            f"{_IN}.in_litert",
            batch=1,
            exact=False,
        ),
        Format(
            "openvino",
            "OpenVINO",
            "model.xml",
            "openvino",
            ("openvino",),
            ("openvino",),
            "openvino",
            f"{_IN}.in_openvino",
        ),
    )
}
