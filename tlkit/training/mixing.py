"""MixUp and CutMix: training rows made of two, their labels mixed like them.

Both work on what a stage reads, pixels or the stored output of the frozen prefix; mixing there is manifold mixup (Verma
et al. 2019), and costs nothing that was not paid for already. Keras's layers MixUp and CutMix are for pixels in the input
pipeline and draw from a state of their own; here everything follows from (seed, epoch, position), so that a resumed run
sees what it would have seen, however its updates are divided.
"""

from dataclasses import dataclass

import numpy as np

# Both shares are drawn from Beta(a, a).
CONCENTRATIONS = {"mixup": 0.2, "cutmix": 1.0}  # Zhang et al. 2018 for ImageNet; Yun et al. 2019


@dataclass(frozen=True)
class Mixing:
    """A way to mix.

    Args:
        how: `mixup` or `cutmix`; the latter needs rows with places, (h, w, C).
        seed: of the draws.
    """

    how: str
    seed: int

    def draw(self, count: int, epoch: int) -> np.ndarray:
        """Float64 (count, 3) in 0..1: the share that each row keeps of itself, at least a half; where a cut is centred."""
        random = np.random.default_rng((self.seed, epoch, 2))
        concentration = CONCENTRATIONS[self.how]
        share = random.beta(concentration, concentration, count)
        return np.column_stack([np.maximum(share, 1 - share), random.random((count, 2))])

    def mix(self, rows: np.ndarray, others: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mix rows with others.

        Args:
            rows: (n, ...).
            others: (n, ...), what is mixed into each.
            drawn: (n, 3) of these rows, from `draw`.

        Returns:
            (n, ...), float32 from `mixup`; float32 (n,), the share that each row kept of itself.
        """
        return (_mixed if self.how == "mixup" else _cut)(rows, others, drawn)


def mixed_targets(
    targets: np.ndarray, weights: np.ndarray, others: np.ndarray, other_weights: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The targets (n, K) and weights (n,) of mixed rows.

    A loss that is linear in the target, such as cross-entropy, is that of the two rows by their shares, each with its
    own weight.
    """
    own, given = shares * weights, (1 - shares) * other_weights
    total = own + given
    safe = np.where(total > 0, total, 1)
    mixed = targets * (own / safe)[:, None] + others * (given / safe)[:, None]
    return mixed.astype(np.float32), total.astype(np.float32)


def _mixed(rows: np.ndarray, others: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums (MixUp, Zhang et al. 2018)."""
    shares = drawn[:, 0].astype(np.float32)
    aligned = shares.reshape(-1, *[1] * (rows.ndim - 1))
    return rows * aligned + others * (1 - aligned), shares


def _cut(rows: np.ndarray, others: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle of each row comes from the other one (CutMix, Yun et al. 2019); shares are of the area it really has."""
    height, width = rows.shape[1:3]
    side = np.sqrt(1 - drawn[:, 0])
    inside = [_between(drawn[:, 1], side, height), _between(drawn[:, 2], side, width)]
    box = inside[0][:, :, None] & inside[1][:, None, :]
    return np.where(box[..., None], others, rows), (1 - box.mean(axis=(1, 2))).astype(np.float32)


def _between(centre: np.ndarray, side: np.ndarray, cells: int) -> np.ndarray:
    """Bool (n, cells): whether a cell is within half a side of the centre, both in shares of all cells."""
    start, end = (np.rint((centre + half * side) * cells) for half in (-0.5, 0.5))
    cell = np.arange(cells)
    return (cell >= start[:, None]) & (cell < end[:, None])
