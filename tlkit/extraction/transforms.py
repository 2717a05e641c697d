"""Fewer features: principal components, fitted on the training images alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlkit.base.errors import TlkitError

FIT_ROWS = 20_000  # more rows hardly move the components and would have to fit into memory


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

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, C) to float32 (n, components)."""
        return (features - self.mean) @ self.axes


def parse_reduction(text: str) -> int:
    """Number of components of `pca:N`.

    Raises:
        TlkitError: for anything else.
    """
    method, _, number = text.partition(":")
    if method != "pca" or not number.isdigit() or int(number) < 1:
        raise TlkitError(f"--reduce is {text!r}, expected pca:N with N at least 1.", "for example: --reduce pca:64.")
    return int(number)


def fit_components(read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, count: int, seed: int) -> Components:
    """Fit on the rows of the training split (a seeded sample of 20,000 where there are more).

    Args:
        read: indices (n,) -> float32 (n, C).
        rows: indices of the training images.
        count: components wanted.
        seed: of the sample and of the randomised solver.

    Raises:
        TlkitError: when there are fewer images or features than components.
    """
    from sklearn.decomposition import PCA

    if len(rows) > FIT_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, FIT_ROWS, replace=False))
    features = read(rows)
    most = min(features.shape)
    if count > most:
        raise TlkitError(
            f"--reduce pca:{count} asks for more components than {features.shape[0]} training images with {features.shape[1]} features have.",
            f"use pca:{most} or fewer.",
        )
    fitted = PCA(count, random_state=seed).fit(features)
    return Components(
        mean=fitted.mean_.astype(np.float32),
        axes=fitted.components_.T.astype(np.float32),
        explained=float(fitted.explained_variance_ratio_.sum()),
        rows=len(rows),
    )
