"""Which record is for training, which for validation, which for test."""

from dataclasses import dataclass

import numpy as np

from tlkit.core.catalog import SPLITS as SPLITS

UNASSIGNED = -1


@dataclass(frozen=True)
class Splits:
    """A split of the records of one manifest.

    Args:
        codes: int8 (N,), index into `SPLITS`, in manifest order; `UNASSIGNED` (-1) for none.
        rule: one sentence saying how the split came about.
    """

    codes: np.ndarray
    rule: str

    def indices(self, name: str) -> np.ndarray:
        """int64 (n,) indices of the records of split `name`, ascending."""
        return np.flatnonzero(self.codes == SPLITS.index(name))

    def names(self) -> list[str]:
        """The split's name of every record, "" for none."""
        table = (*SPLITS, "")
        return [table[code] for code in self.codes]

    def select(self, indices: np.ndarray) -> "Splits":
        """The split of some of the records."""
        return Splits(self.codes[indices], self.rule)
