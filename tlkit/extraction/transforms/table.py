"""The table of transforms; how one is requested, saved beside its table and read back for other images."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import reading, replacing
from tlkit.extraction.store import Rows
from tlkit.extraction.transforms.autoencoder import Autoencoder, VariationalAutoencoder
from tlkit.extraction.transforms.components import Components

SAVED = ".npz"  # what a saved transform ends in
AGAIN = "write the table that it belongs to again."


class Transform(Protocol):
    """Converts features into other features."""

    @classmethod
    def fit(cls, rows: Rows, width: int, seed: int) -> Self:
        """Fit on the rows of the training split; `width` features are wanted."""

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore from `arrays`."""

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, C) to float32 (n, width)."""

    def restore(self, codes: np.ndarray) -> np.ndarray:
        """float32 (n, width) to float32 (n, C), as near to the features as the codes allow."""

    def describe(self) -> dict[str, Any]:
        """A description for readers of the table, of JSON values; its `explained` is a share of the training variance, at most 1."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Its complete state, without pickles."""


TRANSFORMS: dict[str, type[Transform]] = {"pca": Components, "ae": Autoencoder, "vae": VariationalAutoencoder}


class Reduction(NamedTuple):
    """The value of `--reduce`: a transform to fit to a width, or a saved one."""

    method: str
    width: int
    saved: Path | None = None

    def made(self, rows: Rows, seed: int, features_of: Mapping[str, Any]) -> Transform:
        """The transform, fitted on the rows of training images or loaded.

        Args:
            rows: of the training split.
            seed: of everything random.
            features_of: description of the features, of JSON values; a saved transform applies only to the same features.

        Raises:
            TlkitError: it cannot be fitted on so few images, or was saved for other features.
        """
        if self.saved is None:
            return TRANSFORMS[self.method].fit(rows, self.width, seed)
        return load_transform(self.saved, features_of)


def parse_reduction(text: str) -> Reduction:
    """Parse `pca:N`, `ae:N` or the name of a saved transform.

    Raises:
        TlkitError: for anything else.
    """
    if text.endswith(SAVED):
        return Reduction("", 0, Path(text))
    method, _, number = text.partition(":")
    if method not in TRANSFORMS or not number.isdigit() or int(number) < 1:
        names = [*(f"{name}:N" for name in TRANSFORMS), "a transform that was saved beside a table (.reduce.npz)"]
        raise TlkitError(
            f"--reduce is {text!r}, expected {', '.join(names[:-1])} with N at least 1, or {names[-1]}.",
            "for example: --reduce pca:64.",
        )
    return Reduction(method, int(number))


def save_transform(transform: Transform, path: Path, features_of: Mapping[str, Any]) -> None:
    """Write a transform as NPZ, whole or not at all, with a description of the features that it is for."""
    named = next(name for name, kind in TRANSFORMS.items() if type(transform) is kind)
    about = {"method": named, "features_of": dict(features_of)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = transform.arrays() | {"about": np.array(json.dumps(about, sort_keys=True))}
        np.savez(file, **arrays)


def load_transform(path: Path, features_of: Mapping[str, Any]) -> Transform:
    """Read what `save_transform` wrote.

    Raises:
        TlkitError: no such file, damaged, or made for other features.
    """
    if not path.is_file():
        raise TlkitError(f"--reduce {str(path)!r} is not a file.", "`tlkit features --reduce pca:64` writes one.")
    with reading(path, AGAIN), np.load(path, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
        about = json.loads(str(arrays.pop("about")))
        made = TRANSFORMS[about["method"]].of_arrays(arrays)
    differs = [name for name, value in features_of.items() if about["features_of"].get(name) != value]
    if differs:
        raise TlkitError(
            f"{str(path)!r} reduces other features; what differs: {', '.join(differs)}.",
            "use the network, layer and size that it was fitted with.",
        )
    return made
