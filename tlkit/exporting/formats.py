"""The packages for writing and running a format, whether they are installed, and the module of the format."""

import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping
from types import ModuleType

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.machine import install
from tlkit.options.catalog import FORMATS, Format

BATCH = 32  # images, or frames, per call of a format that takes any number


def batch_of(images: np.ndarray) -> int:
    """Number of images (n, H, W, 3), or clips (n, T, H, W, 3), per call."""
    return BATCH if images.ndim == 4 else max(1, BATCH // images.shape[1])


def module_of(row: Format) -> ModuleType:
    """The module that writes and opens a format; importing it loads no runtime."""
    return importlib.import_module(row.module)


def runner(row: Format) -> str | None:
    """The module that runs a format here; None where none is installed."""
    return next((module for module in row.running if installed(module)), None)


def installed(module: str) -> bool:
    """Whether a package is installed, without importing it; a mere folder of its name (an artifact's) does not count."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def refuse_missing(rows: Iterable[Format], *, writing: bool) -> None:
    """Raise when a package required by formats is not installed.

    Args:
        rows: the formats.
        writing: whether they are to be written, or only run.

    Raises:
        TlkitError: naming every format, what it lacks and the extra or package that provides it.
    """
    lacking: list[str] = []
    remedies: dict[str, None] = {}
    for row in rows:
        modules = [module for module in row.writing if writing and not installed(module)]
        modules += [] if runner(row) else [row.running[0]]
        if modules:
            lacking.append(f"{row.name} needs {' and '.join(dict.fromkeys(modules))}")
            brought = install(row.extra) if row.extra else f"pip install {' '.join(modules)}"
            remedies[brought if writing else f"pip install {row.package}"] = None
    if lacking:
        raise TlkitError(f"{'; '.join(lacking)}: not installed.", "; ".join(remedies) + ".")


def refuse_missing_of(names: Iterable[str]) -> None:
    """`refuse_missing` for formats by name, to be written."""
    refuse_missing([FORMATS[name] for name in names], writing=True)


def version_of(module: str) -> str:
    """`ai-edge-litert 2.1.0`: distribution and version of a module that runs a format."""
    distribution = _distributions().get(module, [module])[0]
    return f"{distribution} {importlib.metadata.version(distribution)}"


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """The distributions of each module; cached, since every installed file is inspected."""
    return importlib.metadata.packages_distributions()
