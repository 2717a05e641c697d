"""Principal components: the directions of largest variance of the training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.extraction.store import Rows

FIT_ROWS = 20_000  # more rows hardly change the components and would have to fit into memory


def sample(count: int, seed: int) -> np.ndarray:
    """int64, ascending: which of so many rows to fit on, all of them up to 20,000."""
    if count <= FIT_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, FIT_ROWS, replace=False))


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

        features = rows.flat(sample(len(rows), seed))
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
        """Its description for the sidecar of the table."""
        return {"method": "pca", "explained": self.explained, "fitted_on": self.rows}

    def restore(self, codes: np.ndarray) -> np.ndarray:
        """float32 (n, width) to float32 (n, C)."""
        return codes @ self.axes.T + self.mean

    def arrays(self) -> dict[str, np.ndarray]:
        """Its complete state."""
        return {
            "mean": self.mean,
            "axes": self.axes,
            "explained": np.array(self.explained),
            "rows": np.array(self.rows),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Components":
        """Restore from `arrays`."""
        return cls(arrays["mean"], arrays["axes"], float(arrays["explained"]), int(arrays["rows"]))
