"""Fewer features: a transform is one row of `TRANSFORMS`, fitted on the training images alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing
from tlkit.extraction.store import Rows

FIT_ROWS = 20_000  # more rows hardly move the components and would have to fit into memory


class Transform(Protocol):
    """What makes other features of features."""

    @classmethod
    def fit(cls, rows: Rows, width: int, seed: int) -> Self:
        """Fit on the rows of the training split; `width` features are wanted."""

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, C) to float32 (n, width)."""

    def describe(self) -> dict[str, Any]:
        """What a reader of the table has to know, JSON-able; its `explained` is 0..1, of the variance in training."""

    def save(self, path: Path) -> None:
        """Write what `apply` needs as NPZ, whole or not at all."""


@dataclass(frozen=True)
class Components:
    """Principal components (Pearson 1901; Hotelling 1933).

    Args:
        mean: float32 (C,).
        axes: float32 (C, n), orthonormal columns, largest variance first.
        explained: fraction of the training variance they hold, 0..1.
        rows: images they were fitted on.
    """

    mean: np.ndarray
    axes: np.ndarray
    explained: float
    rows: int

    @classmethod
    def fit(cls, rows: Rows, width: int, seed: int) -> "Components":
        """Fit `width` components, on a seeded sample of 20,000 rows where there are more.

        Raises:
            TlkitError: when there are fewer images or features than components.
        """
        from sklearn.decomposition import PCA

        chosen = np.arange(len(rows))
        if len(rows) > FIT_ROWS:
            chosen = np.sort(np.random.default_rng(seed).choice(len(rows), FIT_ROWS, replace=False))
        features = rows.flat(chosen)
        most = min(features.shape)
        if width > most:
            raise TlkitError(
                f"--reduce pca:{width} asks for more components than {features.shape[0]} training images with {features.shape[1]} features have.",
                f"use pca:{most} or fewer.",
            )
        fitted = PCA(width, random_state=seed).fit(features)
        return cls(
            mean=fitted.mean_.astype(np.float32),
            axes=fitted.components_.T.astype(np.float32),
            explained=float(fitted.explained_variance_ratio_.sum()),
            rows=len(features),
        )

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, C) to float32 (n, width)."""
        return (features - self.mean) @ self.axes

    def describe(self) -> dict[str, Any]:
        """For the sidecar of the table."""
        return {"method": "pca", "explained": self.explained, "fitted_on": self.rows}

    def save(self, path: Path) -> None:
        """Write `mean` and `axes` as NPZ, whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, mean=self.mean, axes=self.axes)


TRANSFORMS: dict[str, type[Transform]] = {"pca": Components}


def parse_reduction(text: str) -> tuple[type[Transform], int]:
    """The transform and the width of `pca:N`.

    Raises:
        TlkitError: for anything else.
    """
    method, _, number = text.partition(":")
    if method not in TRANSFORMS or not number.isdigit() or int(number) < 1:
        names = " or ".join(f"{name}:N" for name in TRANSFORMS)
        raise TlkitError(f"--reduce is {text!r}, expected {names} with N at least 1.", "for example: --reduce pca:64.")
    return TRANSFORMS[method], int(number)
