"""Weights between those of two networks, and the mean of several: networks that cost nothing to have trained.

Fine-tuned weights and those they started from are joined by a line on which the loss has no ridge, so what lies between
them works, and is often better than both ends (WiSE-FT, Wortsman et al. 2022, Robust fine-tuning of zero-shot models).
The mean of good epochs is often better than the best (Model soups, Wortsman et al. 2022).

Everything that a stage may have moved is averaged, the head included, and with `--batchnorm train` the moving
statistics too; frozen ones are the same on both sides and come out bit for bit.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

Weights = list[np.ndarray]
Rank = tuple[float, float]


def interpolate(first: Weights, second: Weights, alpha: float) -> Weights:
    """`first` at alpha 0, `second` at 1; exactly what both have where they agree."""
    return [_moved(one, alpha * (other - one)) for one, other in zip(first, second, strict=True)]


def mean(ingredients: Sequence[Weights]) -> Weights:
    """The mean of each weight; exactly what all have where they agree."""
    return [
        _moved(same[0], np.mean([one - same[0] for one in same], axis=0)) for same in zip(*ingredients, strict=True)
    ]


def _moved(weight: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A weight that was moved; whole numbers (counters, seeds) have nothing between them and stay."""
    if not np.issubdtype(weight.dtype, np.floating):
        return weight
    return (weight + by).astype(weight.dtype)


def greedy_soup(ingredients: Iterable[Weights], measure: Callable[[Weights], Rank]) -> tuple[Weights, int]:
    """The mean of as many ingredients as do it good.

    Args:
        ingredients: the best first; at least one. Taken one by one, so that they need not all be in memory at once.
        measure: ranks weights on held-out images, higher is better.

    Returns:
        The mean and how many are in it: each joined because the mean did not get worse by it.
    """
    chosen: list[Weights] = []
    best: Rank | None = None
    for weights in ingredients:
        rank = measure(mean([*chosen, weights]))
        if best is None or rank >= best:
            chosen, best = [*chosen, weights], rank
    return mean(chosen), len(chosen)
