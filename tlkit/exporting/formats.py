"""The formats: what each writes, what writing and running it takes, and how close it must come."""

import importlib.metadata
import importlib.util
from collections.abc import Iterable
from typing import NamedTuple

from tlkit.base.errors import TlkitError
from tlkit.options.commands import EXPORT_FORMATS


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
        batch: images to a call; None for any number.
        exact: whether logits must be the same within the tolerance; a quantised format only keeps decisions.
    """

    name: str
    title: str
    model: str
    extra: str
    writing: tuple[str, ...]
    running: tuple[str, ...]
    package: str
    batch: int | None = None
    exact: bool = True


_LITERT = ("ai_edge_litert", "tensorflow")  # TensorFlow brings an interpreter of its own

FORMATS = {
    row.name: row
    for row in (
        Format("keras", "Keras", "model.keras", "", (), ("keras",), "keras tensorflow"),
        Format("savedmodel", "SavedModel", "model", "", ("tensorflow",), ("tensorflow",), "tensorflow"),
        Format("onnx", "ONNX", "model.onnx", "", ("tf2onnx", "onnx"), ("onnxruntime",), "onnxruntime"),
        Format("litert", "LiteRT", "model.tflite", "litert", ("tensorflow",), _LITERT, "ai-edge-litert", batch=1),
        Format(
            "litert-int8",
            "LiteRT, 8-bit",
            "model.tflite",
            "litert",
            ("tensorflow",),
            _LITERT,
            "ai-edge-litert",
            batch=1,
            exact=False,
        ),
        Format("openvino", "OpenVINO", "model.xml", "openvino", ("openvino",), ("openvino",), "openvino"),
    )
}
assert tuple(FORMATS) == EXPORT_FORMATS  # noqa: S101 - the names are typed against the one, looked up in the other


def runner(row: Format) -> str | None:
    """The module that runs a format here; None where none is installed."""
    return next((module for module in row.running if installed(module)), None)


def installed(module: str) -> bool:
    """Whether a package is there, without importing it; a mere folder of its name (an artifact's) is none."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def refuse_missing(rows: Iterable[Format], *, writing: bool) -> None:
    """Raise when a package that formats need is not installed.

    Args:
        rows: the formats.
        writing: whether they are to be written, or only run.

    Raises:
        TlkitError: naming every format, what it lacks and the extra or package that brings it.
    """
    lacking: list[str] = []
    remedies: dict[str, None] = {}
    for row in rows:
        modules = [module for module in row.writing if writing and not installed(module)]
        modules += [] if runner(row) else [row.running[0]]
        if modules:
            lacking.append(f"{row.name} needs {' and '.join(dict.fromkeys(modules))}")
            brought = f"pip install 'tlkit[{row.extra}]'" if row.extra else f"pip install {' '.join(modules)}"
            remedies[brought if writing else f"pip install {row.package}"] = None
    if lacking:
        raise TlkitError(f"{'; '.join(lacking)}: not installed.", "; ".join(remedies) + ".")


def version_of(module: str) -> str:
    """`ai-edge-litert 2.1.0`: distribution and version of a module that runs a format."""
    distribution = importlib.metadata.packages_distributions().get(module, [module])[0]
    return f"{distribution} {importlib.metadata.version(distribution)}"
