"""The decoder that comes with an artifact: tlkit's own modules, so that the pixels are the same as in tlkit."""

import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tlkit.base import errors
from tlkit.base.errors import TlkitError
from tlkit.base.files import write_text
from tlkit.base.machine import __version__
from tlkit.data.dataset import InputContract
from tlkit.pixels import contract, decoding, jpeg, opening, picture, sniff, tiff

PACKAGE = "decoder"
NEEDED = "pillow numpy simplejpeg"  # third-party packages that the modules import

# All modules involved in decoding a file to pixels; they import nothing else of tlkit.
_MODULES: tuple[ModuleType, ...] = (
    *(errors, contract),
    *(decoding, jpeg, opening, picture, sniff, tiff),
)
_OURS = re.compile(r"^(\s*)from tlkit(?:\.\w+)*\.(\w+) import", re.MULTILINE)
_INIT = '''"""Image files to the pixels that the network beside was trained on: the decode of tlkit {version}, as it is."""

from .decoding import decode
from .errors import UnreadableImage
from .contract import InputContract

__all__ = ["InputContract", "UnreadableImage", "decode"]
'''


def write_decoder(folder: Path) -> None:
    """Write the package into an artifact's folder."""
    package = folder / PACKAGE
    package.mkdir()
    write_text(package / "__init__.py", _INIT.format(version=__version__))
    for module in _MODULES:
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        text = _OURS.sub(r"\1from .\2 import", source)
        head = f"# Part of tlkit {__version__}, licensed under Apache-2.0.\n"
        write_text(package / f"{module.__name__.rpartition('.')[2]}.py", head + text)


def decoded_by_artifact(folder: Path, contract: InputContract, files: Sequence[Path]) -> np.ndarray:
    """The pixels of files by an artifact's own decoder: uint8 (n, H, W, 3).

    Raises:
        TlkitError: it cannot read one.
    """
    with _loaded(folder) as decoder:
        given = decoder.InputContract(**contract.as_json())
        made = np.empty((len(files), contract.height, contract.width, 3), np.uint8)
        for row, file in zip(made, files, strict=True):
            try:
                row[...] = decoder.decode(file, given)
            except decoder.UnreadableImage as error:
                raise TlkitError(
                    f"the decoder in {folder} cannot read {str(file)!r}, which tlkit reads: it {error}.",
                    "report this; `tlkit predict` works.",
                ) from error
    return made


@contextmanager
def _loaded(folder: Path) -> Iterator[Any]:
    """The decoder package of an artifact under a temporary name, leaving nothing behind in memory or on disk."""
    name, before = f"_{PACKAGE}_of_{abs(hash(folder))}", sys.dont_write_bytecode
    path = folder / PACKAGE
    spec = importlib.util.spec_from_file_location(name, path / "__init__.py", submodule_search_locations=[str(path)])
    if spec is None or spec.loader is None:
        raise TlkitError(f"{folder} has no decoder.", "export again.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], sys.dont_write_bytecode = module, True
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.dont_write_bytecode = before
        for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[loaded]
