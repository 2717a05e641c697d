"""Features of samples, the one type that heads, probes, transforms, audits, rankings and neighbours read."""

from dataclasses import dataclass

import numpy as np

from tlkit.extraction.store import StoredFeatures

BLOCK = 1024  # grids in memory while they are pooled

Chosen = np.ndarray | slice


@dataclass(frozen=True, eq=False)
class Rows:
    """Features (n, ...) of n samples, read as they are asked for; float32, whatever they are stored in.

    Args:
        held: rows of the store, memory-mapped, or an array that is in memory already.
    """

    held: StoredFeatures | np.ndarray

    def __len__(self) -> int:
        return len(self.held)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...); needs at least one row that is there."""
        return self.held.shape

    @property
    def lacking(self) -> np.ndarray:
        """Bool (n,), samples that have no row."""
        return self.held.lacking if isinstance(self.held, StoredFeatures) else np.zeros(len(self), bool)

    def select(self, indices: np.ndarray) -> "Rows":
        """Some of the samples, in the order of `indices` int (m,); nothing is read."""
        return Rows(self.held.select(indices) if isinstance(self.held, StoredFeatures) else self.held[indices])

    def present(self) -> "Rows":
        """Without the samples that have no row."""
        return self.select(np.flatnonzero(~self.lacking))

    def __getitem__(self, chosen: Chosen) -> np.ndarray:
        """float32 (m, ...) of some samples, in memory.

        Raises:
            KeyError: one of them has no row.
        """
        return np.asarray(self.held[chosen], np.float32)

    def flat(self, chosen: Chosen = slice(None)) -> np.ndarray:
        """float32 (m, C) of some samples, grids flattened row by row, channels last."""
        rows = self[chosen]
        return rows.reshape(len(rows), int(np.prod(rows.shape[1:])))

    def pooled(self) -> np.ndarray:
        """float32 (n, C), grids averaged over their cells, a block at a time."""
        starts = range(0, max(1, len(self)), BLOCK)
        return np.concatenate([pooled(self[slice(start, start + BLOCK)]) for start in starts])


def pooled(grids: np.ndarray) -> np.ndarray:
    """float32 (n, C): grids (n, ..., C) of any float type averaged over their cells; vectors (n, C) stay."""
    return grids.mean(axis=tuple(range(1, grids.ndim - 1)), dtype=np.float32)
